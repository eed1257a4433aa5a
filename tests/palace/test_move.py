"""A palace moves from one database to another and back: complete, compared, resumed, and refused where it must be."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import (
    Busy,
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PalaceCorrupt,
    PalaceMissing,
    SchemaTooNew,
    StorageError,
    StorageFull,
)
from mempalace_mcp.core.model import SearchMode
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.databases import open_database
from mempalace_mcp.runtime.moving import move_palace
from mempalace_mcp.storage.copying import CopyReport, Step
from mempalace_mcp.storage.postgres.connection import connect
from mempalace_mcp.storage.tables import TABLES
from tests.palace import earlier
from tests.palace.lived_in import CALL, PEOPLE, at, live_in, rows_of
from tests.palace.support import MODEL_SECONDS
from tests.postgres_server import fresh_schema, shared_address
from tests.storage.support import add_wing, small_disk

Place = PalaceUrl | Path
QUESTIONS = ("harbour lantern", "RFC-2616", "東京", "the keeper of the ropes", "C++ x=y", "grüße", "pier 30")
KINDS = ("sqlite", "postgres")


def nothing(label: str, done: int, total: int) -> None:
    """A step that goes on."""


def move(source: Place, target: Place, step: Step = nothing) -> CopyReport:
    return move_palace(at(source), at(target), step)


@contextmanager
def running(place: Place) -> Iterator[App]:
    """The palace, with its model."""
    with open_app(at(place)) as app:
        app.embedder.start()
        assert app.embedder.wait(MODEL_SECONDS), app.embedder.failure
        yield app


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """Start it before the first test looks at what it leaves behind."""
    shared_address()


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace in a directory with rows in every table, which no test changes."""
    folder = tmp_path_factory.mktemp("lived_in")
    with open_app(at(folder / "palace")) as app:
        app.start()
        assert app.embedder.wait(MODEL_SECONDS), app.embedder.failure
        live_in(app, 11, folder / "files")
    rows = rows_of(folder / "palace")
    assert not [table.name for table in TABLES if not rows[table.name]]
    return folder / "palace"


@pytest.fixture
def source(lived_in: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(lived_in, tmp_path / "source")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Iterator[Place]]]:
    """Places without a palace, of each kind."""
    with ExitStack() as stack:

        def directories() -> Iterator[Place]:
            for number in range(9):
                yield tmp_path / f"target-{number}"

        def schemas() -> Iterator[Place]:
            while True:
                yield stack.enter_context(fresh_schema())

        yield {"sqlite": directories(), "postgres": schemas()}


