"""Conversations of Cursor are read from its database and its transcripts, and filed once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, Machine, histories, read
from mempalace_mcp.palace.importers.cursor import CURSOR
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import MINUTE, NOON, append, held_open, write_json, write_lines, write_rows
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

HERRING = {"id": "9f2c", "uri": {"$mid": 1, "fsPath": "/home/ines/code/herring", "scheme": "file"}}


def composer(composer_id: str, *kinds: int, **fields: Any) -> dict[str, Any]:
    """The row of a conversation, with a message of each kind: `b0`, `b1`..."""
    headers = [{"bubbleId": f"b{number}", "type": kind} for number, kind in enumerate(kinds)]
    named = {"_v": 17, "composerId": composer_id, "createdAt": NOON, "lastUpdatedAt": NOON, "status": "completed"}
    return {f"composerData:{composer_id}": {**named, "fullConversationHeadersOnly": headers, **fields}}


def bubble(composer_id: str, number: int, kind: int, text: str, **fields: Any) -> dict[str, Any]:
    said = {"_v": 3, "type": kind, "bubbleId": f"b{number}", "text": text, **fields}
    return {f"bubbleId:{composer_id}:b{number}": said}


def herring(**fields: Any) -> dict[str, Any]:
    """A conversation of two exchanges; the assistant uses a tool in the second one."""
    return {
        **composer("c-1", 1, 2, 1, 2, 2, 2, name="Herring nets", workspaceIdentifier=HERRING, **fields),
        **bubble("c-1", 0, 1, "How wide are the meshes?", createdAt="2026-05-06T12:00:05.500Z"),
        **bubble("c-1", 1, 2, "20 mm.", createdAt="2026-05-06T12:00:09Z"),
        **bubble("c-1", 2, 1, "And who mends them?"),
        **bubble("c-1", 3, 2, "I look it up.", thinking={"text": "hm", "signature": "x"}),
        **bubble("c-1", 4, 2, "", toolFormerData={"name": "read_file_v2", "result": "net.txt: Oona"}),
        **bubble("c-1", 5, 2, "Oona does."),
    }


def database(folder: Path, *rows: dict[str, Any]) -> Path:
    merged = {key: value for each in rows for key, value in each.items()}
    return write_rows(folder / "Cursor" / "User" / "globalStorage" / "state.vscdb", "cursorDiskKV", merged)


def said(text: str, when: str = "") -> dict[str, Any]:
    wrapped = f"{when}<user_query>\n{text}\n</user_query>"
    return {"role": "user", "message": {"content": [{"type": "text", "text": wrapped}]}}


def answered(*texts: str) -> dict[str, Any]:
    return {"role": "assistant", "message": {"content": [{"type": "text", "text": text} for text in texts]}}


ENDED = {"type": "turn_ended", "status": "success"}
HERRING_TRANSCRIPT = (
    said("How wide are the meshes?", "<timestamp>Wednesday, May 6, 2026, 2:00 PM (UTC+2)</timestamp>\n"),
    answered("20 mm."),
    ENDED,
    said("And who mends them?"),
    answered("I look it up.\n\n[REDACTED]"),
    answered("Oona does."),
    ENDED,
)


def transcript(home: Path, session: str, *lines: Any, slug: str = "home-ines-code-herring") -> Path:
    folder = home / ".cursor" / "projects" / slug / "agent-transcripts" / session
    return write_lines(folder / f"{session}.jsonl", *lines)


def test_a_conversation_in_the_database(tmp_path: Path) -> None:
    path = database(tmp_path, herring(modelConfig={"modelName": "composer-3"}, createdOnBranch="nets"))
    first, second = documents(path)
    assert first.content == "User: How wide are the meshes?\n\nAssistant: 20 mm."
    assert second.content == "User: And who mends them?\n\nAssistant: I look it up.\n\nOona does."
    assert (first.wing, first.room) == ("herring", "cursor")
    assert first.metadata == {
        "agent": "cursor",
        "session_id": "c-1",
        "message_id": "b0",
        "cwd": "/home/ines/code/herring",
        "git_branch": "nets",
        "model": "composer-3",
        "title": "Herring nets",
        "source_format": "cursor-database",
    }
    assert first.occurred_at == clock.parse("2026-05-06T12:00:05.500Z", "time")
    assert second.occurred_at == NOON * 1000
    assert second.metadata["time_source"] == "session"


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    path = database(tmp_path, herring())
    texts = [each.content for each in read_real(path, include_tools=True) if isinstance(each, Document)]
    assert texts[1] == (
        "User: And who mends them?\n\nAssistant: I look it up.\n\nTool: net.txt: Oona\n\nAssistant: Oona does."
    )


def test_only_listed_messages_count_in_the_order_of_the_list(tmp_path: Path) -> None:
    rows = composer("c", 1, 2, 2)
    rows["composerData:c"]["fullConversationHeadersOnly"] = [
        {"bubbleId": "b7", "type": 1}, {"bubbleId": "gone", "type": 1}, {"bubbleId": "b2", "type": 2}, 7, {},
    ]  # fmt: skip
    path = database(
        tmp_path,
        rows,
        bubble("c", 1, 1, "Taken back."),
        bubble("c", 2, 2, "Four."),
        bubble("c", 7, 1, "How many oars?"),
        bubble("cc", 7, 1, "Of another conversation."),
        {"bubbleId:c:gone": None},
    )
    assert [each.content for each in documents(path)] == ["User: How many oars?\n\nAssistant: Four."]


def test_messages_inside_the_conversation_of_the_first_versions(tmp_path: Path) -> None:
    lines = [{"type": 1, "bubbleId": "x", "text": "Is it low tide?"}, {"type": 2, "text": "At six."}, None]
    path = database(tmp_path, {"composerData:old": {"conversation": lines}})
    (document,) = documents(path)
    assert document.content == "User: Is it low tide?\n\nAssistant: At six."
    assert (document.wing, document.occurred_at) == ("cursor", None)


def test_subagents_and_drafts_are_left_out(tmp_path: Path) -> None:
    said_to = [{**composer(name, 1, 2, **fields), **bubble(name, 0, 1, name), **bubble(name, 1, 2, f"To {name}.")}
               for name, fields in (("mine", {"subagentComposerIds": ["named"]}), ("named", {}), ("headed", {}),
                                    ("tagged", {"subagentInfo": {"parentComposerId": "mine"}}))]  # fmt: skip
    path = database(tmp_path, *said_to, composer("draft"), {"composerData:null": None})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE composerHeaders (composerId TEXT, isSubagent INTEGER, value TEXT)")
        connection.execute("INSERT INTO composerHeaders VALUES ('headed', 1, '{}'), ('mine', 0, '{}')")
    assert [each.metadata["session_id"] for each in documents(path)] == ["mine"]
    assert reasons(path) == []


@pytest.mark.parametrize(
    ("fields", "wing"),
    [
        ({"workspaceIdentifier": {"uri": {"fsPath": "c:\\Users\\ines\\herring"}}}, "herring"),
        ({"workspaceIdentifier": {"configPath": {"fsPath": "/home/ines/fleet.code-workspace"}}}, "fleet"),
        ({"workspaceIdentifier": {"uri": {"path": "/home/ines/eel", "scheme": "vscode-remote"}}}, "eel"),
        ({"agentLocation": {"environment": {"uri": {"fsPath": "/srv/weir"}}}}, "weir"),
        ({"trackedGitRepos": [{"repoPath": "/home/ines/code/boats"}]}, "boats"),
        ({"gitWorktree": {"worktreePath": "/home/ines/.cursor/worktrees/herring/x7f"}}, "herring"),
        ({"workspaceIdentifier": {"id": "4d1a"}}, "sluice"),
        ({"workspaceIdentifier": {"id": "empty-window"}}, "cursor"),
        ({}, "lagoon"),
    ],
)
def test_the_project_of_a_conversation(tmp_path: Path, fields: dict[str, Any], wing: str) -> None:
    windows = tmp_path / "Cursor" / "User" / "workspaceStorage"
    write_json(windows / "4d1a" / "workspace.json", {"folder": "vscode-remote://wsl%2Bubuntu/home/ines/sl%75ice"})
    write_json(windows / "77aa" / "workspace.json", {"folder": "file:///c%3A/Users/ines/lagoon"})
    write_json(windows / "8" / "workspace.json", "{damaged")
    legacy = {"composer.composerData": {"allComposers": [{"composerId": "c" if not fields else "another"}]}}
    write_rows(windows / "77aa" / "state.vscdb", "ItemTable", legacy)
    path = database(tmp_path, composer("c", 1, 2, **fields), bubble("c", 0, 1, "Q"), bubble("c", 1, 2, "A"))
    assert [each.wing for each in documents(path)] == [wing]


def test_heads_tell_the_project_and_the_title(tmp_path: Path) -> None:
    path = database(tmp_path, composer("c", 1), bubble("c", 0, 1, "Q"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE composerHeaders (composerId TEXT, createdAt INTEGER, value TEXT)")
        head = {"type": "head", "name": "Spawning", "workspaceIdentifier": HERRING}
        connection.execute("INSERT INTO composerHeaders VALUES ('c', 1, ?)", (json.dumps(head),))
    (document,) = documents(path)
    assert (document.wing, document.metadata["title"]) == ("herring", "Spawning")


@pytest.mark.parametrize(
    ("status", "minutes", "may_grow"),
    [
        ("completed", 0, False),
        ("generating", 0, True),
        ("none", 0, True),
        ("generating", 6, False),
        (["x"], None, False),
    ],
)
def test_a_conversation_that_may_go_on(tmp_path: Path, status: Any, minutes: int | None, may_grow: bool) -> None:
    updated = None if minutes is None else clock.now() // 1000 - minutes * MINUTE
    rows = composer("c", 1, 2, status=status, lastUpdatedAt=updated)
    path = database(tmp_path, rows, bubble("c", 0, 1, "Q"), bubble("c", 1, 2, "A"))
    assert [each.may_grow for each in documents(path)] == [may_grow]


def test_damaged_rows_are_counted_and_the_others_read(tmp_path: Path) -> None:
    damaged = {"composerData:a": '{"name": "cut', "composerData:b": b"\xff\xfe", "composerData:z": "[1]"}
    path = database(tmp_path, damaged, herring(), {"bubbleId:c-1:b1": b"{not json"})
    entries = list(read(path))
    (document,) = (each for each in entries if isinstance(each, Document))
    assert document.content.startswith("User: How wide are the meshes?\n\nAnd who mends them?\n\nAssistant: I look")
    (problem,) = (each for each in entries if not isinstance(each, Document))
    assert (problem.reason, getattr(problem, "count", 0)) == ("a conversation that is damaged", 3)


def test_a_database_of_other_programs_or_without_conversations(tmp_path: Path) -> None:
    assert reasons(database(tmp_path, composer("draft"))) == ["no conversations"]
    code = write_rows(tmp_path / "Code" / "User" / "globalStorage" / "state.vscdb", "ItemTable", {"a": "1"})
    window = write_rows(tmp_path / "Cursor/User/workspaceStorage/7/state.vscdb", "cursorDiskKV", {})
    assert not any(CURSOR.recognizes(Candidate(path)) for path in (code, window))
    copy = tmp_path / "kept" / "old.vscdb"
    copy.parent.mkdir()
    copy.write_bytes(database(tmp_path, herring()).read_bytes())
    assert len(documents(copy)) == 2
    copy.write_bytes(copy.read_bytes()[:5_000])
    assert reasons(copy) == ["a database that is damaged or of an unknown version"]


def test_the_database_of_a_running_editor(tmp_path: Path) -> None:
    path = database(tmp_path, herring())
    with opened(tmp_path / "palace", started=False) as app, held_open(path) as editor:
        before = sorted(each.name for each in path.parent.iterdir())
        assert run(app, path)["filed"] == 2
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (0, 0, 2)
        row = json.dumps({"type": 2, "text": "Oona does. In winter."})
        editor(f"UPDATE cursorDiskKV SET value = '{row}' WHERE key = 'bubbleId:c-1:b5';")
        new = json.dumps({**composer("c-2", 1)["composerData:c-2"]})
        editor(f"INSERT INTO cursorDiskKV VALUES ('composerData:c-2', '{new}');")
        editor('INSERT INTO cursorDiskKV VALUES (\'bubbleId:c-2:b0\', \'{"type": 1, "text": "Cod?"}\');')
        told = run(app, path)
        assert (told["filed"], told["updated"], told["removed"]) == (1, 1, 0)
        assert set(before) <= {each.name for each in path.parent.iterdir()} <= {
            "state.vscdb", "state.vscdb-wal", "state.vscdb-shm",
        }  # fmt: skip
        texts = {each.content for each in app.palace.list_drawers(limit=10).items}
        assert "User: And who mends them?\n\nAssistant: I look it up.\n\nOona does. In winter." in texts


def test_a_transcript(tmp_path: Path) -> None:
    first, second = documents(transcript(tmp_path, "c-1", *HERRING_TRANSCRIPT))
    assert first.content == "User: How wide are the meshes?\n\nAssistant: 20 mm."
    assert second.content == "User: And who mends them?\n\nAssistant: I look it up.\n\nOona does."
    assert (first.wing, first.room, first.metadata["session_id"]) == ("herring", "cursor", "c-1")
    assert (first.occurred_at, second.occurred_at) == (NOON * 1000, None)
    assert not second.may_grow


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("Friday, Sep 4, 2026, 12:21 AM (UTC+8)", "2026-09-03T16:21:00Z"),
        ("Wednesday, Jun 3, 2026, 7:30 PM (UTC-3:30)", "2026-06-03T23:00:00Z"),
        ("Sunday, Sep 27, 2026, 12:00 PM (UTC)", "2026-09-27T12:00:00Z"),
        ("Sunday, Sep 27, 2026, 9:00 AM", "2026-09-27T07:00:00Z"),
        ("Sunday, Foo 27, 2026, 9:00 AM", None),
        ("now", None),
    ],
)
def test_the_time_of_a_message_in_a_transcript(tmp_path: Path, when: str, expected: str | None) -> None:
    path = transcript(tmp_path, "c", said("When?", f"<timestamp>{when}</timestamp>\n"))
    (document,) = read_real(path, zone=clock.read_zone("Europe/Berlin"))
    assert isinstance(document, Document)
    assert document.occurred_at == (clock.parse(expected, "time") if expected else None)


def test_what_the_editor_writes_in_the_users_name_is_left_out(tmp_path: Path) -> None:
    path = transcript(
        tmp_path,
        "c",
        {"role": "user", "message": {"content": [{"type": "text", "text": "<user_info>\nOS: x\n</user_info>"}]}},
        {"role": "user", "message": {"content": "<rules>\nBe kind.\n</rules>\n<git_status>\nclean\n</git_status>"}},
        said("What does </user_query> end? <b>x</b>"),
        {"role": "user", "message": {"content": "<user_query>\nAnd this?\n</user_query>\n[Image]\n[File: a.pdf]"}},
        answered("[REDACTED]"),
        answered("It says [REDACTED] in the middle."),
    )
    (document,) = documents(path)
    assert document.content == (
        "User: What does </user_query> end? <b>x</b>\n\nAnd this?\n\nAssistant: It says [REDACTED] in the middle."
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_conversation_in_both_places_is_filed_once(tmp_path: Path, order: list[int]) -> None:
    rows = herring()
    rows["composerData:c-1"]["fullConversationHeadersOnly"] += [{"bubbleId": "b6"}, {"bubbleId": "b7"}]
    rows |= bubble("c-1", 6, 1, "\n Go on.  \n") | bubble("c-1", 7, 2, "First the twine.\n\nThen the knots.")
    rows |= bubble("c-1", 8, 1, "Go on.") | bubble("c-1", 9, 2, "At last the floats.")
    rows["composerData:c-1"]["fullConversationHeadersOnly"] += [{"bubbleId": "b8"}, {"bubbleId": "b9"}]
    lines = [said("Go on."), answered("First the twine."), answered("Then the knots.")]
    lines += [said("Go on."), answered("At last the floats.")]
    places = [database(tmp_path, rows), transcript(tmp_path, "c-1", *HERRING_TRANSCRIPT, *lines)]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, places[order[0]])["filed"] == 4
        assert run(app, places[order[1]])["filed"] == 0
        texts = [each.content for each in app.palace.list_drawers(limit=10).items]
        assert set(texts) == {
            "User: And who mends them?\n\nAssistant: I look it up.\n\nOona does.",
            "User: Go on.\n\nAssistant: At last the floats.",
            "User: Go on.\n\nAssistant: First the twine.\n\nThen the knots.",
            "User: How wide are the meshes?\n\nAssistant: 20 mm.",
        }
        told = run(app, *places)
        assert (told["filed"], told["updated"], told["skipped"]) == (0, 0, {})


def test_a_transcript_that_grows_and_is_written_anew(tmp_path: Path) -> None:
    path = transcript(tmp_path, "c", *HERRING_TRANSCRIPT[:5])
    (_, last) = documents(path)
    assert last.may_grow
    append(path, '{"role": "assistant", "message": {"content": [{"type": "te')
    assert reasons(path) == []
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 2
        transcript(tmp_path, "c", *HERRING_TRANSCRIPT, said("Thanks."))
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (1, 1)
        transcript(tmp_path, "c", said("Something else."))
        assert run(app, path)["removed"] == 0
        assert len(app.palace.list_drawers(limit=10).items) == 4


def test_files_beside_the_transcripts(tmp_path: Path) -> None:
    path = transcript(tmp_path, "c", answered())
    assert reasons(path) == ["no text"]
    inner = write_lines(path.parent / "subagents" / "s.jsonl", said("Look."), answered("Done."))
    assert reasons(inner) == ["a sub-agent's transcript"]
    older = write_lines(path.parent.parent / "d.txt", "user:", "Hello.")
    assert documents(older) == []
    copied = write_lines(tmp_path / "elsewhere.jsonl", said("Hello."), "{damaged", answered("Good day."))
    entries = list(read(copied))
    assert [each.wing for each in entries if isinstance(each, Document)] == ["cursor"]
    assert [each.reason for each in entries if not isinstance(each, Document)] == ["not JSON"]


@pytest.mark.parametrize(
    ("slug", "wing"),
    [
        ("home-ines-code-herring-nets", "herring-nets"),
        ("c-Users-ines-herring", "herring"),
        ("Users-ines-Documents-github-eel", "eel"),
        ("empty-window", "cursor"),
    ],
)
def test_the_project_of_a_transcript(tmp_path: Path, slug: str, wing: str) -> None:
    (document,) = documents(transcript(tmp_path, "c", said("Q"), slug=slug))
    assert document.wing == wing


def test_the_places_of_a_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    path = database(machine.applications, herring())
    folder = transcript(tmp_path, "c-1", *HERRING_TRANSCRIPT).parent.parent
    assert [place for reader, place in histories(machine) if reader is CURSOR] == [path, folder]


_LIMITED = """
import resource, sys
from pathlib import Path
from mempalace_mcp.palace.importers import Document, read
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 80_000_000, used + 80_000_000))
print(sum(isinstance(entry, Document) for entry in read(Path(sys.argv[1]))))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is not limited here")
def test_a_large_database_is_not_loaded(tmp_path: Path) -> None:
    large = {f"bubbleId:c-1:b{number}": b" " * 4_000_000 for number in range(10, 50)}
    path = database(tmp_path, herring(), large)
    ran = subprocess.run([sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("2\n", "")
