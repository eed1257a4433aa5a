"""What becomes of the items of a memory, in this run and in the next ones."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.access_control import limited
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.migrating import Migration
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.app import App
from tests.palace.migration.peer import PeerPalace
from tests.palace.migration.support import counts, drawer, migrate
from tests.palace.support import opened, seq_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path / "ours", started=False) as running:
        yield running


@pytest.fixture
def peer(tmp_path: Path) -> PeerPalace:
    made = PeerPalace.make(tmp_path / "theirs" / "palace")
    for number in range(5):
        made.add_drawer(f"d{number}", f"text {number}")
    return made


def change(peer: PeerPalace, id: str, text: str) -> None:
    with closing(sqlite3.connect(peer.chroma)) as connection, connection:
        connection.execute(
            "UPDATE embedding_metadata SET string_value = ? WHERE key = 'chroma:document'"
            " AND id = (SELECT id FROM embeddings WHERE embedding_id = ?)",
            (text, id),
        )


def test_a_dry_run_says_what_a_run_does_and_changes_nothing(app: App, peer: PeerPalace) -> None:
    peer.add_fact("t", "Ada", "likes", "tea")
    before = seq_of(app)
    told, checked = migrate(app, peer.folder, dry_run=True)
    assert (seq_of(app), checked.same) == (before, 0)
    done, _ = migrate(app, peer.folder)
    assert {**told, "seconds": 0} == {**done, "seconds": 0}
    assert counts(done) == (5, 0, 1, 0)


def test_a_run_that_brings_nothing_new_changes_nothing(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    before = seq_of(app)
    migrate(app, peer.folder)
    assert seq_of(app) == before


def test_a_text_that_has_changed_there_is_updated(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    id = drawer(app, "d1").drawer_id
    change(peer, "d1", "another text")
    report, checked = migrate(app, peer.folder)
    assert counts(report, "updated")[0] == 1
    assert (drawer(app, "d1").content, drawer(app, "d1").drawer_id) == ("another text", id)
    assert [version.content for version in app.palace.versions(id)] == ["text 1"]
    assert (checked.same, checked.edited) == (5, 0)


def test_what_was_edited_here_stays(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    for id in ("d1", "d2"):
        app.palace.update_drawer(drawer(app, id).drawer_id, content=f"{id} edited")
    change(peer, "d1", "changed there too")
    report, checked = migrate(app, peer.folder)
    assert (counts(report, "kept")[0], counts(report, "unchanged")[0]) == (1, 4)
    assert [drawer(app, id).content for id in ("d1", "d2")] == ["d1 edited", "d2 edited"]
    assert (checked.same, checked.edited) == (3, 2)


def test_what_was_moved_here_stays_where_it_is(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    app.palace.update_drawer(drawer(app, "d1").drawer_id, wing="elsewhere")
    change(peer, "d1", "changed there")
    migrate(app, peer.folder)
    assert (drawer(app, "d1").wing, drawer(app, "d1").content) == ("elsewhere", "changed there")


def test_what_was_deleted_here_stays_deleted(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    app.palace.delete_drawers(drawer_ids=[drawer(app, "d1").drawer_id])
    report, checked = migrate(app, peer.folder)
    assert (counts(report, "in_trash")[0], counts(report, "filed")[0]) == (1, 0)
    assert (checked.same, checked.deleted) == (4, 1)
    with pytest.raises(InvalidArgument):
        app.palace.get_drawers(["d1"])


def test_a_palace_that_was_copied_elsewhere_adds_nothing(app: App, peer: PeerPalace, tmp_path: Path) -> None:
    migrate(app, peer.folder)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "chroma.sqlite3").write_bytes(peer.chroma.read_bytes())
    report, _ = migrate(app, tmp_path / "copy")
    assert counts(report, "unchanged")[0] == 5


def test_a_text_that_is_here_already_is_not_filed_twice(app: App, peer: PeerPalace) -> None:
    filed = app.palace.add_drawer("home", "cellar", "text 1", occurred_at="2026-03-02T10:00:00.123456Z")
    report, _ = migrate(app, peer.folder)
    assert (counts(report)[0], counts(report, "unchanged")[0]) == (4, 1)
    assert drawer(app, "d1").drawer_id == filed.drawer_id


def test_damage_is_found_when_texts_are_read_back(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    with closing(sqlite3.connect(app.settings.palace / "palace.db")) as connection, connection:
        connection.execute("UPDATE drawers SET content = 'damaged' WHERE content = 'text 3'")
    source = PeerSource()
    migration = Migration(app.stores, source, peer.folder, Options())
    *_, checked = migration.check()
    assert (checked.same, checked.wrong) == (4, ("d3",))


class PeerSource:
    """A memory that is made of what a test gives."""

    name = "mempalace"
    title = "A memory"
    has_unique_ids = True

    def __init__(self, *items: Item) -> None:
        self.items = items

    def places(self, options: Options) -> Iterator[Path]:
        yield from ()

    def recognizes(self, path: Path) -> bool:
        return True

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        yield from self.items


def run(app: App, *items: Item) -> Migration:
    migration = Migration(app.stores, PeerSource(*items), Path("/memory"), Options())
    for _ in migration.run():
        pass
    return migration


def test_a_text_that_is_too_long_becomes_several_drawers(app: App) -> None:
    text = "".join(f"Line {number} of a very long text, 🙂\n" for number in range(60_000))
    assert len(text.encode()) > 2 * MAX_CONTENT_BYTES
    migration = run(app, TextItem("long", "w", "r", text, other_ids=("piece",)))
    ids = ["long", *(f"long#{number}" for number in range(2, 10))]
    parts = []
    for id in ids:
        try:
            parts.append(drawer(app, id))
        except InvalidArgument:
            break
    assert len(parts) > 2
    assert "".join(part.content for part in parts) == text
    assert [part.metadata["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert drawer(app, "piece").drawer_id == parts[0].drawer_id
    *_, checked = migration.check()
    assert (checked.same, checked.wrong) == (len(parts), ())


def test_an_id_that_comes_twice_in_one_run(app: App) -> None:
    run(app, TextItem("a", "w", "r", "first"), TextItem("a", "w", "r", "second"))
    assert drawer(app, "a").content == "second"
    assert [each.content for each in app.palace.versions(drawer(app, "a").drawer_id)] == ["first"]


def test_reasons_are_few_and_examples_are_bounded(app: App) -> None:
    items = [TextItem(f"n{number}", "w", "r", "x" * number + "\0") for number in range(200)]
    report = run(app, *items, LeftOut("x", "odd", 3), LeftOut("y", "odd", 4, is_derived=True)).report.as_dict()
    assert len(report["left_out"]) == 2
    assert sorted(report["left_out"].values()) == [3, 200]
    assert report["not_needed"] == {"odd": 4}
    assert len(report["examples"]) == 20


def test_old_ids_are_read_with_new_ones(app: App, peer: PeerPalace) -> None:
    migrate(app, peer.folder)
    ids = [drawer(app, f"d{number}").drawer_id for number in range(5)]
    found = app.palace.get_drawers(["d3", ids[0], "d1", ids[1]])
    for text in (f"d3, {ids[0]},d1\n{ids[1]}", f'["d3", "{ids[0]}", "d1", "{ids[1]}"]'):
        assert app.palace.get_drawers([text]).drawers == found.drawers
    assert [each.drawer_id for each in found.drawers] == [ids[3], ids[0], ids[1]]
    for wrong in ("nothing", "", "d_1", "x" * 9000, "a\0b", "\ud800"):
        with pytest.raises(InvalidArgument):
            app.palace.get_drawers(["d3", wrong])


def test_an_old_id_shows_nothing_of_other_wings(app: App, peer: PeerPalace) -> None:
    peer.add_drawer("secret", "of another wing", wing="other")
    migrate(app, peer.folder)
    wings = Principal(wings=("home",)).wings
    assert wings is not None
    seen = Palace(limited(app.stores, wings), app.chunk_embedder)
    assert seen.get_drawers(["d1"]).drawers[0].content == "text 1"
    with pytest.raises(InvalidArgument) as hidden:
        seen.get_drawers(["secret"])
    with pytest.raises(InvalidArgument) as absent:
        seen.get_drawers(["absent"])
    assert hidden.value.message.replace("secret", "absent") == absent.value.message


@pytest.mark.long
def test_a_migration_that_is_killed_goes_on_with_the_next_run(tmp_path: Path) -> None:
    peer = PeerPalace.make(tmp_path / "theirs")
    fields = {"wing": "w", "room": "r", "filed_at": "2026-01-01T00:00:00"}
    peer.add_all([(f"d{number}", f"text {number}", fields) for number in range(3000)])
    command = [sys.executable, "-m", "mempalace_mcp", "migrate", str(peer.folder), "--palace", str(tmp_path / "ours")]
    database = tmp_path / "ours" / "palace.db"
    kills = 0
    for least in (1, 700, 1500):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and filed(database) < least:
                threading.Event().wait(0.005)
            os.kill(process.pid, signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
    assert kills == 3
    partly = filed(database)
    assert partly >= 1500
    with opened(tmp_path / "ours", started=False) as app:
        report, checked = migrate(app, peer.folder)
        assert counts(report) == (3000 - partly, 0, 0, 0)
        assert checked.same == 3000
        assert app.palace.get_taxonomy().drawers == 3000


def filed(database: Path) -> int:
    """How many drawers are in a palace that another process writes."""
    if not database.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM drawers").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_what_no_text_can_hold_is_left_out_and_can_be_told(app: App) -> None:
    odd = [TextItem("\ud800", "w", "r", "a"), TextItem("b\0", "w", "r", "b"), TextItem("c", "\ud800", "\0", "c")]
    odd.append(TextItem("d", "w", "r", "\udfff"))
    facts = [FactItem("f", "\ud800", "p", "o"), FactItem("\ud800", "s", "p", "o"), FactItem("g", "s", "p", "")]
    report = run(app, *odd, *facts, LeftOut("\ud800" * 9000, "\udfff")).report.as_dict()
    assert counts(report) == (1, 0, 0, 0)
    assert sum(report["left_out"].values()) == 7
    assert len(json.dumps(report, ensure_ascii=False).encode()) < 10_000
