"""A plugin that starts the server makes an entry superfluous; one without hooks of ours still lets them be added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.setup.plan import State
from mempalace_mcp.setup.plugins import plugin_of
from tests.setup.support import machine, planned, set_up, write

SERVERS: dict[str, Any] = {"mcpServers": {"memory": {"command": "uvx", "args": ["mempalace-mcp"]}}}
HOOKS = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "mempalace-mcp hook claude-code"}]}]}}


def install(home: Path, *, enabled: bool = True, servers: Any = SERVERS) -> Path:
    """A plugin as Claude Code has it."""
    folder = home / ".claude/plugins/cache/m/memory/1.0.0"
    write(home / ".claude/settings.json", {"enabledPlugins": {"memory@m": enabled}})
    place = {"scope": "user", "installPath": str(folder), "version": "1.0.0"}
    write(home / ".claude/plugins/installed_plugins.json", {"version": 2, "plugins": {"memory@m": [place]}})
    write(folder / ".mcp.json", servers)
    return folder


def test_a_plugin_of_claude_code_is_enough(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    folder = install(on.home)
    plan = planned(on, "claude-code")[0]
    assert plan.server.state is State.PLUGIN
    assert "plugin memory@m" in plan.server.note
    assert plan.hooks is not None
    assert plan.hooks.state is State.ADD
    write(folder / "hooks/hooks.json", HOOKS)
    assert not planned(on, "claude-code")[0].steps
    assert planned(on, "claude-code", force=True)[0].server.state is State.ADD


def test_an_entry_beside_a_plugin_is_reported(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "claude-code")
    install(on.home)
    plan = planned(on, "claude-code")[0]
    assert (plan.server.state, "starts it too" in plan.server.note) == (State.THERE, True)


@pytest.mark.parametrize("servers", [{"mcpServers": {"m": {"command": "mempalace"}}}, {}, [], "{", 3])
def test_plugins_of_others_do_not_count(servers: Any, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    install(on.home, servers=servers)
    assert plugin_of(on, "claude-code") is None


def test_a_plugin_that_is_switched_off_does_not_count(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    install(on.home, enabled=False)
    assert plugin_of(on, "claude-code") is None


def test_a_plugin_of_codex_is_enough(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    folder = on.home / ".codex/plugins/cache/m/memory/1.0.0"
    write(on.home / ".codex/config.toml", '[plugins."memory@m"]\nenabled = true\n')
    write(folder / ".mcp.json", SERVERS)
    write(folder / "hooks/hooks.json", {"hooks": {"Stop": [{"hooks": [{"command": "mempalace-mcp hook codex"}]}]}})
    plan = planned(on, "codex")[0]
    assert plan.server.state is State.PLUGIN
    assert not plan.steps
    assert "plugin memory@m" in plan.server.note


@pytest.mark.parametrize(
    "settings",
    [
        '[plugins."memory@m"]\nenabled = false',
        '[plugins]\n"memory@m" = true',
        '[plugins."memory@n"]\nenabled = true',
        '[plugins."\\u0000@m"]\nenabled = true',
        '[plugins."memory"]\nenabled = true',
        "plugins = 3",
        "[plugins",
        "",
    ],
)
def test_a_plugin_that_codex_does_not_use_does_not_count(settings: str, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".codex/config.toml", settings)
    write(on.home / ".codex/plugins/cache/m/memory/1.0.0/.mcp.json", SERVERS)
    assert plugin_of(on, "codex") is None


def test_extensions_of_gemini_and_of_claude_desktop_count(tmp_path: Path) -> None:
    on = machine(tmp_path / "home", "macos")
    write(on.home / ".gemini/extensions/mem/gemini-extension.json", {"name": "mem", **SERVERS})
    server = {"mcp_config": {"command": "uv", "args": ["run", "mempalace-mcp"]}}
    store = on.home / "Library/Application Support/Claude/Claude Extensions"
    write(store / "local.x/manifest.json", {"name": "palace", "server": server})
    found = [plugin_of(on, client) for client in ("gemini", "claude-desktop", "zed")]
    assert [each and each.name for each in found] == ["extension mem", "extension palace", None]
