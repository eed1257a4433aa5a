"""Palaces of MemPalace 3.x."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.palace.migration.sources import recognize
from mempalace_mcp.runtime.app import App
from tests.palace.migration.peer import PeerPalace
from tests.palace.migration.support import counts, drawer, migrate, traces
from tests.palace.support import opened

LONG = "".join(f"Line {number}: größer, 日本, 🙂  \n\n" for number in range(300))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path / "ours", started=False) as running:
        yield running


@pytest.fixture
def peer(tmp_path: Path) -> PeerPalace:
    return PeerPalace.make(tmp_path / "theirs" / "palace")


def test_drawers_come_verbatim_and_pieces_are_joined(app: App, peer: PeerPalace) -> None:
    texts = {
        "drawer_a": "short",
        "drawer_b": LONG,
        "drawer_c": "x" * 800,
        "drawer_d": "y" * 801,
        "drawer_e": " \n z\t\n",
    }
    for id, text in texts.items():
        peer.add_drawer(id, text, wing=f"wing {id}", source_file="/notes/a.md")
    before = traces(peer.folder.parent)
    report, checked = migrate(app, peer.folder)
    assert counts(report) == (5, 0, 0, 0)
    assert (checked.same, checked.edited, checked.deleted) == (5, 0, 0)
    for id, text in texts.items():
        found = drawer(app, id)
        assert (found.content, found.wing, found.room) == (text, f"wing {id}", "cellar")
        assert (found.source_file, found.added_by) == ("/notes/a.md", "mcp")
        assert found.metadata["old_id"] == id
    assert drawer(app, "drawer_b_chunk_000003").drawer_id == drawer(app, "drawer_b").drawer_id
    assert traces(peer.folder.parent) == before
    again, _ = migrate(app, peer.folder)
    assert counts(again) == (0, 0, 0, 0)
    assert counts(again, "unchanged") == (5, 0, 0, 0)


def test_pieces_of_one_drawer_may_lie_apart_and_out_of_order(app: App, peer: PeerPalace) -> None:
    for number in (2, 0, 11, 1, *range(3, 11)):
        peer.add(f"a_chunk_{number:06d}", f"<{number}>", wing="w", room="r", chunk_index=number, parent_drawer_id="a")
        peer.add_drawer(f"other{number}", f"between {number}")
    migrate(app, peer.folder)
    assert drawer(app, "a").content == "".join(f"<{number}>" for number in range(12))


def test_nothing_is_guessed_where_a_piece_is_missing(app: App, peer: PeerPalace) -> None:
    for number in (0, 1, 3):
        peer.add(f"a_chunk_{number:06d}", f"<{number}>", wing="w", room="r", chunk_index=number, parent_drawer_id="a")
    migrate(app, peer.folder)
    assert drawer(app, "a").content == "<0><1>"
    assert drawer(app, "a_chunk_000003").content == "<3>"


def mined(peer: PeerPalace, text: str, *, size: int = 800, overlap: int = 100, file: str = "/notes/mined.md") -> None:
    """Cut a file as its miner does: with an overlap, at a line end where there is one, without white space at the
    edges."""
    text, start, number = text.strip(), 0, 0
    records: list[tuple[str, str | None, dict[str, Any]]] = []
    while start < len(text):
        end = min(start + size, len(text))
        newline = text.rfind("\n", start + size // 2, end)
        end = newline if newline > 0 and end < len(text) else end
        fields = {"wing": "w", "room": "r", "source_file": file, "chunk_index": number, "source_mtime": 1.5}
        records.append((f"mined_{file}_{number}", text[start:end].strip(), {**fields, "added_by": "mempalace"}))
        number += 1
        start = end - overlap if end < len(text) else end
    peer.add_all(records)


@pytest.mark.parametrize("overlap", [100, 50, 200])
def test_mined_files_are_whole_again(app: App, peer: PeerPalace, overlap: int) -> None:
    chance = random.Random(overlap)
    texts = {}
    for number in range(20):
        words = (f"{chance.randrange(10**6)}" + chance.choice((" ", "\n", "\n\n", ". ")) for _ in range(600))
        texts[f"/notes/{number}.md"] = "".join(words).strip()
    for file, text in texts.items():
        mined(peer, text, file=file, overlap=overlap)
    report, _ = migrate(app, peer.folder)
    assert counts(report)[0] == 20
    for file, text in texts.items():
        assert drawer(app, f"mined_{file}_0").content == text
        assert drawer(app, f"mined_{file}_2").content == text


def test_mined_pieces_that_do_not_overlap_stay_apart(app: App, peer: PeerPalace) -> None:
    for number, text in enumerate(("the first piece ends here", "a second one begins anew")):
        peer.add(f"m{number}", text, wing="w", room="r", source_file="/f", chunk_index=number, source_mtime=2.0)
    migrate(app, peer.folder)
    assert [drawer(app, f"m{number}").content for number in (0, 1)] == [
        "the first piece ends here",
        "a second one begins anew",
    ]


def test_exchanges_of_conversations_stay_apart(app: App, peer: PeerPalace) -> None:
    for number in range(3):
        fields: dict[str, Any] = {
            "source_file": "/chat.jsonl",
            "chunk_index": number,
            "source_mtime": 2.0,
            "ingest_mode": "convos",
        }
        peer.add(
            f"c{number}",
            f"> question {number}\nanswer",
            wing="w",
            room="r",
            authored_at="2026-05-01T10:00:00Z",
            **fields,
        )
    report, _ = migrate(app, peer.folder)
    assert counts(report)[0] == 3
    assert clock.format_optional_instant(drawer(app, "c2").occurred_at) == "2026-05-01T10:00:00Z"


def test_what_is_computed_is_not_needed_and_counted(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("a", "text")
    for number in range(4):
        peer.add(f"closet{number}", "summary", segment="c")
    peer.add("_reg_1", "registry", is_sentinel=True, ingest_mode="registry")
    peer.add("sentinel_w_2", "skipped file")
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (1, 0, 0, 0)
    assert sorted(report["not_needed"].values()) == [2, 4]
    assert not report["left_out"]


def test_what_stands_in_the_queue_alone(app: App, peer: PeerPalace) -> None:
    for id in ("kept", "changed", "deleted"):
        peer.add_drawer(id, f"{id} before")
    with closing(sqlite3.connect(peer.chroma)) as connection, connection:
        connection.execute("UPDATE max_seq_id SET seq_id = 10")
    peer.queue(9, 2, "kept", "an operation that the tables have already")
    peer.queue(11, 2, "changed", "changed after")
    peer.queue(12, 3, "deleted")
    peer.queue(13, 0, "new", "only queued", wing="home", room="attic", filed_at="2026-04-01T00:00:00")
    for seq, number in ((14, 1), (15, 0)):
        part = {"wing": "w", "room": "r", "chunk_index": number, "parent_drawer_id": "long"}
        peer.queue(seq, 0, f"long_chunk_00000{number}", f"<{number}>", **part)
    half = {"wing": "w", "room": "r", "parent_drawer_id": "half"}
    peer.add("half_chunk_000000", "<half ", chunk_index=0, **half)
    peer.queue(16, 0, "half_chunk_000001", "whole>", chunk_index=1, **half)
    report, _ = migrate(app, peer.folder)
    assert drawer(app, "kept").content == "kept before"
    assert (drawer(app, "changed").content, drawer(app, "changed").room) == ("changed after", "cellar")
    assert (drawer(app, "new").content, drawer(app, "new").room) == ("only queued", "attic")
    assert (drawer(app, "long").content, drawer(app, "half").content) == ("<0><1>", "<half whole>")
    assert counts(report)[0] == 5
    with pytest.raises(InvalidArgument):
        app.palace.get_drawers(["deleted"])


def test_diaries_are_diaries_again(app: App, peer: PeerPalace) -> None:
    own = app.palace.diary_write("ada", "written here")
    peer.add_entry("entry1", "first", "ada", "2026-01-01T10:00:00")
    peer.add_entry("entry2", LONG, "ada", "2026-02-01T10:00:00", topic="plans")
    peer.add_entry("entry3", "of another", "bob", "2026-03-01T10:00:00")
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (0, 3, 0, 0)
    page = app.palace.diary_read("ada")
    assert [(each.content, each.topic) for each in page.items] == [
        ("written here", "general"),
        (LONG, "plans"),
        ("first", "work"),
    ]
    assert page.items[0].drawer_id == own.drawer_id
    assert clock.format_instant(page.items[2].written_at) == "2026-01-01T10:00:00Z"
    first = app.palace.diary_read("ada", last_n=1)
    second = app.palace.diary_read("ada", last_n=1, cursor=first.next_cursor)
    assert second.items[0].content == LONG
    assert drawer(app, "entry2").wing == "wing_ada"


def test_times_without_a_zone_are_local(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("summer", "a", filed_at="2026-07-01T10:00:00.5")
    peer.add_drawer("winter", "b", filed_at="2026-01-01T10:00:00")
    peer.add_drawer("zoned", "c", filed_at="2026-01-01T10:00:00Z")
    peer.add_drawer("told", "d", content_date="2026-05-08")
    peer.add_drawer("odd", "e", filed_at="some day")
    migrate(app, peer.folder, zone="Europe/Berlin")
    times = {
        id: clock.format_optional_instant(drawer(app, id).occurred_at)
        for id in ("summer", "winter", "zoned", "told", "odd")
    }
    assert times == {
        "summer": "2026-07-01T08:00:00.500000Z",
        "winter": "2026-01-01T09:00:00Z",
        "zoned": "2026-01-01T10:00:00Z",
        "told": "2026-05-07T22:00:00Z",
        "odd": None,
    }
    assert drawer(app, "told").metadata["time_source"] == "content_date"


def test_facts_keep_both_of_their_times(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("d", LONG)
    ended: dict[str, Any] = {
        "valid_from": "2026-05-01",
        "valid_to": "2026-06-10T00:00:00Z",
        "extracted_at": "2026-05-02 08:00:00",
    }
    told: dict[str, Any] = {"source_drawer_id": "d_chunk_000001", "confidence": 0.5}
    peer.add_fact("t1", "Ada's Lamp", "stands_in", "The Cellar", **ended, **told)
    begun: dict[str, Any] = {"valid_from": "June 10, 2026", "extracted_at": "2026-06-11 08:00:00"}
    peer.add_fact("t2", "Ada's Lamp", "stands_in", "The Attic", **begun)
    peer.add_fact("t3", "Ada", "born", "1815", valid_from="2026-05-01", valid_to="2026-05-01", confidence=7)
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (1, 0, 3, 0)
    first, second = sorted(app.palace.kg_query("Ada's Lamp").facts, key=lambda fact: fact.valid_from or 0)
    assert (first.object, first.confidence, first.source_drawer_id) == ("The Cellar", 0.5, drawer(app, "d").drawer_id)
    shown = clock.format_optional_instant
    assert [shown(first.valid_from), shown(first.valid_to)] == ["2026-05-01T00:00:00Z", "2026-06-10T00:00:00Z"]
    assert [shown(second.valid_from), shown(second.valid_to)] == ["2026-06-10T00:00:00Z", None]
    assert shown(first.recorded_at) == "2026-05-02T08:00:00Z"
    known = app.palace.kg_query("Ada's Lamp", known_at="2026-05-20").facts
    assert [fact.object for fact in known] == ["The Cellar"]
    (day,) = app.palace.kg_query("Ada").facts
    assert (shown(day.valid_to), day.confidence) == ("2026-05-02T00:00:00Z", None)


def test_a_fact_that_was_ended_or_retracted_here_does_not_come_back(app: App, peer: PeerPalace) -> None:
    peer.add_fact("t1", "Ada", "lives in", "Rome")
    peer.add_fact("t2", "Ada", "lives in", "Paris")
    migrate(app, peer.folder)
    app.palace.kg_invalidate("Ada", "lives in", "Rome", ended="2026-01-01")
    app.palace.kg_invalidate("Ada", "lives in", "Paris", retract=True)
    before = app.palace.kg_query("Ada").facts
    report, _ = migrate(app, peer.folder)
    assert counts(report, "unchanged") == (0, 0, 2, 0)
    assert app.palace.kg_query("Ada").facts == before


def test_the_graph_in_two_places(app: App, peer: PeerPalace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".mempalace").mkdir(parents=True)
    (home / ".mempalace" / "config.json").write_text(json.dumps({"palace_path": str(peer.folder)}))
    other = home / ".mempalace" / "knowledge_graph.sqlite3"
    shutil.copy(peer.graph, other)
    peer.add_fact("t1", "Ada", "likes", "tea")
    peer.add_fact("t1", "Ada", "likes", "tea", other)
    peer.add_fact("t9", "Ada", "likes", "tea", other)
    peer.add_fact("t2", "Ada", "likes", "rain", other)
    (home / ".mempalace" / "identity.txt").write_text("This palace is Ada's.")
    report, _ = migrate(app, peer.folder, home=home)
    assert counts(report) == (1, 0, 2, 0)
    assert report["not_needed"] == {"facts that the graph has twice": 2}
    assert {fact.object for fact in app.palace.kg_query("Ada").facts} == {"tea", "rain"}


def test_the_graph_of_a_palace_that_lies_elsewhere_is_kept_with_the_settings(
    app: App, peer: PeerPalace, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    theirs = home / ".mempalace" / "knowledge_graph.sqlite3"
    theirs.parent.mkdir(parents=True)
    shutil.copy(peer.graph, theirs)
    peer.graph.unlink()
    peer.add_fact("t1", "Ada", "likes", "tea", theirs)
    report, _ = migrate(app, peer.folder, home=home)
    assert counts(report) == (0, 0, 1, 0)
    PeerPalace.make(home / ".mempalace" / "palace")  # now it is that one's
    peer.add_fact("t2", "Ada", "likes", "rain", theirs)
    report, _ = migrate(app, peer.folder, home=home)
    assert counts(report) == (0, 0, 0, 0)


def test_a_graph_of_an_older_version_and_one_that_is_damaged(app: App, peer: PeerPalace) -> None:
    peer.graph.unlink()
    with closing(sqlite3.connect(peer.graph)) as connection, connection:
        connection.execute("CREATE TABLE entities (id TEXT PRIMARY KEY, name TEXT)")
        connection.execute(
            "CREATE TABLE triples (id TEXT PRIMARY KEY, subject TEXT, predicate TEXT, object TEXT, valid_from TEXT)"
        )
        connection.execute("INSERT INTO triples VALUES ('t', 'ada', 'likes', 'tea', NULL)")
    (peer.folder.parent / "knowledge_graph.sqlite3").write_bytes(b"SQLite format 3\0" + b"\1" * 3000)
    peer.add_drawer("a", "text")
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (1, 0, 1, 0)
    assert len(report["left_out"]) == 1
    assert [fact.subject for fact in app.palace.kg_query("ada").facts] == ["ada"]


def test_facts_that_cannot_hold_are_named(app: App, peer: PeerPalace) -> None:
    peer.add_fact("good", "Ada", "likes", "tea")
    peer.add_fact("reversed", "Ada", "likes", "rain", valid_from="2026-05-02", valid_to="2026-04-01")
    peer.add_fact("undated", "Ada", "likes", "snow", valid_from="when it snows")
    peer.add_fact("nameless", "A" * 200, "likes", "wind")
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (0, 0, 1, 0)
    assert sum(report["left_out"].values()) == 3
    named = " ".join(each["what"] for each in report["examples"])
    assert all(id in named for id in ("reversed", "undated", "nameless"))


def test_tunnels_become_facts(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("d", "text", wing="a", room="b")
    ends = {"source": {"wing": "a", "room": "b", "drawer_id": "d"}, "target": {"wing": "c", "room": "d"}}
    tunnels = [
        {"id": "t1", **ends, "label": "the same lamp", "created_at": "2026-03-01T00:00:00+00:00"},
        {"id": "t2", **ends, "target": {"wing": "e", "room": "f"}, "label": ""},
        {"id": "t3", "source": {"wing": "a"}, "target": None},
        "no tunnel",
    ]
    (peer.folder.parent / "tunnels.json").write_text(json.dumps(tunnels))
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (1, 0, 0, 2)
    assert report["left_out"] == {"a tunnel has no place at one of its ends": 2}
    facts = app.palace.kg_query("a/b").facts
    assert {(fact.predicate, fact.object) for fact in facts} == {("has a tunnel to", "c/d"), ("has a tunnel to", "e/f")}
    assert {fact.source_drawer_id for fact in facts} == {drawer(app, "d").drawer_id}
    assert [fact.object for fact in app.palace.kg_query("a/b – c/d").facts] == ["the same lamp"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{broken", b"[" * 100_000, b"\xff\xfe"])
def test_files_of_tunnels_that_hold_none(app: App, peer: PeerPalace, content: bytes) -> None:
    peer.add_drawer("d", "text")
    (peer.folder.parent / "tunnels.json").write_bytes(content)
    report, _ = migrate(app, peer.folder)
    assert counts(report) == (1, 0, 0, 0)
    assert bool(report["left_out"]) is (content not in (b"", b"[]"))


def test_rows_that_are_wrong_are_left_out_and_all_others_come(app: App, peer: PeerPalace) -> None:
    peer.add("no text", None, wing="w", room="r")
    peer.add("blank", " \n ", wing="w", room="r")
    peer.add("nul", "a\0b", wing="w", room="r")
    peer.add("number", "text", wing=7, room=1.5, chunk_index="x", source_mtime="y")
    peer.add("nothing", "bare")
    peer.add_drawer("good", "text")
    report, _ = migrate(app, peer.folder)
    assert counts(report)[0] == 3
    assert sum(report["left_out"].values()) == 3
    assert drawer(app, "nothing").wing == "mempalace"


def test_an_older_chroma(app: App, peer: PeerPalace) -> None:
    """Its values have no column for truth, its numbers are bytes, and it has no queue."""
    peer.add_drawer("a", LONG, normalize_version=2)
    with closing(sqlite3.connect(peer.chroma)) as connection, connection:
        connection.execute("ALTER TABLE embedding_metadata DROP COLUMN bool_value")
        connection.execute("UPDATE max_seq_id SET seq_id = x'0000000000000007'")
    migrate(app, peer.folder)
    assert (drawer(app, "a").content, drawer(app, "a").metadata["normalize_version"]) == (LONG, 2)
    with closing(sqlite3.connect(peer.chroma)) as connection, connection:
        connection.execute("DROP TABLE embeddings_queue")
    report, _ = migrate(app, peer.folder)
    assert counts(report, "unchanged")[0] == 1


def test_names_that_the_palace_refuses_are_mended(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("tab", "a", wing="my\twing\n", room="\0")
    peer.add_drawer("long", "b", wing="w" * 300)
    peer.add_drawer("separator", "c", wing="a\u2028b", room="  r  ")
    migrate(app, peer.folder)
    found = drawer(app, "tab")
    assert (found.wing, found.room) == ("my wing", "unnamed")
    assert (found.metadata["old_wing"], found.metadata["old_room"]) == ("my\twing\n", "\0")
    assert drawer(app, "long").wing == "w" * 128
    assert drawer(app, "separator").wing == "a b"


def test_metadata_that_is_too_large_leaves_its_name(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("a", "text", entities="e" * 20_000, hall="kept")
    migrate(app, peer.folder)
    assert drawer(app, "a").metadata["left_out"] == ["entities"]
    assert drawer(app, "a").metadata["hall"] == "kept"


def test_an_empty_palace(app: App, peer: PeerPalace) -> None:
    report, checked = migrate(app, peer.folder)
    assert counts(report) == (0, 0, 0, 0)
    assert checked.same == 0


def test_a_database_that_a_process_has_open_and_writes(app: App, peer: PeerPalace) -> None:
    """What it has written stands in its log alone."""
    script = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
row = (7, sys.argv[2], "live", 1)
connection.execute("INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?, ?, ?, ?)", row)
for key, value in (("chroma:document", "from the log"), ("wing", "w"), ("room", "r")):
    connection.execute("INSERT INTO embedding_metadata (id, key, string_value) VALUES (7, ?, ?)", (key, value))
print("ready", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(peer.chroma), "70b4e2a7-f719-4b5b-bce5-555dd3398044"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            before = traces(peer.folder.parent)
            migrate(app, peer.folder)
            assert traces(peer.folder.parent) == before
        finally:
            process.kill()
    assert drawer(app, "live").content == "from the log"


def test_what_is_recognized(app: App, peer: PeerPalace, tmp_path: Path) -> None:
    for path in (peer.folder, peer.folder.parent, peer.chroma):
        assert recognize(path).name == "mempalace"
    index = tmp_path / "ours" / "index"
    index.mkdir(exist_ok=True)
    shutil.copy(peer.chroma, index)  # as Chroma keeps it for this program
    with pytest.raises(InvalidArgument):
        recognize(index)
    with pytest.raises(NotFound):
        recognize(tmp_path / "nowhere")
    (tmp_path / "text.txt").write_text("a text")
    for path in (tmp_path, tmp_path / "text.txt"):
        with pytest.raises(InvalidArgument) as caught:
            recognize(path)
        assert caught.value.argument == "SOURCE"
