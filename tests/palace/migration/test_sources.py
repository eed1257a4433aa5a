"""Memories of server-memory, mcp-memory-service, claude-mem, basic-memory and Obsidian, and where they are found."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.palace.migration.items import Options
from mempalace_mcp.palace.migration.sources import find_memories, recognize
from mempalace_mcp.runtime.app import App
from tests.palace.migration.peer import PeerPalace
from tests.palace.migration.support import counts, drawer, migrate, traces
from tests.palace.support import opened


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path / "ours", started=False) as running:
        yield running


def lines(path: Path, *records: Any) -> Path:
    """A file of JSON lines; what is no object stands in it as it is."""
    written = [json.dumps(each, ensure_ascii=False) if isinstance(each, dict) else each for each in records]
    path.write_text("\n".join(written), encoding="utf-8")
    return path


def entity(name: str, kind: str = "person", *observations: Any) -> dict[str, Any]:
    return {"type": "entity", "name": name, "entityType": kind, "observations": list(observations)}


def relation(start: str, kind: str, end: str) -> dict[str, Any]:
    return {"type": "relation", "from": start, "to": end, "relationType": kind}


def test_a_knowledge_graph_in_json_lines(app: App, tmp_path: Path) -> None:
    path = lines(
        tmp_path / "memory.jsonl",
        relation("Lamp_Server", "is maintained by", "Ada"),
        entity("Lamp_Server", "machine", "stands in the cellar", "runs\nDebian 🙂"),
        '{"type":"entity","name":"broken',
        "[1, 2]",
        {"type": "entity", "name": "", "observations": []},
        entity("Ada"),
        {"type": "relation", "from": "Ada", "to": "", "relationType": "x"},
        {"type": "entity", "entityName": "Bob", "entityType": "", "observations": [{"content": "tall"}], "tags": ["x"]},
    )
    before = traces(tmp_path / "memory.jsonl")
    report, _ = migrate(app, path, wing="people")
    assert counts(report) == (3, 0, 3, 0)
    assert sorted(report["left_out"].values()) == [1, 3]
    found = drawer(app, "entity:Lamp_Server")
    assert found.content == "Lamp_Server\nstands in the cellar\nruns\nDebian 🙂"
    assert (found.wing, found.room, found.occurred_at) == ("people", "machine", None)
    facts = {(each.predicate, each.object) for each in app.palace.kg_query("Lamp_Server").facts}
    assert facts == {("is a", "machine"), ("is maintained by", "Ada")}
    assert drawer(app, "entity:Bob").content == "Bob\ntall"
    assert drawer(app, "entity:Bob").metadata["tags"] == ["x"]
    assert traces(tmp_path / "memory.jsonl") == before


def test_an_entity_that_has_grown_updates_its_drawer(app: App, tmp_path: Path) -> None:
    path = lines(tmp_path / "memory.jsonl", entity("Ada", "person", "one"))
    migrate(app, path)
    lines(path, entity("Ada", "person", "one", "two"), entity("Bob"))
    report, _ = migrate(app, path)
    assert (counts(report)[0], counts(report, "updated")[0]) == (1, 1)
    assert drawer(app, "entity:Ada").content == "Ada\none\ntwo"


def test_entities_of_one_name_in_one_file_and_in_two(app: App, tmp_path: Path) -> None:
    first = lines(tmp_path / "a.json", entity("Ada", "person", "one"), entity("Ada", "person", "two"))
    second = lines(tmp_path / "b.jsonl", entity("Ada", "person", "three"))
    for _ in range(2):
        migrate(app, first)
        report, _ = migrate(app, second)
    assert counts(report, "unchanged")[0] == 1
    contents = {each.content for each in app.palace.list_drawers(limit=10).items}
    assert contents == {"Ada\none", "Ada\ntwo", "Ada\nthree"}


def memory_service(path: Path) -> Path:
    """The database as version 10 makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE memories (id INTEGER PRIMARY KEY AUTOINCREMENT, content_hash TEXT UNIQUE NOT NULL,
                content TEXT NOT NULL, tags TEXT, memory_type TEXT, metadata TEXT, created_at REAL, updated_at REAL,
                created_at_iso TEXT, updated_at_iso TEXT, deleted_at REAL DEFAULT NULL, store TEXT DEFAULT 'default',
                parent_id TEXT, version INTEGER DEFAULT 1, confidence REAL, superseded_by TEXT);
            CREATE TABLE memory_graph (source_hash TEXT, target_hash TEXT, similarity REAL, connection_types TEXT,
                metadata TEXT, created_at REAL, relationship_type TEXT DEFAULT 'related');
            CREATE TABLE beliefs (id INTEGER PRIMARY KEY, belief_hash TEXT UNIQUE, content TEXT, confidence REAL,
                status TEXT, created_at TEXT, updated_at TEXT);
            INSERT INTO memories (content_hash, content, tags, memory_type, metadata, created_at, created_at_iso,
                                  deleted_at)
            VALUES ('h1', 'The kettle\nis größer 🙂', 'project:cellar,lamp', 'note', '{"a": 1}', 1770000000.5,
                    '2026-02-02T02:40:00.500000Z', NULL),
                   ('h2', 'A bulb', '["lamp", "light"]', NULL, 'broken', 1770000001, NULL, NULL),
                   ('h3', 'gone', NULL, NULL, NULL, NULL, NULL, 1770000002),
                   ('h4', '  ', NULL, NULL, NULL, NULL, NULL, NULL);
            INSERT INTO memory_graph VALUES ('h1', 'h2', 0.5, '[]', NULL, 1770000003, 'fixes'),
                ('h1', 'h2', 0.5, '[]', NULL, 1770000003, 'related'), ('h1', 'hx', 0.5, '[]', NULL, 1, 'causes');
            INSERT INTO beliefs VALUES (1, 'b1', 'Kettles are large', 0.8, 'active', '2026-03-01T00:00:00Z', NULL);
            """
        )
    return path


def test_memories_of_the_memory_service(app: App, tmp_path: Path) -> None:
    path = memory_service(tmp_path / "store" / "sqlite_vec.db")
    before = traces(path.parent)
    report, _ = migrate(app, path.parent)
    assert counts(report) == (3, 0, 1, 0)
    assert report["not_needed"] == {"deleted there": 1, "associations that were computed from similarity": 1}
    assert sum(report["left_out"].values()) == 2
    first, second = drawer(app, "h1"), drawer(app, "h2")
    assert (first.wing, first.room, first.content) == ("cellar", "note", "The kettle\nis größer 🙂")
    assert clock.format_optional_instant(first.occurred_at) == "2026-02-02T02:40:00.500000Z"
    assert (first.metadata["tags"], first.metadata["a"]) == (["project:cellar", "lamp"], 1)
    assert (second.wing, second.room, second.metadata["tags"]) == ("memories", "lamp", ["lamp", "light"])
    (fact,) = app.palace.kg_query("The kettle").facts
    assert (fact.predicate, fact.object, fact.source_drawer_id) == ("fixes", "A bulb", first.drawer_id)
    assert drawer(app, "belief:b1").room == "beliefs"
    assert traces(path.parent) == before


def test_long_memories_that_were_cut_are_whole_again(app: App, tmp_path: Path) -> None:
    path = memory_service(tmp_path / "sqlite_vec.db")
    text = "".join(
        f"Sentence {number} is about the lamp. " + "\n\n" * (number % 7 == 0) for number in range(100)
    ).strip()
    pieces, rest = [], text
    while rest:  # as its program does: at a space, with an overlap of 50 characters, without blanks at the edges
        cut = rest.rfind(" ", 0, 800) + 1 if len(rest) > 800 else len(rest)
        pieces.append(rest[:cut].rstrip())
        begin = cut if cut == len(rest) else rest.find(" ", cut - 50) + 1
        rest = rest[begin:].lstrip()
    assert len(pieces) > 3
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, piece in enumerate(pieces):
            details = {"chunk_index": number, "total_chunks": len(pieces), "original_hash": "whole"}
            connection.execute(
                "INSERT INTO memories (content_hash, content, metadata) VALUES (?, ?, ?)",
                (f"piece{number}", piece, json.dumps(details)),
            )
    report, _ = migrate(app, path)
    assert (counts(report)[0], report["pieces_joined"]) == (4, len(pieces) - 1)
    assert drawer(app, "piece0").content == drawer(app, "piece2").content == text


def test_an_older_memory_service_and_its_export(app: App, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE memories (content_hash TEXT, content TEXT, tags TEXT, created_at REAL)")
        connection.execute("INSERT INTO memories VALUES ('h1', 'old', 'a', 1600000000)")
    report, _ = migrate(app, path)
    assert counts(report)[0] == 1
    memories = [{"content_hash": "h2", "content": "exported", "tags": ["b"], "created_at": 1600000000}, "no memory"]
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"export_metadata": {"total_memories": 2}, "memories": memories}))
    report, _ = migrate(app, export)
    assert (counts(report)[0], sum(report["left_out"].values())) == (1, 1)
    assert drawer(app, "h2").content == "exported"


def test_observations_of_claude_mem(app: App, tmp_path: Path) -> None:
    path = tmp_path / "claude-mem.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE sdk_sessions (id INTEGER PRIMARY KEY, content_session_id TEXT, project TEXT);
            CREATE TABLE observations (id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT, text TEXT,
                type TEXT, title TEXT, subtitle TEXT, facts TEXT, narrative TEXT, concepts TEXT, files_read TEXT,
                files_modified TEXT, merged_into_project TEXT, created_at TEXT, created_at_epoch INTEGER);
            CREATE TABLE session_summaries (id INTEGER PRIMARY KEY, project TEXT, request TEXT, learned TEXT,
                next_steps TEXT, created_at TEXT, created_at_epoch INTEGER);
            CREATE TABLE user_prompts (id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_text TEXT,
                created_at_epoch INTEGER);
            INSERT INTO sdk_sessions VALUES (1, 's1', 'lamp');
            INSERT INTO observations VALUES
                (1, 's', 'lamp', NULL, 'bugfix', 'Fuse', 'blown', '["a fuse", "of 10 A"]', 'It was the fuse.',
                 '["how"]', '[]', '["a.py"]', NULL, '2026-05-01T00:00:00Z', 1770000000500),
                (2, 's', 'lamp', 'Only text', 'old', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'house', NULL, NULL),
                (3, 's', 'lamp', NULL, 'x', NULL, NULL, 'broken', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
            INSERT INTO session_summaries VALUES (1, 'lamp', 'Fix it', 'Fuses blow', NULL, '2026-05-01T10:00Z', NULL);
            INSERT INTO user_prompts VALUES (1, 's1', 'please fix the lamp', 1770000000000);
            """
        )
    before = traces(path)
    report, _ = migrate(app, tmp_path)
    assert counts(report)[0] == 4
    assert report["left_out"] == {"a record has no text": 1}
    first = drawer(app, "observations:1")
    assert first.content == "Fuse\n\nblown\n\nIt was the fuse.\n\n- a fuse\n- of 10 A"
    assert (first.wing, first.room, first.metadata["files_modified"]) == ("lamp", "bugfix", ["a.py"])
    assert clock.format_optional_instant(first.occurred_at) == "2026-02-02T02:40:00.500000Z"
    assert (drawer(app, "observations:2").wing, drawer(app, "observations:2").content) == ("house", "Only text")
    assert drawer(app, "session_summaries:1").content == "Request: Fix it\n\nLearned: Fuses blow"
    assert (drawer(app, "user_prompts:1").wing, drawer(app, "user_prompts:1").room) == ("lamp", "prompts")
    assert traces(path) == before


