"""Write the manifests, hooks, skills and buttons by which clients and registries take the program.

    uv run python -m scripts.make_packages                  # after a change of the version, a tool, a hook or a text
    uv run python -m scripts.make_packages --bundles dist   # build the bundle and the archive of the extension too

What people read is in `packaging/`; the rest comes from pyproject.toml, the tools, the settings and `setup/hooks.py`.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import yaml

import mempalace_mcp
from mempalace_mcp.core.config import SETTINGS
from mempalace_mcp.core.place import URL_VARIABLE
from mempalace_mcp.server.initialize import SERVER_TITLE
from mempalace_mcp.server.tools.registry import build_tools
from mempalace_mcp.setup.clients import NAME
from mempalace_mcp.setup.hooks import HOOKS
from mempalace_mcp.setup.machine import PROGRAM, Machine

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "packaging"
GENERATED = ("plugins", ".claude-plugin", ".agents", "docs/buttons")
"""Folders that hold nothing else, but for the README of each plugin."""

REGISTRY_NAME = "io.github.mempalace-mcp/mempalace-mcp"
"""In the registry of MCP. What is before the slash must belong to the account that publishes."""

SERVER_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
ENTRY = {"command": "uvx", "args": [PROGRAM]}
"""How a client starts the server. uvx takes the installed program if there is one, whatever index knows of it."""

SKILL = "memory-palace"
CLAUDE_TOOL = f"mcp__plugin_{NAME}_{NAME}__"
"""Before the names of the tools of a plugin of Claude Code."""

CONFIGURABLE = ("PALACE_PATH", "PALACE_TIMEZONE")
BEGIN, END = "<!-- made by scripts/make_packages.py -->\n", "\n<!-- end -->"
BUNDLED = ("pyproject.toml", "README.md", "LICENSE", "mempalace_mcp", "examples/texts")

Files = Iterator[tuple[str, str]]
"""Paths within the repository, and what is to stand there."""


@dataclass(frozen=True, slots=True)
class Project:
    """What pyproject.toml says of the project."""

    description: str
    license: str
    author: str
    keywords: Sequence[str]
    python: str

    @classmethod
    def read(cls) -> Project:
        """From the file."""
        told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        author = told["authors"][0]["name"]
        return cls(told["description"], told["license"], author, told["keywords"], told["requires-python"])

    @property
    def common(self) -> dict[str, Any]:
        """What every manifest of a plugin says."""
        return {
            "name": NAME,
            "version": mempalace_mcp.__version__,
            "description": self.description,
            "author": {"name": self.author},
            "license": self.license,
            "keywords": list(self.keywords),
        }


@dataclass(frozen=True, slots=True)
class Command:
    """A command that people type: what it is for, what may follow it, the tools that it needs, and its prompt."""

    name: str
    description: str
    hint: str
    tools: Sequence[str]
    prompt: str

    @classmethod
    def read(cls, file: Path) -> Command:
        """From a text with front matter."""
        _, head, prompt = file.read_text(encoding="utf-8").split("---\n", 2)
        told = yaml.safe_load(head)
        tools = told["tools"].split(", ")
        return cls(file.stem, told["description"], told.get("argument-hint", ""), tools, prompt.strip())


def commands() -> list[Command]:
    """All of them."""
    return [Command.read(file) for file in sorted((SOURCES / "commands").glob("*.md"))]


def packages() -> dict[str, str]:
    """Every file that is made, by its path."""
    project = Project.read()
    makers: Sequence[Callable[[Project], Files]] = (claude_code, codex, gemini, bundle, registry, readme)
    return {path: text for make in makers for path, text in make(project)}


def claude_code(project: Project) -> Files:
    """The plugin of Claude Code, and the marketplace that offers it."""
    folder = "plugins/claude-code"
    offer = {"name": NAME, "source": f"./{folder}", "description": project.description, "category": "productivity"}
    market = {"name": PROGRAM, "owner": {"name": project.author}, "description": project.description}
    yield ".claude-plugin/marketplace.json", written({**market, "plugins": [offer]})
    yield f"{folder}/.claude-plugin/plugin.json", written(project.common)
    yield from _plugin(folder, "claude-code")
    for command in commands():
        allowed = ", ".join(CLAUDE_TOOL + tool for tool in command.tools)
        head = {"description": command.description, "argument-hint": command.hint, "allowed-tools": allowed}
        lines = [f"{key}: {value}" for key, value in head.items() if value]
        yield f"{folder}/commands/{command.name}.md", "\n".join(["---", *lines, "---", "", command.prompt, ""])


def codex(project: Project) -> Files:
    """The plugin of Codex, and the marketplace that offers it."""
    folder = "plugins/codex"
    policy = {"installation": "AVAILABLE", "authentication": "ON_INSTALL"}
    source = {"source": "local", "path": f"./{folder}"}
    offer = {"name": NAME, "source": source, "policy": policy, "category": "Productivity"}
    market = {"name": PROGRAM, "interface": {"displayName": SERVER_TITLE}, "plugins": [offer]}
    shown = {
        "displayName": SERVER_TITLE,
        "shortDescription": "Long-term memory, on your machine",
        "longDescription": project.description,
        "developerName": project.author,
        "category": "Productivity",
        "capabilities": ["Interactive", "Write"],
        "defaultPrompt": [command.description for command in commands()],
    }
    manifest = {**project.common, "skills": "./skills/", "mcpServers": "./.mcp.json", "interface": shown}
    yield ".agents/plugins/marketplace.json", written(market)
    yield f"{folder}/.codex-plugin/plugin.json", written(manifest)
    # It keeps its own variables from servers, but not from hooks: both must find the same palace.
    needed = [each.variable for each in SETTINGS if not each.secret or each.variable == URL_VARIABLE]
    yield from _plugin(folder, "codex", {"env_vars": needed})


def gemini(project: Project) -> Files:
    """The extension of Gemini CLI."""
    folder = "plugins/gemini"
    manifest = {key: project.common[key] for key in ("name", "version", "description")}
    yield f"{folder}/gemini-extension.json", written({**manifest, "mcpServers": {NAME: ENTRY}})
    yield f"{folder}/hooks/hooks.json", written(hooks("gemini"))
    yield f"{folder}/skills/{SKILL}/SKILL.md", skill()
    for command in commands():
        prompt = command.prompt.replace("$ARGUMENTS", "{{args}}")
        lines = [f"description = '{command.description}'", f"prompt = '''\n{prompt}\n'''", ""]
        yield f"{folder}/commands/{NAME}/{command.name}.toml", "\n".join(lines)


def _plugin(folder: str, client: str, more: Mapping[str, Any] = MappingProxyType({})) -> Files:
    yield f"{folder}/.mcp.json", written({"mcpServers": {NAME: {**ENTRY, **more}}})
    yield f"{folder}/hooks/hooks.json", written(hooks(client))
    yield f"{folder}/skills/{SKILL}/SKILL.md", skill()


def bundle(project: Project) -> Files:
    """The manifest of the bundle for Claude Desktop, which brings uv and Python itself."""
    run = ["run", "--no-dev", "--directory", "${__dirname}", PROGRAM]
    palace = {
        "type": "directory",
        "title": "Palace",
        "description": "Where the palace is kept. Leave it as it is to share it with other clients.",
        "required": False,
        "default": "${HOME}/.mempalace-mcp/palace",
    }
    server = {
        "type": "uv",
        "entry_point": "mempalace_mcp/__main__.py",
        "mcp_config": {"command": "uv", "args": run, "env": {"PALACE_PATH": "${user_config.palace}"}},
    }
    offered = [{key: tool[key] for key in ("name", "description")} for tool in build_tools("core").definitions()]
    manifest = {
        "manifest_version": "0.4",
        **project.common,
        "name": PROGRAM,
        "display_name": SERVER_TITLE,
        "server": server,
        "tools": offered,
        "user_config": {"palace": palace},
        "compatibility": {"platforms": ["darwin", "linux", "win32"], "runtimes": {"python": project.python}},
    }
    yield "packaging/mcpb/manifest.json", written(manifest)


def registry(project: Project) -> Files:
    """The entry in the registry of MCP."""
    meanings = {setting.variable: setting.meaning for setting in SETTINGS}
    package = {
        "registryType": "pypi",
        "identifier": PROGRAM,
        "version": mempalace_mcp.__version__,
        "runtimeHint": ENTRY["command"],
        "transport": {"type": "stdio"},
        "environmentVariables": [{"name": name, "description": meanings[name]} for name in CONFIGURABLE],
    }
    entry = {"$schema": SERVER_SCHEMA, "name": REGISTRY_NAME, "title": SERVER_TITLE}
    version = {"description": project.description, "version": mempalace_mcp.__version__}
    yield "server.json", written({**entry, **version, "packages": [package]})


def readme(project: Project) -> Files:
    """The buttons, and the README with them and with the name by which the registry knows that the package is ours."""
    before, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    line = " ".join(f"[![{label}](docs/buttons/{id}.svg)]({link})" for id, label, link in buttons())
    name = f"<!-- mcp-name: {REGISTRY_NAME} -->"
    yield "README.md", f"{before}{BEGIN}{name}\n{line}{END}{rest.partition(END)[2]}"
    for id, label, _ in buttons():
        yield f"docs/buttons/{id}.svg", drawn(label)


def buttons() -> Iterator[tuple[str, str, str]]:
    """A name, a label, and the page that hands the server to the client: GitHub shows no links of other kinds."""
    encoded = quote(base64.b64encode(written_line(ENTRY).encode()).decode(), safe="")
    typed = quote(written_line({"type": "stdio", **ENTRY}), safe="")
    yield "cursor", "Add to Cursor", f"https://cursor.com/en/install-mcp?name={NAME}&config={encoded}"
    yield "vscode", "Install in VS Code", f"https://vscode.dev/redirect/mcp/install?name={NAME}&config={typed}"
    yield "lmstudio", "Add to LM Studio", f"https://lmstudio.ai/install-mcp?name={NAME}&config={encoded}"


def drawn(label: str) -> str:
    """A button."""
    width = 8 * len(label) + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="28" role="img" aria-label="{label}">'
        f'<rect width="{width}" height="28" rx="6" fill="#1f2937"/>'
        f'<text x="{width // 2}" y="19" fill="#fff" font-family="sans-serif" font-size="14" text-anchor="middle">'
        f"{label}</text></svg>\n"
    )


def hooks(client: str) -> dict[str, Any]:
    """The hooks that `setup` enters for the client, with a command that needs no path and never fails."""
    events: dict[Any, list[Any]] = {}
    for hook in HOOKS[client].hooks(Machine("linux", {}), (PROGRAM, "hook", client)):
        events.setdefault(hook.path[-1], []).append(_running(hook.value, hook_line(client)))
    return {"hooks": events}


def hook_line(client: str) -> str:
    """For sh, bash, cmd and PowerShell 7.

    The installed program is there at once. uvx would ask its index at every turn: offline it takes what the server was
    started from. Where neither is, the client must hear of no error.
    """
    call = f"{PROGRAM} hook {client}"
    return f"{call} || uvx --offline {call} || exit 0"


def _running(value: Any, line: str) -> Any:
    """The same with another command, in a shell."""
    if isinstance(value, list):
        return [_running(each, line) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _running(each, line) for key, each in value.items() if key != "args"}
    return {**found, "command": line} if "command" in found else found


def skill() -> str:
    """When to search and when to file."""
    return (SOURCES / "skill.md").read_text(encoding="utf-8")


def written(value: Mapping[str, Any]) -> str:
    """A file of JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def written_line(value: Any) -> str:
    """The same in one line, without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def leftovers(made: Mapping[str, str]) -> list[Path]:
    """Files in the folders of packages that nothing makes any more."""
    there = (file for folder in GENERATED for file in sorted((ROOT / folder).rglob("*")) if file.is_file())
    return [file for file in there if file.name != "README.md" and file.relative_to(ROOT).as_posix() not in made]


def build_bundles(folder: Path) -> Iterator[Path]:
    """The bundle for Claude Desktop and the archive that Gemini CLI takes from a release."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "bundle"
        stage(staged)
        archive = shutil.make_archive(str(Path(temporary) / PROGRAM), "zip", staged)
        yield Path(shutil.move(archive, folder / f"{PROGRAM}.mcpb"))
    yield Path(shutil.make_archive(str(folder / f"{NAME}-gemini"), "gztar", ROOT / "plugins" / "gemini"))


def stage(folder: Path) -> None:
    """What goes into the bundle: the manifest and the sources, without what was compiled here."""
    folder.mkdir(parents=True)
    shutil.copyfile(SOURCES / "mcpb" / "manifest.json", folder / "manifest.json")
    for name in BUNDLED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(source, target)


def main() -> None:
    """Write what has changed, remove what nothing makes, build what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundles", type=Path, metavar="FOLDER", help="build the archives here")
    options = parser.parse_args()
    made = packages()
    for path, text in made.items():
        file = ROOT / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path}\n")
    for file in leftovers(made):
        file.unlink()
        sys.stdout.write(f"removed {file.relative_to(ROOT)}\n")
    for archive in build_bundles(options.bundles) if options.bundles else ():
        sys.stdout.write(f"built {archive}\n")


if __name__ == "__main__":
    main()
