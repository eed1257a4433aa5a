"""A format is a reader in a table: its files are found, recognized and read, each conversation in its own wing."""

from __future__ import annotations

import json
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import readers
from mempalace_mcp.palace.importers.claude_code import CLAUDE_CODE
from mempalace_mcp.palace.importers.conversations import Session, Speaker, Turn, read_conversation, read_note
from mempalace_mcp.palace.importers.documents import Document, Problem, Source
from mempalace_mcp.palace.importers.file_state import state_of
from mempalace_mcp.palace.importers.files import open_regular_file
from mempalace_mcp.palace.importers.reader import HEAD_BYTES, Candidate, Machine, Reader
from mempalace_mcp.palace.importers.readers import READERS, histories
from tests.palace.importers.support import assistant, found, user, write_transcript
from tests.palace.support import opened
from tests.palace.test_importing import run


def read_tern(source: Source) -> Iterator[Document | Problem]:
    with os.fdopen(open_regular_file(source.path), "rb") as file:
        chats = json.load(file)["tern"]
    for chat in chats:
        session = Session("tern", chat["id"], wing=chat.get("project"), cwd=chat.get("cwd"))
        turns = [Turn(Speaker(who), text, message_id=str(number)) for number, (who, text) in enumerate(chat["turns"])]
        if source.include_tools:
            turns.append(Turn(Speaker.TOOL, f"output of {chat['id']}"))
        yield from read_conversation(source, session, turns, is_ended=True)
        yield from read_note(source, f"tern:note:{chat['id']}", chat["note"], wing="Notes", room="memory")


def tern_places(machine: Machine) -> Iterable[Path]:
    yield machine.folder("TERN_HOME", machine.home / ".tern") / "chats"


TERN = Reader(
    "tern",
    "Tern",
    frozenset({".json"}),
    lambda candidate: '"tern"' in candidate.text,
    read_tern,
    tern_places,
    frozenset({".tern-history"}),
)


@pytest.fixture
def tern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "READERS", (TERN, CLAUDE_CODE))
    monkeypatch.setattr("mempalace_mcp.palace.importers.discovery.HIDDEN_NAMES", TERN.hidden_names)


def chat(name: str, **fields: str) -> dict[str, object]:
    turns = [("User", f"Question of {name}"), ("Assistant", f"Answer to {name}")]
    return {"id": name, "note": f"Memory of {name}", "turns": turns, **fields}


@pytest.mark.usefixtures("tern")
def test_each_conversation_of_a_file_is_in_its_own_wing(tmp_path: Path) -> None:
    chats = [chat("roses", project="Garden"), chat("lamps", cwd="/srv/lighthouse"), chat("loose")]
    export = tmp_path / "folder" / "export.json"
    export.parent.mkdir()
    export.write_text(json.dumps({"tern": chats}), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, export.parent)["filed"] == 6
        places = {
            item.content.splitlines()[0]: (item.wing, item.room) for item in app.palace.list_drawers(limit=100).items
        }
        assert places == {
            "User: Question of roses": ("Garden", "tern"),
            "User: Question of lamps": ("lighthouse", "tern"),
            "User: Question of loose": ("tern", "tern"),
            "Memory of roses": ("Notes", "memory"),
            "Memory of lamps": ("Notes", "memory"),
            "Memory of loose": ("Notes", "memory"),
        }
        again = run(app, export.parent)
        assert (again["filed"], again["unchanged"]) == (0, 6)
        moved = export.rename(tmp_path / "folder" / "another name.json")
        told = run(app, moved)
        assert (told["filed"], told["unchanged"], told["moved"]) == (0, 0, 6)


@pytest.mark.usefixtures("tern")
def test_the_wing_that_is_asked_for_holds_everything(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"tern": [chat("roses", project="Garden")]}), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, export, wing="mine")
        assert {item.wing for item in app.palace.list_drawers(limit=100).items} == {"mine"}
        assert run(app, export, wing="other")["elsewhere"] == {"mine": 2}


@pytest.mark.usefixtures("tern")
def test_what_tools_returned_is_filed_when_it_is_asked_for(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"tern": [chat("roses")]}), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, export)
        run(app, export)
        told = run(app, export, include_tools=True)
        assert (told["filed"], told["updated"]) == (0, 1)
        contents = {item.content for item in app.palace.list_drawers(limit=100).items}
        assert "User: Question of roses\n\nAssistant: Answer to roses\n\nTool: output of roses" in contents
        assert run(app, export)["updated"] == 0


@pytest.mark.usefixtures("tern")
def test_folders_are_searched_for_files_of_the_readers(tmp_path: Path) -> None:
    for name in ("a.json", ".tern-history", ".other", "c.yaml"):
        (tmp_path / name).write_text('{"tern": []}', encoding="utf-8")
    (tmp_path / "package.json").write_text('{"name": "lamp"}', encoding="utf-8")
    assert found(tmp_path) == [".tern-history", "a.json"]


@pytest.mark.usefixtures("tern")
def test_histories_are_found_where_a_machine_keeps_them(tmp_path: Path) -> None:
    (tmp_path / ".claude" / "projects").mkdir(parents=True)
    (tmp_path / "birds" / "chats").mkdir(parents=True)
    machine = Machine(tmp_path, {"TERN_HOME": str(tmp_path / "birds")})
    assert list(histories(machine)) == [
        (TERN, tmp_path / "birds" / "chats"),
        (CLAUDE_CODE, tmp_path / ".claude" / "projects"),
    ]
    assert [place for _, place in histories(Machine(tmp_path))] == [tmp_path / ".claude" / "projects"]


def test_names_of_readers_are_unique_and_fit_into_keys() -> None:
    names = [reader.name for reader in READERS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and ":" not in name and " " not in name for name in names)


def test_a_candidate_shows_its_beginning(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("A"), "broken", "[1]", assistant("B"))
    candidate = Candidate(path)
    assert [record["type"] for record in candidate.records] == ["user", "assistant"]
    path = write_transcript(tmp_path / "long.jsonl", user("A"), user("x" * HEAD_BYTES))
    assert len(Candidate(path).records) == 1
    missing = Candidate(tmp_path / "missing.jsonl")
    assert (missing.head, missing.records, missing.members, missing.is_database) == (b"", [], (), False)


def test_a_candidate_knows_archives_and_databases(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("conversations.json", "[]")
    assert Candidate(tmp_path / "a.zip").members == ("conversations.json",)
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:40])
    assert Candidate(tmp_path / "b.zip").members == ()
    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("CREATE TABLE birds (name)")
    connection.close()
    assert Candidate(tmp_path / "c.db").is_database


def test_a_database_whose_log_grows_has_changed(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE birds (name)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = state_of(tmp_path / "c.db")
    connection.execute("INSERT INTO birds VALUES ('tern')")
    assert state_of(tmp_path / "c.db") != before
    connection.close()
