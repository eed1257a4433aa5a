"""The clients: where each keeps its servers, in which form, by which command it adds one. A new client is one entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.setup.formats import KeyPath
from mempalace_mcp.setup.machine import Machine

NAME = "mempalace"
"""What the server is called in the settings of clients."""

Launch = tuple[str, ...]
"""The command that starts a server, with its arguments."""


@dataclass(frozen=True, slots=True)
class Place:
    """Settings of a client, or of one of its variants. `file` and `signs` are templates, see `Machine.path`.

    The client is there if its file or one of its signs exists, by default the file's folder, or if `program` is on the
    path.
    """

    file: str
    signs: tuple[str, ...] = ()
    program: str = ""
    variant: str = ""

    def is_found(self, machine: Machine) -> bool:
        """Is the client on the machine?"""
        if self.program and machine.which(self.program):
            return True
        file = machine.path(self.file)
        return any(each.exists() for each in (file, *(map(machine.path, self.signs) if self.signs else [file.parent])))


@dataclass(frozen=True, slots=True)
class Client:
    """A program that starts MCP servers. `entry` writes a command as its settings have it, below the key `servers`.

    `adding` are the arguments with which the client's own program adds a server.
    """

    id: str
    name: str
    places: tuple[Place, ...]
    servers: str
    entry: Callable[[Launch], dict[str, Any]]
    adding: Callable[[Launch], Launch] | None = None
    note: str = ""

    @property
    def path(self) -> KeyPath:
        """Where our entry stands."""
        return (self.servers, NAME)


def launch_of(entry: Any) -> Launch:
    """The command that an entry starts, in the form of any client; empty if it starts none."""
    if not isinstance(entry, dict):
        return ()
    command = entry.get("command") or entry.get("cmd")
    arguments = entry.get("args") or []
    parts = [
        *(command if isinstance(command, list) else [command]),
        *(arguments if isinstance(arguments, list) else []),
    ]
    return tuple(parts) if all(isinstance(part, str) and part for part in parts[:1]) else ()


def _plain(launch: Launch) -> dict[str, Any]:
    return {"command": launch[0], "args": list(launch[1:])}


def _typed(launch: Launch) -> dict[str, Any]:
    return {"type": "stdio", **_plain(launch)}


def _claude_code(launch: Launch) -> dict[str, Any]:
    return {**_typed(launch), "env": {}}


def _copilot(launch: Launch) -> dict[str, Any]:
    return {"type": "local", **_plain(launch), "tools": ["*"]}


def _opencode(launch: Launch) -> dict[str, Any]:
    return {"type": "local", "command": list(launch), "enabled": True}


def _zed(launch: Launch) -> dict[str, Any]:
    return {"source": "custom", "enabled": True, **_plain(launch), "env": {}}


def _goose(launch: Launch) -> dict[str, Any]:
    command = {"type": "stdio", "name": NAME, "cmd": launch[0], "args": list(launch[1:])}
    return {**command, "enabled": True, "timeout": 300}


def _add_to_claude(launch: Launch) -> Launch:
    return ("mcp", "add", "--scope", "user", NAME, "--", *launch)


def _add_to_codex(launch: Launch) -> Launch:
    return ("mcp", "add", NAME, "--", *launch)


def _add_to_gemini(launch: Launch) -> Launch:
    return ("mcp", "add", "--scope", "user", NAME, *launch)


def _add_to_code(launch: Launch) -> Launch:
    return ("--add-mcp", json.dumps({"name": NAME, **_typed(launch)}))


_CODE = (
    ("VS Code", "{apps}/Code/User", "code"),
    ("Insiders", "{apps}/Code - Insiders/User", "code-insiders"),
    ("VSCodium", "{apps}/VSCodium/User", "codium"),
    ("VS Code Server", "~/.vscode-server/data/User", ""),
)
_EDITIONS = {"VS Code": "", "Insiders": "Insiders", "VSCodium": "(VSCodium)", "VS Code Server": "(remote windows)"}

_COPILOT = tuple(f"{{copilot}}/{name}" for name in ("config.json", "settings.json", "session-state", "logs"))
"""Its folder alone is no sign: it holds the hooks of VS Code too."""

_FORKS = (("Cursor", "{apps}/Cursor/User", "cursor"), ("Windsurf", "{apps}/Windsurf/User", "windsurf"))


def _extension(folder: str, file: str) -> tuple[Place, ...]:
    """An extension of VS Code, in each of its variants and in the editors that are made of it."""
    stores = [(variant, f"{user}/globalStorage/{folder}") for variant, user, _ in (*_CODE, *_FORKS)]
    return tuple(
        Place(f"{store}/settings/{file}", signs=(store,), variant=f"in {variant}") for variant, store in stores
    )


CLIENTS: tuple[Client, ...] = (
    Client(
        "claude-code",
        "Claude Code",
        (Place("{claude_json}", signs=("{claude}",), program="claude"),),
        "mcpServers",
        _claude_code,
        _add_to_claude,
    ),
    Client(
        "claude-desktop",
        "Claude Desktop",
        (
            Place("{apps}/Claude/claude_desktop_config.json"),
            Place(
                "{local}/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude/claude_desktop_config.json",
                variant="from the store",
            ),
        ),
        "mcpServers",
        _plain,
        note="quit it before and start it afterwards, since it writes the file itself.",
    ),
    Client("cursor", "Cursor", (Place("~/.cursor/mcp.json", program="cursor"),), "mcpServers", _plain),
    Client(
        "vscode",
        "VS Code",
        tuple(
            Place(f"{user}/mcp.json", program=program, variant=_EDITIONS[variant]) for variant, user, program in _CODE
        ),
        "servers",
        _typed,
        _add_to_code,
    ),
    Client(
        "copilot", "Copilot CLI", (Place("{copilot}/mcp-config.json", _COPILOT, "copilot"),), "mcpServers", _copilot
    ),
    Client("codex", "Codex", (Place("{codex}/config.toml", program="codex"),), "mcp_servers", _plain, _add_to_codex),
    Client(
        "gemini",
        "Gemini CLI",
        (Place("{gemini}/settings.json", program="gemini"),),
        "mcpServers",
        _plain,
        _add_to_gemini,
        note="it starts servers only in folders that it trusts.",
    ),
    Client("opencode", "OpenCode", (Place("{opencode_json}", program="opencode"),), "mcp", _opencode),
    Client("zed", "Zed", (Place("{zed}/settings.json", program="zed"),), "context_servers", _zed),
    Client(
        "windsurf",
        "Windsurf",
        (
            Place("~/.codeium/windsurf/mcp_config.json", program="windsurf"),
            Place("~/.codeium/windsurf-next/mcp_config.json", program="windsurf-next", variant="Next"),
        ),
        "mcpServers",
        _plain,
    ),
    Client(
        "cline",
        "Cline",
        (
            *_extension("saoudrizwan.claude-dev", "cline_mcp_settings.json"),
            Place(
                "~/.cline/data/settings/cline_mcp_settings.json", signs=("~/.cline",), program="cline", variant="CLI"
            ),
        ),
        "mcpServers",
        _plain,
    ),
    Client("roo", "Roo", _extension("rooveterinaryinc.roo-cline", "mcp_settings.json"), "mcpServers", _plain),
    Client("goose", "Goose", (Place("{goose}/config.yaml", program="goose"),), "extensions", _goose),
    Client("lmstudio", "LM Studio", (Place("{lmstudio}/mcp.json"),), "mcpServers", _plain),
)

IDS = tuple(client.id for client in CLIENTS)


def found_places(machine: Machine, wanted: tuple[str, ...] = ()) -> Iterator[tuple[Client, Place]]:
    """The clients that are on the machine, in each of their variants.

    A client that is wanted by its id counts as there: if nothing shows it, its first place is taken.
    """
    for client in CLIENTS:
        if wanted and client.id not in wanted:
            continue
        found = [place for place in client.places if place.is_found(machine)]
        for place in found or (client.places[:1] if wanted else ()):
            yield client, place


def settings_file(machine: Machine, place: Place) -> Path:
    """The file of a place."""
    return machine.path(place.file)
