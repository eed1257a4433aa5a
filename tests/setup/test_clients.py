"""Where clients keep their settings, on each system and with each of their variables, and what their entries say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.setup.clients import CLIENTS, IDS, found_places, launch_of, settings_file
from mempalace_mcp.setup.hooks import HOOKS
from mempalace_mcp.setup.machine import Machine
from tests.setup.support import machine, script, write

LAUNCH = ("/opt/my tools/mempalace-mcp", "--palace", "/p q")
SYSTEMS = ("linux", "macos", "windows")
HOMES = {"linux": "/home/ann", "macos": "/Users/ann", "windows": "C:/Users/ann"}

PLACES = {
    "claude-code": ("~/.claude.json", "~/.claude.json", "~/.claude.json"),
    "claude-desktop": (
        "~/.config/Claude/claude_desktop_config.json",
        "~/Library/Application Support/Claude/claude_desktop_config.json",
        "~/AppData/Roaming/Claude/claude_desktop_config.json",
    ),
    "cursor": ("~/.cursor/mcp.json",) * 3,
    "vscode": (
        "~/.config/Code/User/mcp.json",
        "~/Library/Application Support/Code/User/mcp.json",
        "~/AppData/Roaming/Code/User/mcp.json",
    ),
    "copilot": ("~/.copilot/mcp-config.json",) * 3,
    "codex": ("~/.codex/config.toml",) * 3,
    "gemini": ("~/.gemini/settings.json",) * 3,
    "opencode": ("~/.config/opencode/opencode.json",) * 3,
    "zed": ("~/.config/zed/settings.json", "~/.config/zed/settings.json", "~/AppData/Roaming/Zed/settings.json"),
    "windsurf": ("~/.codeium/windsurf/mcp_config.json",) * 3,
    "cline": tuple(
        f"{user}/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
        for user in (
            "~/.config/Code/User",
            "~/Library/Application Support/Code/User",
            "~/AppData/Roaming/Code/User",
        )
    ),
    "roo": tuple(
        f"{user}/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"
        for user in (
            "~/.config/Code/User",
            "~/Library/Application Support/Code/User",
            "~/AppData/Roaming/Code/User",
        )
    ),
    "goose": (
        "~/.config/goose/config.yaml",
        "~/.config/goose/config.yaml",
        "~/AppData/Roaming/Block/goose/config/config.yaml",
    ),
    "lmstudio": ("~/.lmstudio/mcp.json",) * 3,
}


def test_every_client_has_a_place_in_this_table() -> None:
    assert set(PLACES) == set(IDS)
    assert set(HOOKS) <= set(IDS)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
@pytest.mark.parametrize("system", SYSTEMS)
def test_settings_are_where_the_client_looks_for_them(client: Any, system: str) -> None:
    home = HOMES[system]
    on = Machine(system, {"HOME": home, "USERPROFILE": home, "PATH": ""})
    expected = PLACES[client.id][SYSTEMS.index(system)].replace("~", home)
    assert settings_file(on, client.places[0]) == Path(expected)


VARIABLES = [
    ("claude-code", "CLAUDE_CONFIG_DIR", "/etc/a b", "/etc/a b/.claude.json"),
    ("codex", "CODEX_HOME", "/etc/{codex}", "/etc/{codex}/config.toml"),
    ("gemini", "GEMINI_CLI_HOME", "/etc/g", "/etc/g/.gemini/settings.json"),
    ("opencode", "OPENCODE_CONFIG", "/etc/o.jsonc", "/etc/o.jsonc"),
    ("opencode", "OPENCODE_CONFIG_DIR", "/etc/o", "/etc/o/opencode.json"),
    ("opencode", "XDG_CONFIG_HOME", "/etc/x~1", "/etc/x~1/opencode/opencode.json"),
    ("zed", "XDG_CONFIG_HOME", "/etc/x", "/etc/x/zed/settings.json"),
    ("vscode", "XDG_CONFIG_HOME", "/etc/x", "/etc/x/Code/User/mcp.json"),
    ("copilot", "COPILOT_HOME", "/etc/c", "/etc/c/mcp-config.json"),
]


@pytest.mark.parametrize(("client", "variable", "value", "expected"), VARIABLES)
def test_variables_of_the_client_are_honoured(client: str, variable: str, value: str, expected: str) -> None:
    on = Machine("linux", {"HOME": "/home/ann", "PATH": "", variable: value})
    place = next(each for each in CLIENTS if each.id == client).places[0]
    assert settings_file(on, place) == Path(expected)


def test_hooks_of_claude_code_follow_its_variable() -> None:
    on = Machine("linux", {"HOME": "/home/ann", "CLAUDE_CONFIG_DIR": "/etc/claude"})
    assert on.path(HOOKS["claude-code"].file) == Path("/etc/claude/settings.json")


def test_lm_studio_says_itself_where_it_is(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    (on.home / ".cache" / "lm-studio").mkdir(parents=True)
    assert on.path("{lmstudio}") == on.home / ".cache" / "lm-studio"
    write(on.home / ".lmstudio-home-pointer", "/srv/models\n")
    assert on.path("{lmstudio}") == Path("/srv/models")


def test_opencode_is_told_in_the_file_that_is_there(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".config/opencode/opencode.jsonc", "{}")
    assert on.path("{opencode_json}") == on.home / ".config/opencode/opencode.jsonc"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_an_entry_starts_what_it_was_made_of(client: Any) -> None:
    assert launch_of(client.entry(LAUNCH)) == LAUNCH
    assert launch_of(client.entry(LAUNCH[:1])) == LAUNCH[:1]


@pytest.mark.parametrize("entry", [None, 3, [], {}, {"command": None}, {"command": 3}, {"command": []}, {"url": "x"}])
def test_what_starts_nothing_is_no_entry_of_ours(entry: Any) -> None:
    assert launch_of(entry) == ()


def test_an_empty_machine_has_no_clients(tmp_path: Path) -> None:
    assert list(found_places(machine(tmp_path / "home"))) == []


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_client_is_found_by_its_settings(client: Any, system: str, tmp_path: Path) -> None:
    on = machine(tmp_path / "home", system)
    for place in client.places:
        write(settings_file(on, place), "{}")
        assert place in [found for each, found in found_places(on) if each is client]


@pytest.mark.parametrize("client", [each for each in CLIENTS if each.places[0].program], ids=lambda client: client.id)
def test_a_client_is_found_by_its_program(client: Any, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    script(tmp_path / "programs" / client.places[0].program, "exit 1")
    assert [each.id for each, _ in found_places(on)] == [client.id]


def test_the_hooks_of_vs_code_do_not_make_a_copilot(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".copilot/hooks/mempalace-vscode.json", "{}")
    assert not list(found_places(on))


def test_a_client_that_is_wanted_counts_as_there(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    assert [(client.id, place) for client, place in found_places(on, ("zed",))] == [
        ("zed", next(each for each in CLIENTS if each.id == "zed").places[0])
    ]


def test_variants_of_vs_code_are_told_each(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    for folder in ("Code - Insiders", "VSCodium"):
        (on.home / ".config" / folder / "User").mkdir(parents=True)
    assert [place.variant for client, place in found_places(on) if client.id == "vscode"] == ["Insiders", "(VSCodium)"]


def test_what_code_is_told_is_json() -> None:
    adding = next(each for each in CLIENTS if each.id == "vscode").adding
    assert adding is not None
    assert json.loads(adding(LAUNCH)[1])["command"] == LAUNCH[0]
