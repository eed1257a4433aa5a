"""Plugins and extensions of clients that start the server by themselves: an entry beside them would start a second."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.setup.clients import launch_of
from mempalace_mcp.setup.files import read_settings
from mempalace_mcp.setup.formats import SettingsFault
from mempalace_mcp.setup.hooks import is_hook_of
from mempalace_mcp.setup.jsonc import Jsonc
from mempalace_mcp.setup.machine import Machine


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that starts our server. `has_hooks` says that it brings our hooks too."""

    name: str
    has_hooks: bool


_PROGRAMS = ("mempalace-mcp", "mempalace_mcp")
_CODEX_PLUGIN = re.compile(r"(?P<plugin>[\w.-]+)@(?P<market>[\w.-]+)")


def plugin_of(machine: Machine, client: str) -> Plugin | None:
    """The first plugin of the client that starts our server, None if there is none."""
    find = _FINDERS.get(client)
    return next(find(machine), None) if find else None


def starts_us(entry: Any) -> bool:
    """Does an entry of any client start a server of ours, by whatever path?"""
    return any(program in part for part in map(str, launch_of(entry)) for program in _PROGRAMS)


def _claude_code(machine: Machine) -> Iterator[Plugin]:
    claude = machine.path("{claude}")
    enabled = _read(claude / "settings.json").get("enabledPlugins")
    installed = _read(claude / "plugins" / "installed_plugins.json").get("plugins")
    for name, is_on in enabled.items() if isinstance(enabled, dict) else ():
        places = installed.get(name) if isinstance(installed, dict) else None
        for place in places if is_on is True and isinstance(places, list) else []:
            folder = Path(str(place.get("installPath"))) if isinstance(place, dict) else None
            if folder and _holds_us(folder / ".mcp.json", folder / ".claude-plugin" / "plugin.json"):
                yield Plugin(f"plugin {name}", _has_hooks(folder, "claude-code"))


def _codex(machine: Machine) -> Iterator[Plugin]:
    codex = machine.path("{codex}")
    try:
        known = tomllib.loads(read_settings(codex / "config.toml").text).get("plugins")
    except (SettingsFault, tomllib.TOMLDecodeError):
        known = None
    for name, told in known.items() if isinstance(known, dict) else ():
        parts = _CODEX_PLUGIN.fullmatch(name)
        if parts is None or not isinstance(told, dict) or told.get("enabled") is not True:
            continue
        for manifest in (codex / "plugins" / "cache" / parts["market"] / parts["plugin"]).glob("*/.mcp.json"):
            if _holds_us(manifest):
                yield Plugin(f"plugin {name}", _has_hooks(manifest.parent, "codex"))


def _gemini(machine: Machine) -> Iterator[Plugin]:
    for manifest in sorted(machine.path("{gemini}/extensions").glob("*/gemini-extension.json")):
        if _holds_us(manifest):
            yield Plugin(f"extension {manifest.parent.name}", _has_hooks(manifest.parent, "gemini"))


def _claude_desktop(machine: Machine) -> Iterator[Plugin]:
    for manifest in sorted(machine.path("{apps}/Claude/Claude Extensions").glob("*/manifest.json")):
        server = _read(manifest).get("server")
        if isinstance(server, dict) and starts_us(server.get("mcp_config")):
            yield Plugin(f"extension {_read(manifest).get('name', manifest.parent.name)}", has_hooks=False)


def _holds_us(*manifests: Path) -> bool:
    """Does a manifest name a server that is ours?"""
    for manifest in manifests:
        data = _read(manifest)
        servers = data.get("mcpServers", data)
        if isinstance(servers, dict) and any(map(starts_us, servers.values())):
            return True
    return False


def _has_hooks(folder: Path, client: str) -> bool:
    return is_hook_of(_read(folder / "hooks" / "hooks.json"), client)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = Jsonc().read(read_settings(file).text)
    except SettingsFault:
        return {}
    return data if isinstance(data, dict) else {}


_FINDERS: dict[str, Callable[[Machine], Iterator[Plugin]]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "gemini": _gemini,
    "claude-desktop": _claude_desktop,
}
