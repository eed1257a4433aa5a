"""Sessions of OpenCode: the database of both versions, and the files of earlier ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.documents import Document
from mempalace_mcp.palace.importers.opencode import DAMAGED, SUBAGENT
from mempalace_mcp.palace.importers.reader import Candidate, Machine
from mempalace_mcp.palace.importers.readers import histories, reader_of
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.support import documents, found, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

Json = dict[str, Any]

NOON = 1_790_841_600_000
SCHEMA = """
CREATE TABLE `session` (`id` text PRIMARY KEY, `project_id` text, `parent_id` text, `directory` text, `title` text,
  `time_created` integer, `time_updated` integer);
CREATE TABLE `message` (`id` text PRIMARY KEY, `session_id` text, `time_created` integer, `data` text);
CREATE TABLE `part` (`id` text PRIMARY KEY, `message_id` text, `session_id` text, `data` text);
CREATE TABLE `session_message` (`id` text PRIMARY KEY, `session_id` text, `type` text, `seq` integer,
  `time_created` integer, `time_updated` integer, `data` text);
"""
LATER = "CREATE TABLE `session_v2` AS SELECT *, 0 AS time_idle FROM session WHERE 0;"


class Store:
    """A database as the program writes it."""

    def __init__(self, path: Path, later: bool = False) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.executescript(SCHEMA + (LATER if later else ""))
        self.parts = 0

    def session(self, name: str, table: str = "session", parent: str | None = None, title: str = "Piers") -> None:
        row = (name, "p", parent, "/srv/quay", title, NOON, NOON)
        columns = "id, project_id, parent_id, directory, title, time_created, time_updated"
        self.connection.execute(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def message(self, name: str, role: str, *parts: Any, session: str = "ses_1", second: int = 1, **about: Any) -> None:
        data = {"role": role, "time": {"created": NOON + second * 1_000, "completed": NOON}, "modelID": "m", **about}
        self.connection.execute("INSERT INTO message VALUES (?, ?, ?, ?)", (name, session, NOON, json.dumps(data)))
        for part in parts:
            self.parts += 1
            data = {"type": "text", "text": part} if isinstance(part, str) else part
            row = (f"prt_{self.parts:03}", name, session, json.dumps(data))
            self.connection.execute("INSERT INTO part VALUES (?, ?, ?, ?)", row)

    def later(self, name: str, kind: str, seq: int, session: str = "ses_1", **data: Any) -> None:
        row = (name, session, kind, seq, NOON + seq * 1_000, NOON, json.dumps(data))
        self.connection.execute("INSERT INTO session_message VALUES (?, ?, ?, ?, ?, ?, ?)", row)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "opencode.db")
    with closing(made.connection):
        yield made


def contents(path: Path, include_tools: bool = False) -> list[str]:
    return [each.content for each in read_real(path, include_tools=include_tools) if isinstance(each, Document)]


def exchange(question: str, answer: str) -> str:
    return f"User: {question}\n\nAssistant: {answer}"


TOOL = {"type": "tool", "tool": "bash", "state": {"status": "completed", "output": "ledger.csv"}}


def test_a_session_is_filed_by_exchange(store: Store) -> None:
    store.session("ses_1")
    store.message("msg_1", "user", "Who owns pier 4?", {"type": "text", "text": "<file>", "synthetic": True})
    answer = ({"type": "step-start"}, {"type": "reasoning", "text": "hm"}, "I look.", TOOL, {"type": "step-finish"})
    store.message("msg_2", "assistant", *answer, finish="tool-calls")
    ignored = {"type": "text", "text": "no", "ignored": True}
    store.message("msg_3", "assistant", "The harbour.", "Of the town.", ignored, second=2, finish="stop")
    store.message("msg_4", "user", {"type": "compaction"}, second=3)
    store.message("msg_5", "assistant", "They spoke of piers.", second=3, summary=True)
    store.message("msg_6", "user", {"type": "text", "text": "Continue", "synthetic": True}, second=3)
    store.message("msg_7", "user", "Since when?", second=4, summary={"diffs": []})
    store.message("msg_8", "assistant", "1911.", second=5)
    before = sorted(path.name for path in store.path.parent.iterdir())
    first, second = documents(store.path)
    assert first.content == exchange("Who owns pier 4?", "I look.\n\nThe harbour.\n\nOf the town.")
    assert second.content == exchange("Since when?", "1911.")
    assert (first.wing, first.room, first.occurred_at) == ("quay", "opencode", (NOON + 1_000) * 1_000)
    assert not second.may_grow
    assert first.metadata == {
        "agent": "opencode",
        "session_id": "ses_1",
        "message_id": "msg_1",
        "cwd": "/srv/quay",
        "title": "Piers",
        "model": "m",
        "source_format": "opencode",
    }
    assert "Tool: ledger.csv" in contents(store.path, include_tools=True)[0]
    assert sorted(path.name for path in store.path.parent.iterdir()) == before


def test_an_answer_that_is_being_written_may_grow(store: Store) -> None:
    store.session("ses_1", title="New session - 2026-10-01T08:00:00.000Z")
    store.message("msg_1", "user", "Who?")
    store.message("msg_2", "assistant", "Mir", time={"created": NOON})
    (document,) = documents(store.path)
    assert document.may_grow
    assert document.metadata["title"] == "Who?"
    with opened(store.path.parent / "palace", started=False) as app:
        run(app, store.path, turn_ended=True)
        assert run(app, store.path, turn_ended=True)["unchanged"] == 1
        store.connection.execute(
            "UPDATE part SET data = ? WHERE message_id = 'msg_2'", ('{"type":"text","text":"Mira."}',)
        )
        store.session("ses_2")
        store.message("msg_3", "user", "And?", session="ses_2")
        told = run(app, store.path, turn_ended=True)
        assert (told["filed"], told["updated"]) == (1, 1)
        assert {item.content for item in app.palace.list_drawers().items} == {exchange("Who?", "Mira."), "User: And?"}


def test_sessions_of_sub_agents_are_left_out(store: Store) -> None:
    store.session("ses_1", parent="ses_0")
    store.message("msg_1", "user", "Look")
    assert (contents(store.path), reasons(store.path)) == ([], ["no conversations"])


def test_sessions_of_version_2_are_read_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "opencode.db", later=True)
    with closing(store.connection):
        for name in ("ses_1", "ses_2"):
            store.session(name)
        store.session("ses_1", "session_v2")
        store.session("ses_3", "session_v2", parent="ses_1")
        store.message("msg_1", "user", "Who owns pier 4?")
        store.message("msg_9", "user", "Made later by version 1", session="ses_2")
        store.later(
            "msg_2",
            "assistant",
            3,
            content=[
                {"type": "reasoning", "text": "hm"},
                {"type": "text", "text": "The harbour."},
                {"type": "tool", "state": {"content": [{"type": "text", "text": "ledger.csv"}]}},
            ],
            model={"id": "m2"},
            time={"created": NOON, "completed": NOON},
        )
        store.later("msg_1", "user", 1, text="Who owns pier 4?", files=[])
        for number, kind in enumerate(("system", "synthetic", "skill", "shell", "compaction", "agent-switched"), 4):
            store.later(f"x{number}", kind, number, text="Not said", summary="They spoke")
        store.later("msg_8", "user", 1, session="ses_3", text="Of a sub-agent")
        assert contents(store.path) == [exchange("Who owns pier 4?", "The harbour."), "User: Made later by version 1"]
        assert "Tool: ledger.csv" in contents(store.path, include_tools=True)[0]
        assert documents(store.path)[0].occurred_at == (NOON + 1_000) * 1_000


def test_the_tables_of_version_2_may_have_the_names_of_version_1(store: Store) -> None:
    store.session("ses_1")
    store.later("msg_1", "user", 1, text="Who?")
    store.later("msg_2", "assistant", 2, content=[{"type": "text", "text": "Mira."}])
    assert contents(store.path) == [exchange("Who?", "Mira.")]


def test_damaged_messages_are_counted(store: Store) -> None:
    store.session("ses_1")
    store.message("msg_1", "user", "Who?")
    store.message("msg_2", "assistant", "Mira.", {"type": ["text"], "text": 7}, time="x", modelID=7)
    store.connection.execute("INSERT INTO message VALUES ('msg_3', 'ses_1', 1, '{broken')")
    store.connection.execute("INSERT INTO part VALUES ('prt_x', 'msg_2', 'ses_1', '[]')")
    assert (contents(store.path), reasons(store.path)) == ([exchange("Who?", "Mira.")], [DAMAGED])
    bare = store.path.with_name("opencode-bare.db")
    with closing(sqlite3.connect(bare)) as connection:
        connection.execute("CREATE TABLE session (id TEXT)")
    assert reasons(bare) == ["no conversations"]
    bare.write_bytes(bare.read_bytes()[:3_000])
    assert reasons(bare) == ["a database that is damaged or of an unknown version"]


def files(root: Path, **about: Any) -> Path:
    """A session in files, as earlier versions wrote it."""
    written = {
        "session/p1/ses_1": {
            "id": "ses_1",
            "projectID": "p1",
            "directory": "/srv/quay",
            "title": "Piers",
            "time": {"created": NOON},
            **about,
        },
        "message/ses_1/msg_1": {"id": "msg_1", "role": "user", "time": {"created": NOON + 1_000}},
        "message/ses_1/msg_2": {"id": "msg_2", "role": "assistant", "time": {"created": NOON, "completed": NOON}},
        "part/msg_1/prt_1": {"type": "text", "text": "Who?"},
        "part/msg_2/prt_2": {"type": "text", "text": "Mira."},
        "part/msg_2/prt_3": TOOL,
    }
    for name, value in written.items():
        path = root / "storage" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return root / "storage" / "session" / "p1" / "ses_1.json"


def test_sessions_in_files_are_read(tmp_path: Path, store: Store) -> None:
    path = files(tmp_path)
    assert contents(path) == [exchange("Who?", "Mira.")]
    assert found(tmp_path / "storage") == ["ses_1.json"]
    (document,) = documents(path)
    assert (document.wing, document.occurred_at, document.may_grow) == ("quay", (NOON + 1_000) * 1_000, False)
    store.session("ses_1")
    store.message("msg_1", "user", "Who?")
    store.message("msg_2", "assistant", "Mira.")
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path, turn_ended=True)["filed"] == 1
        assert run(app, store.path, turn_ended=True)["filed"] == 0
    (tmp_path / "storage" / "part" / "msg_2" / "prt_2.json").write_text("{broken")
    assert (contents(path), reasons(path)) == (["User: Who?"], [DAMAGED])
    assert reasons(files(tmp_path, parentID="ses_0")) == [SUBAGENT]
    assert reasons(files(tmp_path, id="../../message")) == ["no text"]


def test_a_database_is_known_by_what_it_holds(store: Store) -> None:
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = store.path.with_name("of another name.db")
    copy.write_bytes(store.path.read_bytes())
    other = store.path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE message (id)")
    recognized = {path.name: reader_of(Candidate(path)) for path in (store.path, copy, other)}
    assert {name: reader and reader.name for name, reader in recognized.items()} == {
        "opencode.db": "opencode",
        "of another name.db": "opencode",
        "other.db": None,
    }


def test_sessions_are_found_where_the_program_keeps_them(tmp_path: Path) -> None:
    home = tmp_path / ".local" / "share" / "opencode"
    (home / "storage" / "session").mkdir(parents=True)
    for name in ("opencode.db", "opencode-beta.db", "other.db"):
        (home / name).touch()
    places = [place for reader, place in histories(Machine(tmp_path)) if reader.name == "opencode"]
    assert places == [home / "opencode-beta.db", home / "opencode.db", home / "storage" / "session"]
    machine = Machine(tmp_path / "x", {"OPENCODE_DB": str(home / "other.db")})
    assert [place for reader, place in histories(machine) if reader.name == "opencode"] == [home / "other.db"]
