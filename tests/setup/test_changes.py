"""Changes of settings: complete or not at all, with a copy, and taken back to the byte."""

from __future__ import annotations

import json
import os
import resource
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mempalace_mcp.setup import files
from mempalace_mcp.setup.changes import make, take_back
from mempalace_mcp.setup.clients import CLIENTS, launch_of, settings_file
from mempalace_mcp.setup.formats import SettingsFault, lookup
from mempalace_mcp.setup.hooks import HOOKS
from mempalace_mcp.setup.journal import FILE, Journal
from mempalace_mcp.setup.plan import State
from tests.setup.support import machine, planned, script, set_up, snapshot, undo, write

READERS: dict[str, Any] = {".toml": tomllib.loads, ".yaml": yaml.safe_load}
TEXTS = {
    ".json": '\ufeff{\r\n\t// of mine\r\n\t"theme": "x", /* why */\r\n'
    '\t"KEY": {"other": {"command": "y"}}, // last\r\n}\r\n',
    ".toml": "# of mine\r\nmodel = 'x' # why\r\n\r\n[KEY.other]\r\ncommand = 'y'\r\n# last",
    ".yaml": "# of mine\nmodel: 'x' # why\nKEY:\n  other:\n    cmd: y\n# last\n",
}


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "new"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_a_client_is_connected_once_and_disconnected_without_a_trace(
    client: Any, is_there: bool, tmp_path: Path
) -> None:
    on = machine(tmp_path / "home")
    file = settings_file(on, client.places[0])
    if is_there:
        write(file, TEXTS[file.suffix].replace("KEY", client.servers)).chmod(0o640)
    before = snapshot(on.home)
    original = file.read_bytes() if is_there else b""
    assert set(set_up(on, client.id)) == {"written"}
    text = file.read_bytes().decode("utf-8-sig")
    if not is_there:
        data = READERS.get(file.suffix, json.loads)(text)
        assert launch_of(lookup(data, client.path)) == (f"{tmp_path}/programs/mempalace-mcp",)
    else:
        assert all(part in text for part in ("of mine", "why", "last", "other"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        copies = sorted(file.parent.glob(f"{file.name}.bak-*"), key=lambda copy: copy.stat().st_mtime_ns)
        assert copies[0].read_bytes() == original
        assert stat.S_IMODE(copies[0].stat().st_mode) == 0o640
    after = snapshot(on.home)
    assert set_up(on, client.id) == []
    assert snapshot(on.home) == after
    assert {each.outcome for each in undo(on)} == {"restored"}
    assert snapshot(on.home) == before


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_what_others_have_changed_since_stays(client: Any, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = settings_file(on, client.places[0])
    write(file, TEXTS[file.suffix].replace("KEY", client.servers))
    before = file.read_bytes()
    set_up(on, client.id)
    text = file.read_bytes()
    assert b"why" in text
    file.write_bytes(text.replace(b"why", b"because"))
    undo(on)
    assert file.read_bytes() == before.replace(b"why", b"because")


def test_options_that_the_client_has_added_to_our_entry_go_with_it(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "cline")
    file = settings_file(on, next(each for each in CLIENTS if each.id == "cline").places[0])
    data = json.loads(file.read_text(encoding="utf-8"))
    data["mcpServers"]["mempalace"] |= {"disabled": True, "autoApprove": ["search"]}
    data["more"] = 1
    write(file, data)
    undo(on)
    assert json.loads(file.read_text(encoding="utf-8")) == {"more": 1}


def test_a_file_of_ours_that_is_empty_otherwise_goes(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "cursor")
    file = on.home / ".cursor/mcp.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")  # another layout
    undo(on)
    assert snapshot(on.home) == {}


def test_an_entry_that_was_given_to_somebody_else_stays(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "lmstudio")
    file = write(on.home / ".lmstudio/mcp.json", {"mcpServers": {"mempalace": {"command": "other"}}})
    assert [each.outcome for each in undo(on)] == ["gone"]
    assert "other" in file.read_text(encoding="utf-8")


def test_another_server_of_our_name_stays_unless_it_is_forced_away(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".cursor/mcp.json", {"mcpServers": {"mempalace": {"command": "/opt/other", "args": ["x"]}}})
    before = snapshot(on.home)
    plan = planned(on, "cursor")[0]
    assert plan.server.state is State.OTHER
    assert "/opt/other" in plan.server.note
    set_up(on, "cursor", force=True)
    data = json.loads((on.home / ".cursor/mcp.json").read_text(encoding="utf-8"))
    assert launch_of(data["mcpServers"]["mempalace"]) == (f"{tmp_path}/programs/mempalace-mcp",)
    (on.home / ".cursor/mcp.json").write_text(json.dumps({**data, "more": 1}), encoding="utf-8")
    undo(on)
    data = json.loads((on.home / ".cursor/mcp.json").read_text(encoding="utf-8"))
    assert data["mcpServers"]["mempalace"] == {"command": "/opt/other", "args": ["x"]}
    assert set(before) <= set(snapshot(on.home))


def test_an_entry_of_an_earlier_setup_is_brought_up_to_date(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    before = snapshot(on.home)
    set_up(on, "zed")
    assert planned(on, "zed", palace=tmp_path / "other")[0].server.state is State.UPDATE
    set_up(on, "zed", palace=tmp_path / "other")
    data = json.loads((on.home / ".config/zed/settings.json").read_text(encoding="utf-8"))
    assert data["context_servers"]["mempalace"]["args"] == ["--palace", str(tmp_path / "other")]
    undo(on)
    assert snapshot(on.home) == before


def test_the_same_program_by_another_path_is_ours_already(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".cursor/mcp.json", {"mcpServers": {"mempalace": {"command": "mempalace-mcp"}}})
    write(on.home / ".lmstudio/mcp.json", {"mcpServers": {"memory": {"command": "mempalace-mcp", "args": []}}})
    assert planned(on, "cursor")[0].server.state is State.THERE
    plan = planned(on, "lmstudio")[0]
    assert (plan.server.state, plan.server.note) == (State.THERE, "named memory")


DAMAGED = {
    "cut off": b'{"mcpServers": {',
    "a list": b"[]",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no object of servers": b'{"mcpServers": []}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_read_is_left_alone(data: bytes, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = on.home / ".lmstudio/mcp.json"
    file.parent.mkdir()
    file.write_bytes(data)
    before = snapshot(on.home)
    plan = planned(on, "lmstudio")[0]
    assert plan.server.state is State.FAULT
    assert plan.server.note
    with pytest.raises(SettingsFault):
        make(on, plan.server, Journal(on))
    assert snapshot(on.home) == before


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_left_alone(kind: str, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = on.home / ".lmstudio/mcp.json"
    file.parent.mkdir()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file)
    assert planned(on, "lmstudio")[0].server.state is State.FAULT


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "dangling"])
def test_links_are_followed_and_stay(is_there: bool, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    target = tmp_path / "dotfiles" / "mcp.json"
    target.parent.mkdir()
    if is_there:
        target.write_text('{"mcpServers": {}}', encoding="utf-8")
    (on.home / ".lmstudio").mkdir()
    (on.home / ".lmstudio/mcp.json").symlink_to(target)
    before = snapshot(on.home), snapshot(tmp_path / "dotfiles")
    set_up(on, "lmstudio")
    assert "mempalace" in target.read_text(encoding="utf-8")
    assert (on.home / ".lmstudio/mcp.json").is_symlink()
    undo(on)
    assert (snapshot(on.home), snapshot(tmp_path / "dotfiles")) == before


def test_the_command_of_the_client_is_used_and_its_work_verified(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = on.home / ".codex/config.toml"
    file.parent.mkdir()
    before = snapshot(on.home)
    text = f'[mcp_servers.mempalace]\\ncommand = "{tmp_path}/programs/mempalace-mcp"\\n'
    script(tmp_path / "programs" / "codex", f"printf '{text}' > {file}; echo \"$@\" > {tmp_path}/said")
    on = machine(on.home, PATH=f"{tmp_path}/programs:/usr/bin:/bin")
    assert set_up(on, "codex") == ["by codex", "written"]
    said = (tmp_path / "said").read_text(encoding="utf-8").split()
    assert said == ["mcp", "add", "mempalace", "--", f"{tmp_path}/programs/mempalace-mcp"]
    assert set_up(on, "codex") == []
    undo(on)
    assert snapshot(on.home) == before


@pytest.mark.parametrize("does", ["exit 1", "exit 0", "kill -9 $$", "echo nonsense; exit 3"])
def test_a_command_that_does_nothing_is_replaced_by_an_edit(does: str, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    script(tmp_path / "programs" / "codex", does)
    assert set_up(on, "codex") == ["written", "written"]
    assert "mcp_servers.mempalace" in (on.home / ".codex/config.toml").read_text(encoding="utf-8")
    assert not list(on.home.rglob("*.bak-*"))


def test_a_client_that_writes_after_its_command_has_ended_is_waited_for(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = write(on.home / ".config/Code/User/mcp.json", "{}")
    entry = json.dumps({"servers": {"mempalace": {"command": f"{tmp_path}/programs/mempalace-mcp"}}})
    script(tmp_path / "programs" / "code", f"(sleep 0.5; echo '{entry}' > '{file}') >/dev/null 2>&1 &")
    on = machine(on.home, PATH=f"{tmp_path}/programs:/usr/bin:/bin")
    assert set_up(on, "vscode") == ["by code", "written"]
    undo(on)
    assert file.read_text(encoding="utf-8") == "{}"


def test_a_file_that_changes_between_reading_and_writing_is_not_overwritten(tmp_path: Path) -> None:
    file = write(tmp_path / "mcp.json", "{}")
    read = files.read_settings(file)
    file.write_text('{"of": "others"}', encoding="utf-8")
    assert not files.replace(read, "{ }")
    assert file.read_text(encoding="utf-8") == '{"of": "others"}'
    assert [each.name for each in tmp_path.iterdir()] == ["mcp.json"]


def test_only_the_clients_that_are_named_are_taken_back(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "zed", "cursor")
    journal = Journal(on)
    for record in reversed([each for each in journal.records() if each.client == "zed"]):
        take_back(record, journal)
    assert planned(on, "cursor")[0].server.state is State.THERE
    assert planned(on, "zed")[0].server.state is State.ADD


def test_a_file_that_was_damaged_since_is_left_and_told(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "zed")
    file = on.home / ".config/zed/settings.json"
    file.write_text(file.read_text(encoding="utf-8")[:-3], encoding="utf-8")
    before = file.read_bytes()
    undone = undo(on)
    assert [each.outcome for each in undone] == ["left"]
    assert "line" in undone[0].note
    assert file.read_bytes() == before
    assert Journal(on).records()


def test_a_change_that_was_planned_and_not_made_is_taken_back_by_nothing(tmp_path: Path) -> None:
    """As after a crash between the journal and the file."""
    on = machine(tmp_path / "home")
    file = write(on.home / ".cursor/mcp.json", '{"mcpServers": {}}')
    set_up(on, "cursor")
    file.write_text('{"mcpServers": {}}', encoding="utf-8")
    assert [each.outcome for each in undo(on) if each.record.kind == "server"] == ["gone"]
    assert file.read_text(encoding="utf-8") == '{"mcpServers": {}}'


def test_a_write_protected_file_stays(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = write(on.home / ".lmstudio/mcp.json", "{}")
    file.chmod(0o444)
    with pytest.raises(SettingsFault, match="write-protected"):
        set_up(on, "lmstudio")
    assert not Journal(on).records()


@pytest.mark.parametrize("limit", [10, 600], ids=["no copy", "no journal"])
def test_a_full_disk_changes_nothing(limit: int, tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    write(on.home / ".lmstudio/mcp.json", '{"mcpServers": {}, "x": "%s"}' % ("x" * 200))
    before = snapshot(on.home)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(SettingsFault):
            set_up(on, "lmstudio")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(on.home) == before


def test_a_damaged_journal_is_named_and_stays(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    set_up(on, "zed")
    file = on.home / FILE
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    before = snapshot(on.home)
    with pytest.raises(SettingsFault, match=r"setup\.json is damaged"):
        set_up(on, "cursor")
    assert snapshot(on.home) == before


def test_all_at_once_and_back(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    before = snapshot(on.home)
    ids = [client.id for client in CLIENTS]
    assert len(set_up(on, *ids)) == len(ids) + len(HOOKS)
    assert set_up(on, *ids) == []
    undo(on)
    assert snapshot(on.home) == before
