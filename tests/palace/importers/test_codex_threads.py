"""The database of Codex: sessions whose files are gone."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.codex_threads import NOTHING
from mempalace_mcp.palace.importers.reader import Candidate, Machine
from mempalace_mcp.palace.importers.readers import histories, reader_of
from tests.palace.importers.support import documents, reasons
from tests.palace.importers.test_codex import FIRST, PART, SECOND, answered, asked, exchange, meta, rollout
from tests.palace.support import opened
from tests.palace.test_importing import run

NOON = 1_790_841_600_000
SCHEMA = """
CREATE TABLE thread_items (thread_id TEXT NOT NULL, turn_id TEXT NOT NULL, item_id TEXT NOT NULL,
  rollout_ordinal INTEGER NOT NULL, created_at_ms INTEGER NOT NULL, item_json TEXT NOT NULL);
CREATE INDEX by_kind ON thread_items (json_extract(item_json, '$.type'));
"""
STATE = """
CREATE TABLE threads (id TEXT PRIMARY KEY, rollout_path TEXT, source TEXT, cwd TEXT, title TEXT, git_branch TEXT,
  name TEXT, model TEXT, cli_version TEXT);
"""


def history(home: Path, *said: tuple[str, str, str], name: str = "thread_history_1.sqlite") -> Path:
    """The database with (thread, speaker, text)."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / name)) as connection, connection:
        connection.executescript(SCHEMA)
        for number, (thread, kind, text) in enumerate(said):
            content = {"content": [{"type": "text", "text": text}]} if kind == "userMessage" else {"text": text}
            item = json.dumps({"type": kind, "id": f"i{number}", **content})
            row = (thread, "t", f"i{number}", number, NOON + number * 1_000, item)
            connection.execute("INSERT INTO thread_items VALUES (?, ?, ?, ?, ?, ?)", row)
    return home / name


def state(home: Path, *threads: dict[str, Any], name: str = "state_5.sqlite") -> Path:
    with closing(sqlite3.connect(home / name)) as connection, connection:
        connection.executescript(STATE)
        for each in threads:
            known = {"source": "cli", "cwd": "/srv/quay", "git_branch": "tide", "model": "m", "title": "Q", **each}
            places = ", ".join("?" * len(known))
            connection.execute(f"INSERT INTO threads ({', '.join(known)}) VALUES ({places})", tuple(known.values()))
    return home / name


def talk(thread: str, question: str = "Q", answer: str = "A") -> list[tuple[str, str, str]]:
    return [(thread, "userMessage", question), (thread, "commandExecution", "ls"), (thread, "agentMessage", answer)]


def test_a_session_without_a_file_is_read(tmp_path: Path) -> None:
    context = (FIRST, "userMessage", "<environment_context>x</environment_context>")
    path = history(tmp_path, context, *talk(FIRST))
    state(tmp_path, {"id": FIRST, "name": "Piers", "cli_version": "0.171.0"})
    (document,) = documents(path)
    assert document.content == exchange("Q", "A")
    assert (document.wing, document.room, document.occurred_at) == ("quay", "codex", (NOON + 1_000) * 1_000)
    assert document.metadata == {
        "agent": "codex",
        "session_id": FIRST,
        "message_id": "i1",
        "cwd": "/srv/quay",
        "git_branch": "tide",
        "model": "m",
        "title": "Piers",
        "source_format": "codex-database",
        "client_version": "0.171.0",
    }


def test_sessions_that_are_in_files_are_left_to_these(tmp_path: Path) -> None:
    path = history(tmp_path, *talk(FIRST), *talk(SECOND), *talk(PART))
    rollout(tmp_path / "sessions" / "2026" / "10" / "01", meta(), asked("Q"), answered("A"))
    elsewhere = rollout(tmp_path / "elsewhere", meta(SECOND), asked("Q"), answered("A"), session=SECOND)
    state(tmp_path, {"id": SECOND, "rollout_path": str(elsewhere)}, {"id": FIRST, "rollout_path": f"x_{PART}.jsonl"})
    assert [each.metadata["session_id"] for each in documents(path)] == [FIRST]
    rollout(tmp_path / "archived_sessions", meta(), asked("Q"), answered("A"), part=PART)
    assert (documents(path), reasons(path)) == ([], [])


@pytest.mark.parametrize("part", ["", PART])
def test_a_session_whose_file_has_gone_is_known_again(tmp_path: Path, part: str) -> None:
    base: dict[str, Any] = {"history_base": {"thread_id": FIRST, "end_ordinal_exclusive": 9}} if part else {}
    file = rollout(tmp_path / "sessions", meta(**base), asked("Q"), answered("A"), part=part)
    path = history(tmp_path, *talk(part or FIRST))
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, file, turn_ended=True)["filed"] == 1
        file.unlink()
        told = run(app, path, turn_ended=True)
        assert (told["filed"], told["moved"]) == (0, 1)


def test_sessions_that_the_program_began_are_left_out(tmp_path: Path) -> None:
    path = history(tmp_path, *talk(FIRST), *talk(SECOND))
    state(tmp_path, {"id": FIRST, "source": '{"subagent":"review"}'})
    (tmp_path / "state_6.sqlite").write_bytes(b"SQLite format 3\0 broken")
    assert [each.metadata["session_id"] for each in documents(path)] == [SECOND]


def test_what_is_not_as_expected_is_left_out(tmp_path: Path) -> None:
    path = history(tmp_path, *talk(FIRST))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP INDEX by_kind")
        for number, value in enumerate(
            ("{broken", "[]", '{"type": ["userMessage"]}', '{"type": "agentMessage"}', b"\xff")
        ):
            connection.execute("INSERT INTO thread_items VALUES (?, 't', ?, 9, 9, ?)", (FIRST, f"x{number}", value))
    assert [each.content for each in documents(path)] == [exchange("Q", "A")]
    other = tmp_path / "thread_history_2.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE thread_items (thread_id)")
    assert reasons(other) == [NOTHING]
    assert reasons(history(tmp_path, name="thread_history_3.sqlite")) == [NOTHING]


def test_the_database_is_found_and_known(tmp_path: Path) -> None:
    home = tmp_path / ".codex"
    path = history(home, *talk(FIRST))
    state(home)
    assert [place for _, place in histories(Machine(tmp_path))] == [path]
    moved = Machine(tmp_path, {"CODEX_SQLITE_HOME": str(tmp_path / "x")})
    assert [place for _, place in histories(moved)] == []
    copy = path.rename(tmp_path / "copy.sqlite")
    readers = [reader_of(Candidate(each)) for each in (copy, home / "state_5.sqlite")]
    assert [reader and reader.name for reader in readers] == ["codex", None]