NOTE = """\
---
title: Cellar lamp
type: note
permalink: house/cellar-lamp
tags: [light, cellar]
created: 2026-03-02
---
- [fact] needs an E14 bulb #parts (checked in spring)
- powered_by [[Fuse Box]] (north wall)
- "is next to" [[Boiler|the boiler]]
- [x] [[Done]]
Some prose about [[Kettle#Lid]] and [[Kettle]].
```
- in_code [[Nothing]]
```
"""


def write(folder: Path, notes: dict[str, str]) -> Path:
    for name, content in notes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode())
    return folder


def test_a_project_of_basic_memory(app: App, tmp_path: Path) -> None:
    bare = "---\npermalink: house/cellar-lamp\n---\nThe same permalink.\n"
    folder = write(tmp_path / "notes", {"house/lamp.md": NOTE, "house/other.md": bare, "plain.md": "No properties.\n"})
    before = traces(folder)
    report, _ = migrate(app, folder)
    assert counts(report)[0] == 3
    lamp = drawer(app, "house/cellar-lamp")
    assert (lamp.content, lamp.wing, lamp.room) == (NOTE, "notes", "house")
    assert clock.format_optional_instant(lamp.occurred_at) == "2026-03-02T00:00:00Z"
    assert lamp.metadata["title"] == "Cellar lamp"
    assert drawer(app, "house/other.md").content == bare
    facts = {(each.predicate, each.object) for each in app.palace.kg_query("Cellar lamp").facts}
    assert facts == {
        ("powered_by", "Fuse Box"),
        ("is next to", "Boiler"),
        ("links_to", "Done"),
        ("links_to", "Kettle"),
    }
    again, _ = migrate(app, folder)
    assert (counts(again), counts(again, "unchanged")[0]) == ((0, 0, 0, 0), 3)
    assert traces(folder) == before