def answers(app: App, known_at: str) -> list[Any]:
    """What a palace answers to questions of all kinds."""
    palace = app.palace
    said: list[Any] = []
    for question in QUESTIONS:
        said += [palace.search(question, mode=mode, limit=7) for mode in SearchMode]
    for who in PEOPLE:
        said += [palace.kg_query(who, as_of=year, known_at=known_at) for year in (None, "2005", "2026-05")]
        said += [palace.diary_read(who), palace.kg_timeline(entity=who)]
    said += [palace.get_taxonomy(), palace.list_drawers(limit=5), palace.list_drawers(wing="harbour", limit=100)]
    said += [palace.versions(drawer.drawer_id) for drawer in palace.list_drawers(limit=100).items]
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_nothing_is_lost(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    there, back = next(places[kind]), next(places["sqlite"])
    before = rows_of(source)
    report = move(source, there)
    assert not report.resumed
    assert {name: table.rows for name, table in report.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    assert rows_of(there) == before
    returned = move(there, back)
    assert returned.tables == report.tables
    assert rows_of(back) == before
    assert rows_of(source) == before
    assert words_of(back) == words_of(source)


def words_of(directory: Place) -> list[Any]:
    assert isinstance(directory, Path)
    with closing(sqlite3.connect(directory / "palace.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        words = connection.execute("SELECT rowid, text FROM passages ORDER BY rowid").fetchall()
        return [
            words,
            *connection.execute("SELECT * FROM lexicon"),
            *connection.execute("SELECT name, seq FROM sqlite_sequence ORDER BY 1"),
        ]


def test_from_one_schema_to_another(source: Path, places: dict[str, Iterator[Place]]) -> None:
    first, second = next(places["postgres"]), next(places["postgres"])
    move(source, first)
    move(first, second)
    assert rows_of(second) == rows_of(source)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_before(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    target = next(places[kind])
    move(source, target)
    with running(source) as one, running(target) as other:
        seq = seq_and_instant(one)
        assert seq == seq_and_instant(other)
        known_at = "2026-01-01"
        for own, copied in zip(answers(one, known_at), answers(other, known_at), strict=True):
            assert plain(own) == plain(copied)
        cursor = one.palace.list_drawers(limit=5).next_cursor
        assert one.palace.list_drawers(limit=5, cursor=cursor) == other.palace.list_drawers(limit=5, cursor=cursor)


def plain(answer: Any) -> Any:
    """The answer, its figures rounded: databases add up the numbers of vectors in other orders."""
    if is_dataclass(answer):
        return {field.name: plain(getattr(answer, field.name)) for field in fields(answer)}
    if isinstance(answer, list | tuple):
        return [plain(each) for each in answer]
    return round(answer, 4) if isinstance(answer, float) else answer


def seq_and_instant(app: App) -> Any:
    with app.database.read() as connection:
        return connection.execute("SELECT palace_id, seq, recorded_at FROM state").fetchone()


@pytest.mark.parametrize("kind", KINDS)
def test_writing_goes_on_where_the_source_stopped(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    before, target = rows_of(source), next(places[kind])
    move(source, target)
    keyed = Deadline(20, idempotency_key=CALL)
    with running(target) as app:
        repeated = app.palace.add_drawer("harbour", "Piers", "filed once", deadline=keyed)
        other = Deadline(20, idempotency_key=replace(CALL, digest=b"of another one.."))
        with pytest.raises(Conflict, match="same key"):
            app.palace.add_drawer("harbour", "Piers", "else", deadline=other)
        app.palace.add_drawer("a new wing", "a new room", "a new drawer")
        app.palace.kg_add("somebody new", "reads", "something new")
    after = rows_of(target)
    assert repeated.drawer_id == before["drawers"][0][1]
    (filed,) = [row for row in after["drawers"] if row not in before["drawers"]]
    (chunk,) = [row for row in after["chunks"] if row not in before["chunks"]]
    assert (filed[0], chunk[0]) == numbers_after(source)
    assert after["state"][0][3] == before["state"][0][3] + 2
    assert len(after["facts"]) == len(before["facts"]) + 1


def numbers_after(source: Path) -> tuple[int, int]:
    """The next numbers of a drawer and a chunk; that of the last drawer, which was purged, is not given again."""
    with closing(sqlite3.connect(source / "palace.db")) as connection:
        given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        (present,) = connection.execute("SELECT max(id) FROM drawers").fetchone()
    assert given["drawers"] > present
    return given["drawers"] + 1, given["chunks"] + 1


class Stop(Exception):
    """Raised to end a move at some step."""


def stopping(after: int) -> Step:
    """A step that ends the move after so many."""
    seen: list[str] = []

    def step(label: str, done: int, total: int) -> None:
        seen.append(label)
        if len(seen) > after:
            raise Stop(label)

    return step


def steps_of(source: Place, target: Place) -> int:
    """How many steps a whole move takes."""
    seen: list[str] = []
    move(source, target, lambda label, done, total: seen.append(label))
    assert list(dict.fromkeys(seen)) == ["copying", "indexing words", "comparing"]
    return len(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_step_it_is_no_palace_and_goes_on(
    source: Path, places: dict[str, Iterator[Place]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mempalace_mcp.storage.copying.PAGE_ROWS", 40)
    monkeypatch.setattr("mempalace_mcp.storage.copying.PASSAGES", 50)
    target, steps = next(places[kind]), steps_of(source, next(places[kind]))
    copied = 0
    for after in range(0, steps, 3):
        with pytest.raises(Stop):
            move(source, target, stopping(3))
        with pytest.raises(StorageError, match="not finished yet") as caught:
            open_database(at(target))
        assert caught.value.hint is not None
        assert "move SOURCE TARGET" in caught.value.hint
        present = sum(map(len, rows_of(target).values()))
        assert present >= copied
        copied = present
        assert after < steps
    assert move(source, target).resumed
    assert rows_of(target) == rows_of(source)
    open_database(at(target)).close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_was_written_meanwhile_is_copied_anew(
    source: Path, places: dict[str, Iterator[Place]], kind: str
) -> None:
    target = next(places[kind])
    with pytest.raises(Stop):
        move(source, target, stopping(20))
    with closing(open_database(at(source))) as database:
        database.write(add_wing("later"), Deadline(20))
    labels: list[str] = []
    assert not move(source, target, lambda label, done, total: labels.append(label)).resumed
    assert labels == sorted(labels, key=["copying", "indexing words", "comparing"].index)
    assert rows_of(target) == rows_of(source)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_embedded_meanwhile_is_noticed(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    """It draws no number."""
    target = next(places[kind])
    with pytest.raises(Stop):
        move(source, target, stopping(20))
    with closing(sqlite3.connect(source / "palace.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM pending")
    assert not move(source, target).resumed
    assert rows_of(target) == rows_of(source)


def change(place: Place, sql: str) -> None:
    """Change a copy behind the program's back."""
    if isinstance(place, PalaceUrl):
        with closing(connect(place)) as connection:
            connection.script(f"SET search_path = {connection.path}; {sql}")
        return
    with closing(sqlite3.connect(place / "palace.db", isolation_level=None)) as file:
        file.execute(sql)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "UPDATE diary SET title = title || ' ' WHERE drawer = (SELECT max(drawer) FROM diary)",
            "of diary differs in title",
        ),
        ("DELETE FROM facts WHERE id = 3", "row id 3 of facts is in the source alone"),
        ("INSERT INTO said (key, drawer, digest) VALUES (7, NULL, 0)", "row key 7 of said is in the copy alone"),
        ("DELETE FROM receipts", "of receipts is in the source alone"),
        ("UPDATE lexicon SET passages = passages - 1", "the words of"),
    ],
)
def test_a_difference_is_named_and_the_copy_is_not_used(
    source: Path, places: dict[str, Iterator[Place]], kind: str, sql: str, told: str
) -> None:
    target, changed = next(places[kind]), False

    def step(label: str, done: int, total: int) -> None:
        nonlocal changed
        if label == "comparing" and not changed:
            changed = True
            change(target, sql)

    with pytest.raises(PalaceCorrupt, match=told):
        move(source, target, step)
    with pytest.raises(StorageError, match="not finished yet"):
        open_database(at(target))
    move(source, target)
    assert rows_of(target) == rows_of(source)


@pytest.mark.parametrize("kind", KINDS)
def test_others_read_the_source_and_wait_with_writing(
    source: Path, places: dict[str, Iterator[Place]], kind: str
) -> None:
    first, second = next(places[kind]), next(places["sqlite"])
    move(source, first)
    told: list[str] = []

    def step(label: str, done: int, total: int) -> None:
        if label == "comparing" and not told:
            with pytest.raises(DeadlineExceeded) as caught:
                database.write(add_wing("meanwhile"), Deadline(0.3))
            told.append(caught.value.message)
            with database.read() as connection:
                assert connection.execute("SELECT count(*) FROM wings WHERE key = 'meanwhile'").fetchone() == (0,)

    with closing(open_database(at(first))) as database:
        move(first, second, step)
        database.write(add_wing("meanwhile"), Deadline(20))
    assert told
    assert rows_of(second) == rows_of(source)


@pytest.mark.parametrize("kind", KINDS)
def test_two_moves_to_one_place_do_not_meet(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    target = next(places[kind])
    met: list[Busy] = []
    other = shutil.copytree(source, source.with_name("other"))

    def step(label: str, done: int, total: int) -> None:
        if not met:
            with pytest.raises(Busy) as caught:
                move(other, target)
            met.append(caught.value)

    move(source, target, step)
    assert met
    assert rows_of(target) == rows_of(source)


def test_a_cut_connection_ends_it_and_it_goes_on(source: Path, places: dict[str, Iterator[Place]]) -> None:
    first, second = next(places["postgres"]), next(places["postgres"])
    for of, to in ((source, first), (first, second)):
        for label in ("copying", "indexing words", "comparing"):
            with pytest.raises(Busy, match="cannot be reached"):
                move(of, to, cutting(label))
        assert move(of, to).resumed
        assert rows_of(to) == rows_of(source)


def cutting(label: str) -> Step:
    """A step that ends all connections of this program, once."""
    done: list[str] = []

    def step(at: str, *_: int) -> None:
        if at == label and not done:
            done.append(at)
            with closing(psycopg.connect(shared_address(), autocommit=True)) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'mempalace-mcp %'"
                )

    return step


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(source: Path, places: dict[str, Iterator[Place]], kind: str, tmp_path: Path) -> None:
    target = next(places[kind])
    with open_app(at(target)) as app:
        app.palace.add_drawer("w", "r", "here first")
    before = rows_of(target)
    with pytest.raises(Conflict, match="nothing is overwritten"):
        move(source, target)
    assert rows_of(target) == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_palace_is_in_nobodys_way_but_one_with_a_token_is(
    source: Path, places: dict[str, Iterator[Place]], kind: str
) -> None:
    empty, guarded = next(places[kind]), next(places[kind])
    for place in (empty, guarded):
        open_database(at(place)).close()
    change(guarded, "INSERT INTO access_tokens (name, digest, scope) VALUES ('ci', NULL, 'read')")
    move(source, empty)
    assert rows_of(empty) == rows_of(source)
    with pytest.raises(Conflict, match="nothing is overwritten"):
        move(source, guarded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_move_says_that_it_is_done(source: Path, places: dict[str, Iterator[Place]], kind: str) -> None:
    target = next(places[kind])
    move(source, target)
    with pytest.raises(Conflict, match="holds this palace already"):
        move(source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfinished_copy_of_another_palace_is_left_alone(
    source: Path, places: dict[str, Iterator[Place]], kind: str, tmp_path: Path
) -> None:
    target, other = next(places[kind]), tmp_path / "other"
    with pytest.raises(Stop):
        move(source, target, stopping(9))
    with open_app(at(other)) as app:
        app.palace.add_drawer("w", "r", "of another palace")
    with pytest.raises(Conflict, match="unfinished copy of another palace"):
        move(other, target)
    assert move(source, target).resumed


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_palace_or_the_same_one_is_refused(
    source: Path, places: dict[str, Iterator[Place]], kind: str
) -> None:
    missing, target = next(places[kind]), next(places["sqlite"])
    with pytest.raises(NotFound) as caught:
        move(missing, target)
    assert caught.value.argument == "SOURCE"
    assert isinstance(target, Path)
    assert not target.exists()
    with pytest.raises(InvalidArgument, match="same palace"):
        move(missing, missing)
    with pytest.raises(InvalidArgument, match="same palace"):
        move(source, source)


def test_a_newer_schema_is_refused_on_both_sides(source: Path, places: dict[str, Iterator[Place]]) -> None:
    target = next(places["postgres"])
    newer = shutil.copytree(source, source.with_name("newer"))
    with closing(sqlite3.connect(newer / "palace.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNew):
        move(newer, target)
    with pytest.raises(SchemaTooNew):
        move(source, newer)
    move(source, target)
    change(target, "INSERT INTO schema_steps (number, applied_at) VALUES (99, 0)")
    with pytest.raises(SchemaTooNew):
        move(target, next(places["sqlite"]))
    with pytest.raises(SchemaTooNew):
        move(source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_palace_of_an_earlier_version_comes_up_to_date_and_its_file_stays(
    places: dict[str, Iterator[Place]], kind: str, tmp_path: Path
) -> None:
    earlier.write_files(tmp_path / "files")
    old, same = tmp_path / "old", tmp_path / "same"
    earlier.build(old, tmp_path / "files")
    shutil.copytree(old, same)
    before = (old / "palace.db").read_bytes()
    target = next(places[kind])
    with pytest.raises(Stop):
        move(old, target, stopping(8))
    assert move(old, target).resumed
    assert (old / "palace.db").read_bytes() == before
    with closing(sqlite3.connect(old / "palace.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (earlier.SCHEMA,)
    open_database(at(same)).close()
    assert rows_of(target) == rows_of(same)


def test_an_earlier_schema_in_postgres_is_brought_up_by_opening_it(
    source: Path, places: dict[str, Iterator[Place]]
) -> None:
    first = next(places["postgres"])
    move(source, first)
    change(first, "DELETE FROM schema_steps WHERE number = (SELECT max(number) FROM schema_steps)")
    with pytest.raises(Conflict, match="an earlier one") as caught:
        move(first, next(places["sqlite"]))
    assert caught.value.argument == "SOURCE"


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_disk_that_cannot_be_written(
    source: Path, places: dict[str, Iterator[Place]], kind: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", kilobytes=40_000) as disk:
        palace = shutil.copytree(source, disk.path / "palace")
        disk.forbid_writing()
        target = next(places[kind])
        move(palace, target)
        assert rows_of(target) == rows_of(source)


def test_a_full_disk_ends_it_and_with_space_it_goes_on(source: Path, tmp_path: Path) -> None:
    size = (source / "palace.db").stat().st_size // 1024
    with small_disk(tmp_path / "disk", kilobytes=20_000) as disk:
        disk.fill(leave_kilobytes=size)
        target = disk.path / "palace"
        with pytest.raises(StorageFull):
            move(source, target)
        with pytest.raises(StorageError):
            open_database(at(target))
        disk.empty()
        assert move(source, target).resumed
        assert rows_of(target) == rows_of(source)


def test_a_text_that_the_target_cannot_hold_is_named(source: Path, places: dict[str, Iterator[Place]]) -> None:
    target = next(places["postgres"])
    change(source, "UPDATE drawers SET content = 'a' || char(0) || 'b' WHERE id = 5")
    with pytest.raises(InvalidArgument, match="row id 5 of drawers") as caught:
        move(source, target)
    assert caught.value.argument == "SOURCE"
    move(source, next(places["sqlite"]))


def test_a_row_that_breaks_a_rule_is_named(source: Path, places: dict[str, Iterator[Place]]) -> None:
    change(source, "PRAGMA foreign_keys = OFF")
    change(source, "INSERT INTO token_vectors (chunk, packed) VALUES (999999, x'00')")
    with pytest.raises(Conflict, match=r"token_vectors .*\(999999\)"):
        move(source, next(places["postgres"]))
    with pytest.raises(Conflict, match="token_vectors"):
        move(source, next(places["sqlite"]))


def test_a_source_that_is_replaced_meanwhile_is_not_finished(source: Path, places: dict[str, Iterator[Place]]) -> None:
    target = next(places["sqlite"])

    def step(label: str, done: int, total: int) -> None:
        if label == "comparing":
            (source / "palace.db").rename(source / "away.db")
            shutil.copy(source / "away.db", source / "palace.db")

    with pytest.raises(PalaceMissing):
        move(source, target, step)
    with pytest.raises(StorageError, match="not finished yet"):
        open_database(at(target))


@pytest.mark.parametrize("end", ["source", "target-0"])
def test_that_others_are_kept_away_is_seen_to(
    source: Path, places: dict[str, Iterator[Place]], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("mempalace_mcp.storage.copying.WATCH_SECONDS", 0.0)
    target = next(places["sqlite"])
    told: list[str] = []

    def step(label: str, done: int, total: int) -> None:
        told.append(label)
        if len(told) == 3:
            (source.with_name(end) / "write.lock").unlink()

    with pytest.raises(PalaceMissing, match=rf"{end}/write\.lock was removed"):
        move(source, target, step)
    assert told == ["copying"] * 3
    assert move(source, target).resumed
