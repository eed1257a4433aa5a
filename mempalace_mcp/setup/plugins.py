"""Plugins and extensions of clients that start the server by themselves: an entry beside them would start a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mempalace_mcp.setup.clients import launch_of
from mempalace_mcp.setup.files import read_settings
from mempalace_mcp.setup.formats import SettingsFault
from mempalace_mcp.setup.jsonc import Jsonc
from mempalace_mcp.setup.machine import Machine

_PROGRAMS = ("mempalace-mcp", "mempalace_mcp")


def plugin_of(machine: Machine, client: str) -> str | None:
    """The name of a plugin of the client that starts our server, None if there is none."""
    find = _FINDERS.get(client)
    return next(find(machine), None) if find else None


def starts_us(entry: Any) -> bool:
    """Does an entry of any client start a server of ours, by whatever path?"""
    return any(program in part for part in map(str, launch_of(entry)) for program in _PROGRAMS)


def _claude_code(machine: Machine) -> Iterator[str]:
    claude = machine.path("{claude}")
    enabled = _read(claude / "settings.json").get("enabledPlugins")
    installed = _read(claude / "plugins" / "installed_plugins.json").get("plugins")
    for name, is_on in enabled.items() if isinstance(enabled, dict) else ():
        places = installed.get(name) if isinstance(installed, dict) else None
        for place in places if is_on is True and isinstance(places, list) else []:
            folder = Path(str(place.get("installPath"))) if isinstance(place, dict) else None
            if folder and _holds_us(folder / ".mcp.json", folder / ".claude-plugin" / "plugin.json"):
                yield f"plugin {name}"


def _gemini(machine: Machine) -> Iterator[str]:
    for manifest in sorted(machine.path("{gemini}/extensions").glob("*/gemini-extension.json")):
        if _holds_us(manifest):
            yield f"extension {manifest.parent.name}"


def _claude_desktop(machine: Machine) -> Iterator[str]:
    for manifest in sorted(machine.path("{apps}/Claude/Claude Extensions").glob("*/manifest.json")):
        server = _read(manifest).get("server")
        if isinstance(server, dict) and starts_us(server.get("mcp_config")):
            yield f"extension {_read(manifest).get('name', manifest.parent.name)}"


def _holds_us(*manifests: Path) -> bool:
    """Does a manifest name a server that is ours?"""
    for manifest in manifests:
        data = _read(manifest)
        servers = data.get("mcpServers", data)
        if isinstance(servers, dict) and any(map(starts_us, servers.values())):
            return True
    return False


def _read(file: Path) -> dict[str, Any]:
    try:
        data = Jsonc().read(read_settings(file).text)
    except SettingsFault:
        return {}
    return data if isinstance(data, dict) else {}


_FINDERS: dict[str, Callable[[Machine], Iterator[str]]] = {
    "claude-code": _claude_code,
    "gemini": _gemini,
    "claude-desktop": _claude_desktop,
}