def test_a_vault_of_obsidian(app: App, tmp_path: Path) -> None:
    long = "# Long\n\n" + "".join(f"## Part {number}\n\n{'words ' * 900}\n\n" for number in range(8))
    vault = write(
        tmp_path / "My Vault",
        {
            ".obsidian/app.json": "{}",
            ".trash/gone.md": "deleted",
            "a.md": "---\ntags: [a: b: c\n\tbad: {{date}}\n---\nInvalid YAML.\n",
            "people/Ada.md": "Ada knows [[Bob]].\r\nCRLF stays.\r\n",
            "drawing.excalidraw.md": "{}",
            "note (conflicted copy 2026-01-01).md": "copy",
            "empty.md": "",
            "board.canvas": "{}",
            "long.md": long,
        },
    )
    before = traces(vault)
    report, checked = migrate(app, vault)
    assert (counts(report)[1:], checked.same) == ((0, 0, 0), counts(report)[0])
    ada = drawer(app, "people/Ada.md")
    assert (ada.content, ada.wing, ada.room) == ("Ada knows [[Bob]].\r\nCRLF stays.\r\n", "My Vault", "people")
    assert "Invalid YAML." in drawer(app, "a.md").content
    assert report["left_out"] == {"a copy from a conflict between machines": 1}
    assert (report["not_needed"]["a drawing"], report["not_needed"]["no text"]) == (1, 1)
    parts = [each for each in app.palace.list_drawers(limit=50).items if each.metadata["old_id"].startswith("long.md#")]
    assert len(parts) > 1
    assert "".join(sorted((each.content for each in parts), key=long.index)) == long
    assert traces(vault) == before
    (vault / "people" / "Ada.md").write_text("Ada knows nobody.\n")
    report, _ = migrate(app, vault)
    assert (counts(report, "updated")[0], drawer(app, "people/Ada.md").content) == (1, "Ada knows nobody.\n")


