"""The hooks of each client: they run our command, are known again, and stand beside those of others."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.daemon.hook_spool import Spool
from mempalace_mcp.setup.clients import IDS
from mempalace_mcp.setup.hooks import HOOKS, is_hook_of, posix_line, powershell_line, windows_line
from mempalace_mcp.setup.machine import Machine
from tests.setup.support import machine, planned, set_up, snapshot, undo, write

LAUNCHES = [
    ("/opt/my tools/it's/mempalace-mcp",),
    ("/usr/bin/python3", "-m", "mempalace_mcp"),
    ("C:\\Program Files\\mempalace-mcp.EXE",),
]


@pytest.mark.parametrize("system", ["linux", "windows"])
@pytest.mark.parametrize("launch", LAUNCHES, ids=["quoted", "module", "windows"])
@pytest.mark.parametrize("client", HOOKS)
def test_a_hook_is_known_again(client: str, launch: tuple[str, ...], system: str) -> None:
    hooks = HOOKS[client].hooks(Machine(system, {}), (*launch, "hook", client, "--palace", "/p q"))
    elements = [hook.value for hook in hooks if hook.is_element or not hook.path]
    assert elements
    for each in elements:
        assert [other for other in IDS if is_hook_of(each, other)] == [client]


FOREIGN: list[Any] = [
    {"hooks": [{"type": "command", "command": "mempalace hook stop"}]},
    {"hooks": [{"type": "command", "command": "other-mcp", "args": ["hook", "claude-code"]}]},
    {"command": "echo mempalace-mcp; echo hook"},
    {"command": "mempalace-mcp status"},
    {"command": ["mempalace-mcp"]},
    "mempalace-mcp",
    None,
    3,
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_hooks_of_others_are_not_taken_for_ours(foreign: Any) -> None:
    assert not any(is_hook_of(foreign, client) for client in IDS)


def test_a_posix_shell_reads_the_command_as_it_is() -> None:
    launch = ("/opt/a b/it's $HOME", "hook", "codex")
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {posix_line(launch)}"], capture_output=True, text=True)
    assert shown.stdout.splitlines() == list(launch)
    assert shlex.split(posix_line(launch)) == list(launch)


def test_shells_of_windows_get_their_own_quotes() -> None:
    launch = ("C:\\a b\\it's.exe", "hook", "codex")
    assert windows_line(launch) == '"C:\\a b\\it\'s.exe" hook codex'
    assert powershell_line(launch) == "& 'C:\\a b\\it''s.exe' 'hook' 'codex'"


@pytest.mark.parametrize("client", [client for client in HOOKS if client != "opencode"])
def test_hooks_stand_beside_those_of_others(client: str, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = on.path(HOOKS[client].file)
    launch = (*on.own_command(), "hook", client)
    events = [hook.path[-1] for hook in HOOKS[client].hooks(on, launch) if hook.is_element]
    others = {"hooks": {event: [{"command": f"other {event}"}] for event in events}, "theme": "dark"}
    write(file, others)
    before = snapshot(on.home)
    set_up(on, client)
    data = json.loads(file.read_text(encoding="utf-8"))
    for event in events:
        first, ours = data["hooks"][event]
        assert first == {"command": f"other {event}"}
        assert is_hook_of(ours, client)
    assert data["theme"] == "dark"
    assert not [step for plan in planned(on, client) for step in plan.steps]
    undo(on)
    assert snapshot(on.home) == before


ENDS = ("Stop", "AfterAgent", "stop", "agentStop", "post_cascade_response")


@pytest.mark.long
@pytest.mark.parametrize("client", [client for client in HOOKS if client != "opencode"])
def test_what_stands_in_the_settings_hands_a_session_over(client: str, tmp_path: Path) -> None:
    """As the client runs it: the words of the settings, the event on stdin."""
    on = machine(tmp_path / "my home")
    palace = write(on.home / ".mempalace-mcp" / "palace" / "palace.db", "").parent
    set_up(on, client)
    data = json.loads(on.path(HOOKS[client].file).read_text(encoding="utf-8"))
    (event,) = set(ENDS) & set(data["hooks"])
    (element,) = data["hooks"][event]
    (run,) = element.get("hooks", [element])
    line = run.get("command") or run["bash"]
    command = [line, *run["args"]] if "args" in run else ["sh", "-c", line]
    payload = {"hook_event_name": event, "agent_action_name": event, "session_id": "s", "cwd": "/w", "response": "Yes."}
    transcript = {} if client == "windsurf" else {"transcript_path": "/w/s.jsonl"}
    finished = subprocess.run(
        command,
        input=json.dumps({**payload, **transcript, "tool_info": {"response": "Yes."}}),
        env={**on.environment, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.strip() in ("", "{}")
    assert Spool(str(palace)).count() == 1


def test_a_hook_with_an_earlier_path_is_updated_in_its_place(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    old = {"hooks": [{"type": "command", "command": "/old/mempalace-mcp hook codex", "timeout": 10}]}
    file = write(on.home / ".codex/hooks.json", {"hooks": {"Stop": [old, {"hooks": []}]}})
    set_up(on, "codex")
    stop = json.loads(file.read_text(encoding="utf-8"))["hooks"]["Stop"]
    assert len(stop) == 2
    assert str(tmp_path / "programs") in stop[0]["hooks"][0]["command"]


def test_a_hook_whose_timeout_the_user_has_changed_is_taken_back(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "cursor")
    file = on.home / ".cursor/hooks.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["hooks"]["stop"][0]["timeout"] = 99
    data["hooks"]["stop"].append({"command": "other"})
    write(file, data)
    undo(on)
    left = {"version": 1, "hooks": {"stop": [{"command": "other"}]}}
    assert json.loads(file.read_text(encoding="utf-8")) == left


def test_a_command_that_was_put_beside_ours_stays(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "claude-code")
    file = on.home / ".claude/settings.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    other = {"type": "command", "command": "notify"}
    data["hooks"]["Stop"][0]["hooks"].insert(0, other)
    data["hooks"]["Stop"][0]["hooks"][1]["command"] = "/earlier/mempalace-mcp"
    write(file, data)
    assert not planned(on, "claude-code")[0].steps
    undo(on)
    assert json.loads(file.read_text(encoding="utf-8")) == {"hooks": {"Stop": [{"hooks": [other]}]}}


@pytest.mark.parametrize("is_off", [True, False])
def test_hooks_that_are_switched_off_are_told(is_off: bool, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".claude/settings.json", {"disableAllHooks": is_off})
    for state in ("add", "there"):
        hooks = planned(on, "claude-code")[0].hooks
        assert hooks is not None
        assert (hooks.state, "disableAllHooks" in hooks.note) == (state, is_off)
        set_up(on, "claude-code")


def test_the_plugin_of_opencode_is_a_file_of_its_own(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = on.home / ".config/opencode/plugins/mempalace.js"
    write(on.home / ".config/opencode/opencode.json", "{}")
    before = snapshot(on.home)
    set_up(on, "opencode")
    assert f'["{tmp_path}/programs/mempalace-mcp", "hook", "opencode"]' in file.read_text(encoding="utf-8")
    undo(on)
    assert snapshot(on.home) == before


def test_a_plugin_of_another_by_our_name_stays(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = write(on.home / ".config/opencode/plugins/mempalace.js", "export default {}")
    plan = planned(on, "opencode")[0]
    assert plan.hooks is not None
    assert plan.hooks.state == "fault"
    assert "another file of this name" in plan.hooks.note
    assert file.read_text(encoding="utf-8") == "export default {}"
