"""Sessions of Goose, from databases with the schema of its source, and from the files that were before."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, Machine, histories, read
from mempalace_mcp.palace.importers.goose import GOOSE
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import NOON, append, held_open, quiet, write_lines
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

SECOND = NOON // 1000
SCHEMA = """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', description TEXT NOT NULL DEFAULT '',
        session_type TEXT NOT NULL DEFAULT 'user', working_dir TEXT NOT NULL,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        model_config_json TEXT, parent_session_id TEXT);
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT, session_id TEXT NOT NULL REFERENCES sessions(id),
        role TEXT NOT NULL, content_json TEXT NOT NULL, created_timestamp INTEGER NOT NULL,
        timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, tokens INTEGER, metadata_json TEXT);
"""
EARLIEST = """
    CREATE TABLE sessions (id TEXT PRIMARY KEY, description TEXT, working_dir TEXT, created_at TEXT, updated_at TEXT);
    CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content_json TEXT, created_timestamp);
"""


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


REQUEST = {"type": "toolRequest", "id": "t", "toolCall": {"status": "success", "value": {"name": "shell"}}}
RESPONSE = {
    "type": "toolResponse",
    "id": "t",
    "toolResult": {"status": "success", "value": {"content": [text("9 eggs")]}},
}
Row = tuple[str, str, Any, int, dict[str, Any] | None]
MESSAGES: tuple[Row, ...] = (
    ("m1", "user", [text("How many eggs?")], SECOND, {"userVisible": True, "agentVisible": True}),
    (
        "m2",
        "assistant",
        [{"type": "thinking", "thinking": "hm", "signature": ""}, text("I count."), REQUEST],
        SECOND + 1,
        None,
    ),
    ("m3", "user", [RESPONSE], SECOND + 2, None),
    ("m4", "user", [text("They spoke of eggs.")], SECOND + 3, {"userVisible": False, "agentVisible": True}),
    ("m5", "assistant", [text("Nine.")], (SECOND + 4) * 1000, None),
)


def database(folder: Path, messages: tuple[Row, ...] = MESSAGES, **session: Any) -> Path:
    path = folder / "goose" / "sessions" / "sessions.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"id": "20260506_1", "name": "Eggs", "working_dir": "/home/nils/code/coop", **session}
    row |= {"created_at": "2026-05-06 11:59:58", "updated_at": session.get("updated_at", "2026-05-06 12:01:00")}
    with closing(sqlite3.connect(path)) as connection, connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.executescript(SCHEMA)
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO sessions ({', '.join(row)}) VALUES ({places})", tuple(row.values()))
        for message_id, role, content, created, metadata in messages:
            stored = content if isinstance(content, str) else json.dumps(content)
            connection.execute(
                "INSERT INTO messages (message_id, session_id, role, content_json, created_timestamp, metadata_json)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (message_id, row["id"], role, stored, created, json.dumps(metadata) if metadata else None),
            )
    return quiet(path)


def earlier_file(folder: Path, *messages: Row, name: str = "20260506_1") -> Path:
    known = {"working_dir": "/home/nils/code/coop", "description": "Eggs", "message_count": 2, "total_tokens": 9}
    lines = [{"role": role, "created": created, "content": content} for _, role, content, created, _ in messages]
    return write_lines(folder / "goose" / "sessions" / f"{name}.jsonl", known, *lines)


def test_a_session_in_the_database(tmp_path: Path) -> None:
    (document,) = documents(database(tmp_path, model_config_json='{"model_name": "gpt-6"}'))
    assert document.content == "User: How many eggs?\n\nAssistant: I count.\n\nNine."
    assert (document.wing, document.room, document.occurred_at) == ("coop", "goose", NOON * 1000)
    assert document.metadata == {
        "agent": "goose",
        "session_id": "20260506_1",
        "message_id": "m1",
        "cwd": "/home/nils/code/coop",
        "model": "gpt-6",
        "title": "Eggs",
        "source_format": "goose-database",
    }
    assert [piece.time for piece in document.pieces] == [(NOON + each) * 1000 for each in (0, 1000, 4000)]
    assert not document.may_grow


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    (document,) = read_real(database(tmp_path), include_tools=True)
    assert isinstance(document, Document)
    assert document.content == "User: How many eggs?\n\nAssistant: I count.\n\nTool: 9 eggs\n\nAssistant: Nine."


def test_sessions_of_programs_are_left_out_and_one_that_goes_on_may_grow(tmp_path: Path) -> None:
    path = database(tmp_path, session_type="scheduled")
    database(tmp_path, id="b", session_type="sub_agent")
    database(tmp_path, id="c", session_type="hidden")
    now = clock.format_instant(clock.now())
    database(tmp_path, (("m9", "user", [text("And hens?")], SECOND, None),), id="d", updated_at=now, working_dir="/")
    found = documents(path)
    assert [each.metadata["session_id"] for each in found] == ["20260506_1", "d"]
    assert [each.may_grow for each in found] == [False, True]


def test_a_database_of_an_earlier_version(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(EARLIEST)
        connection.execute("INSERT INTO sessions VALUES ('a', 'Hens', NULL, '2026-05-06 12:00:00', NULL)")
        connection.execute("INSERT INTO messages VALUES (1, 'a', 'user', ?, 0)", (json.dumps([text("Cluck?")]),))
    (document,) = documents(path)
    assert (document.content, document.wing, document.metadata["title"]) == ("User: Cluck?", "goose", "Hens")


def test_damaged_messages_are_counted(tmp_path: Path) -> None:
    path = database(
        tmp_path, (("x", "user", "{cut", SECOND, None), *MESSAGES, ("y", "robot", [text("?")], SECOND, None))
    )
    entries = list(read(path))
    assert len([each for each in entries if isinstance(each, Document)]) == 1
    assert [each.reason for each in entries if not isinstance(each, Document)] == ["a message that is damaged"]
    empty = database(tmp_path / "other", ())
    assert reasons(empty) == ["no conversations"]
    with closing(sqlite3.connect(empty)) as connection:
        connection.execute("DROP TABLE sessions")
    assert reasons(empty) == ["a database that is damaged or of an unknown version"]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_session_in_the_database_and_in_a_file_is_filed_once(tmp_path: Path, order: list[int]) -> None:
    paths = [database(tmp_path), earlier_file(tmp_path, *(row for row in MESSAGES if row[0] != "m4"))]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, paths[order[0]])["filed"] == 1
        assert run(app, paths[order[1]])["filed"] == 0
        told = run(app, paths[0].parent)
        assert (told["filed"], told["updated"], told["skipped"]) == (0, 0, {})
        (drawer,) = app.palace.list_drawers(limit=9).items
        assert drawer.content == "User: How many eggs?\n\nAssistant: I count.\n\nNine."


def test_a_file_that_grows_and_one_that_is_damaged(tmp_path: Path) -> None:
    path = earlier_file(tmp_path, *MESSAGES[:2])
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        append(
            path, json.dumps({"role": "assistant", "created": SECOND, "content": [text("Nine.")]}) + '\n{"role": "us'
        )
        told = run(app, path)
        assert (told["filed"], told["updated"], told["skipped"]) == (0, 1, {})
    append(path, "\n")
    assert reasons(path) == ["not JSON"]
    assert reasons(earlier_file(tmp_path)) == ["no text"]


def test_the_database_of_a_running_program(tmp_path: Path) -> None:
    path = database(tmp_path)
    with opened(tmp_path / "palace", started=False) as app, held_open(path) as goose:
        assert run(app, path)["filed"] == 1
        content = json.dumps([text("Which one is blue?")])
        goose(
            "INSERT INTO messages (session_id, role, content_json, created_timestamp)"
            f" VALUES ('20260506_1', 'user', '{content}', {SECOND + 9});"
        )
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (1, 0, 1)


@pytest.mark.parametrize("moved", [False, True])
def test_places_and_other_files(tmp_path: Path, moved: bool) -> None:
    folder = tmp_path / "data" if moved else Machine(tmp_path).data / "goose"
    path = database(tmp_path / "made")
    old = earlier_file(tmp_path / "made", *MESSAGES)
    (folder / "sessions").mkdir(parents=True)
    paths = [each.rename(folder / "sessions" / each.name) for each in (path, old)]
    machine = Machine(tmp_path, {"GOOSE_PATH_ROOT": str(tmp_path)} if moved else {})
    assert [place for reader, place in histories(machine) if reader is GOOSE] == paths
    other = tmp_path / "sessions.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE sessions (session_id TEXT)")
    assert not GOOSE.recognizes(Candidate(other))
    assert not GOOSE.recognizes(Candidate(write_lines(tmp_path / "a.jsonl", {"role": "user", "content": "x"})))