def test_a_vault_of_basic_memory_is_read_with_its_relations(tmp_path: Path) -> None:
    folder = write(tmp_path / "both", {".obsidian/app.json": "{}", "lamp.md": NOTE})
    assert recognize(folder).name == "basic-memory"


def test_memories_in_their_usual_places_are_found(tmp_path: Path) -> None:
    home = tmp_path / "home"
    peer = PeerPalace.make(home / ".mempalace" / "palace")
    memory_service(home / ".local/share/mcp-memory/sqlite_vec.db")
    installed = home / ".npm/_npx/1a2b/node_modules/@modelcontextprotocol/server-memory/dist"
    installed.mkdir(parents=True)
    lines(installed / "memory.jsonl", entity("Ada"))
    vault = write(home / "vault", {".obsidian/app.json": "{}", "a.md": "a"})
    project = write(home / "basic", {"lamp.md": NOTE})
    for file, content in (
        (
            home / ".config/obsidian/obsidian.json",
            {"vaults": {"1": {"path": str(vault)}, "2": {"path": "/gone"}, "3": 3}},
        ),
        (home / ".basic-memory/config.json", {"projects": {"main": str(project), "b": {"path": str(project)}}}),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    environment = {"MEMORY_FILE_PATH": str(lines(tmp_path / "mine.jsonl", entity("Bob")))}
    before = traces(tmp_path)
    found = [(each.source.name, each.path) for each in find_memories(Options(environment=environment, home=home))]
    assert found == [
        ("mempalace", peer.folder),
        ("mcp-memory-service", home / ".local/share/mcp-memory/sqlite_vec.db"),
        ("server-memory", tmp_path / "mine.jsonl"),
        ("server-memory", installed / "memory.jsonl"),
        ("basic-memory", project),
        ("obsidian", vault),
    ]
    assert traces(tmp_path) == before
    assert not list(find_memories(Options(home=tmp_path / "nobody")))
    assert not list(find_memories(Options()))


@pytest.mark.parametrize("content", [b"", b"text", b"{}", b"[]", b'{"type":"entity"}', b"\xff\xfe\0", b"[" * 50_000])
def test_files_that_are_no_memory(tmp_path: Path, content: bytes) -> None:
    for name in ("memory.jsonl", "claude-mem.db", "sqlite_vec.db", "chroma.sqlite3", "export.json"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InvalidArgument, match="no memory"):
            recognize(path)
        path.unlink()
        with pytest.raises(NotFound):
            recognize(path)


def test_a_vault_that_is_imported_after_or_before_is_not_filed_twice(app: App, tmp_path: Path) -> None:
    first = write(tmp_path / "first", {".obsidian/app.json": "{}", "people/Ada.md": "Ada.\n", "b.md": "B.\n"})
    migrate(app, first)
    assert sum(step.filed for step in app.palace.import_paths([first])) == 0
    second = write(tmp_path / "second", {".obsidian/app.json": "{}", "people/Ada.md": "Ada.\n"})
    assert sum(step.filed for step in app.palace.import_paths([second])) == 1
    report, _ = migrate(app, second)
    assert (counts(report)[0], counts(report, "unchanged")[0]) == (0, 1)
