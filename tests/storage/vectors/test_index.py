"""What the index promises when nothing goes wrong: fresh, filtered, joined, paced."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mempalace_mcp.core.errors import ModelMismatch, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.model import IndexState
from tests.storage.vectors.support import (
    DIMENSION,
    EVERYTHING,
    World,
    advance_all,
    answer,
    chroma_directory,
    differences,
    index_of,
    plain_answer,
    unit_vectors,
    verify_answers,
)

pytestmark = pytest.mark.long


def test_an_empty_palace_has_no_neighbours(index: VectorIndex, database: Database) -> None:
    (query,) = unit_vectors(1, 1)
    with database.read() as connection:
        assert index.nearest(connection, query, 5, EVERYTHING) == []
        assert index.cosines(connection, query, [1, 2]) == {}
    assert index.advance(database.read, 100) == 0
    assert differences(index, database) == []
    assert index.statistics().chroma_state is IndexState.ABSENT


def test_below_the_minimum_chroma_is_not_begun(
    tmp_path: Path, index: VectorIndex, database: Database, world: World
) -> None:
    world.file(49, seed=1)
    assert index.advance(database.read, 100) == 0
    assert not (tmp_path / "index").exists()
    verify_answers(index, database)
    world.file(1, seed=2)
    assert index.advance(database.read, 100) == 50


def test_exact_mode_never_begins_chroma(tmp_path: Path, database: Database, world: World) -> None:
    index = index_of(tmp_path, mode="exact")
    world.file(200, seed=1)
    assert index.advance(database.read, 100) == 0
    assert not (tmp_path / "index").exists()
    assert not (tmp_path / "index.lock").exists()
    verify_answers(index, database)
    assert index.statistics().chroma_state is IndexState.OFF
    index.close()


def test_chroma_and_tail_answer_like_the_plain_way(
    tmp_path: Path, index: VectorIndex, database: Database, world: World
) -> None:
    drawers = world.file(1200, seed=1)
    advance_all(index, database)
    world.file(300, seed=2)
    verify_answers(index, database, queries=30)
    world.delete(drawers[::2])
    verify_answers(index, database, queries=30)
    world.delete(drawers[: len(drawers) - 3])
    verify_answers(index, database, queries=5)
    assert index.statistics().chroma_state is IndexState.READY


def test_what_chroma_writes_is_private_whatever_the_umask(tmp_path: Path, database: Database, world: World) -> None:
    before = os.umask(0)
    try:
        index = index_of(tmp_path)
        world.file(60, seed=1)
        advance_all(index, database)
        index.close()
    finally:
        os.umask(before)
    folder = chroma_directory(tmp_path)
    written = [folder.parent, folder, *folder.rglob("*")]
    assert len(written) > 3
    assert [str(path) for path in written if path.stat().st_mode & 0o077] == []


def test_chroma_serves_while_only_the_tail_is_loaded(tmp_path: Path, database: Database, world: World) -> None:
    world.file(400, seed=1)
    index = index_of(tmp_path)
    advance_all(index, database)
    world.file(7, seed=2)
    verify_answers(index, database)
    assert (index.statistics().rows_exact, index.statistics().rows_tail) == (7, 7)
    with database.read() as connection:
        (query,) = unit_vectors(1, 1)
        index.nearest(connection, query, 5, DrawerFilter(wing="w"))
    assert (index.statistics().rows_exact, index.statistics().rows_tail) == (407, 7)
    index.close()


def test_a_short_tail_is_left_alone(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    world.file(10, seed=2)
    assert index.advance(database.read, 100) == 0
    world.file(1, seed=3)
    assert index.advance(database.read, 100) == 11


def test_advance_takes_no_more_than_its_share_of_the_time(tmp_path: Path, database: Database, world: World) -> None:
    world.file(100, seed=1)
    index = VectorIndex(tmp_path, mode="chroma", stat_cooldown=0, minimum_rows=50, time_share=0.001)
    assert index.advance(database.read, 20) == 20
    assert index.rest > 0
    assert index.advance(database.read, 20) == 0
    index.close()
    assert index.advance(database.read, 20) == 0


def test_cosines_of_given_chunks(index: VectorIndex, database: Database, world: World) -> None:
    world.file(30, seed=1)
    vectors, (query,) = unit_vectors(30, 1), unit_vectors(1, 2)
    with database.read() as connection:
        found = index.cosines(connection, query * 3, [30, 7, 7, 12345])
    assert found == pytest.approx({30: float(vectors[29] @ query), 7: float(vectors[6] @ query)}, abs=1e-6)


def test_the_cosine_of_either_part_is_the_true_one(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    world.file(100, seed=2)
    (query,) = unit_vectors(1, 9)
    with database.read() as connection:
        found = index.nearest(connection, query * 7, 60, EVERYTHING)
        true = index.cosines(connection, query, [neighbour.chunk for neighbour in found])
    assert {neighbour.chunk: neighbour.cosine for neighbour in found} == pytest.approx(true, abs=1e-5)
    assert [neighbour.cosine for neighbour in found] == sorted((n.cosine for n in found), reverse=True)


def test_a_query_of_another_dimension_is_refused_and_harms_nothing(
    index: VectorIndex, database: Database, world: World
) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    with database.read() as connection:
        for query in (np.ones(DIMENSION + 1, np.float32), np.ones((1, DIMENSION), np.float32)):
            with pytest.raises(ModelMismatch):
                index.nearest(connection, query, 5, EVERYTHING)
            with pytest.raises(ModelMismatch):
                index.cosines(connection, query, [1])
    assert (index.statistics().failures, index.statistics().chroma_state) == (0, IndexState.READY)
    verify_answers(index, database)


def test_a_query_without_direction_is_answered(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    with database.read() as connection:
        found = index.nearest(connection, np.zeros(DIMENSION, np.float32), 5, EVERYTHING)
        assert len(found) == 5
        assert index.nearest(connection, np.zeros(DIMENSION, np.float32), 0, EVERYTHING) == []


def test_more_neighbours_than_rows(index: VectorIndex, database: Database, world: World) -> None:
    world.file(60, seed=1)
    verify_answers(index, database, limit=2000)
    advance_all(index, database)
    verify_answers(index, database, limit=2000)


def test_another_model_replaces_everything(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    world.reindex(seed=5, dimension=24)
    (query,) = unit_vectors(1, 6, 24)
    with database.read() as connection:
        assert answer(index, connection, query, 9) == plain_answer(connection, query, 9)
    advance_all(index, database)
    with database.read() as connection:
        assert answer(index, connection, query, 9) == plain_answer(connection, query, 9)
    assert differences(index, database) == []
    assert index.statistics().chroma_rows == 100


def test_vectors_of_different_lengths_are_reported(index: VectorIndex, database: Database, world: World) -> None:
    world.file(20, seed=1)

    def work(transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE vectors SET embedding = x'00000000' WHERE chunk = 7")

    world.do(work)
    (query,) = unit_vectors(1, 1)
    with database.read() as connection, pytest.raises(PalaceCorrupt):
        index.nearest(connection, query, 5, EVERYTHING)


def test_verify_finds_what_is_wrong(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    assert differences(index, database) == []

    def work(transaction: Transaction) -> None:  # behind the index's back: no change number is drawn
        transaction.connection.execute(
            "UPDATE vectors SET embedding = ?", (np.eye(1, DIMENSION, dtype=np.float32).tobytes(),)
        )
        transaction.connection.execute("UPDATE drawers SET wing = wing + 0, occurred_at = 5 WHERE id = 3")

    world.do(work)
    found = [(one.part, one.problem) for one in differences(index, database)]
    assert ("exact", "another vector") in found
    assert ("exact", "its drawer is described wrongly") in found
    assert ("chroma", "another vector") in found


def test_reconnect_reports_before_and_after(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    with database.read() as connection:
        report = index.reconnect(connection)
    assert (report.before.generation, report.after.generation) == (1, 2)
    assert report.after.last_reopen == "reconnect"
    assert report.after.chroma_rows == 100
    assert report.differences == []
    verify_answers(index, database)


def test_rebuild_begins_chroma_anew(tmp_path: Path, index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    former = chroma_directory(tmp_path)
    assert index.rebuild()
    assert index.statistics().chroma_state is IndexState.ABSENT
    verify_answers(index, database)
    advance_all(index, database)
    assert index.statistics().last_reopen == "rebuild"
    assert chroma_directory(tmp_path) != former
    assert not former.exists()
    assert differences(index, database) == []
    index.close()
    second = index_of(tmp_path)
    assert second.rebuild()
    advance_all(second, database)
    assert second.statistics().last_reopen == "rebuild"
    assert not index.rebuild()
    second.close()


def test_closing_twice_is_once(index: VectorIndex, database: Database, world: World) -> None:
    world.file(100, seed=1)
    advance_all(index, database)
    index.close()
    index.close()
    assert index.statistics().rows_exact == 0


def test_dead_rows_do_not_pile_up(index: VectorIndex, database: Database, world: World) -> None:
    drawers = world.file(40, seed=1)
    verify_answers(index, database)
    for seed in range(60):
        world.update(drawers, seed=seed)
        verify_answers(index, database, queries=1)
        index.advance(database.read, 500)
    assert index.statistics().rows_exact <= 1100
    assert index.statistics().rows_live == 40


def test_vectors_of_deleted_drawers_leave_memory_and_come_back(
    tmp_path: Path, database: Database, world: World
) -> None:
    kept, deleted = world.file(1500, seed=1), world.file(1400, seed=2)
    with closing(index_of(tmp_path, mode="exact")) as index, database.read() as older:
        older.execute("SELECT seq FROM state").fetchone()
        verify_answers(index, database)
        assert index.statistics().rows_exact == 2900
        world.delete(deleted)
        index.advance(database.read, 500)
        assert index.statistics().rows_exact == len(kept)
        assert index.statistics().bytes_mapped == len(kept) * DIMENSION * 4
        verify_answers(index, database)
        (query,) = unit_vectors(1, 7)
        assert answer(index, older, query, 2900) == plain_answer(older, query, 2900), "they lived then"
        world.restore(deleted[:700])
        world.purge(deleted[700:])
        verify_answers(index, database)
        index.advance(database.read, 500)
        assert index.statistics().rows_live == index.statistics().rows_exact == 2200
        assert differences(index, database) == []


@pytest.mark.parametrize("chroma", [False, True])
def test_a_reader_of_an_older_snapshot_gets_the_answers_of_its_time(
    index: VectorIndex, database: Database, world: World, chroma: bool
) -> None:
    drawers = world.file(300, seed=1)
    if chroma:
        advance_all(index, database)
    with database.read() as connection:
        index.nearest(connection, unit_vectors(1, 4)[0], 5, DrawerFilter(wing="w"))
    filters = [EVERYTHING, DrawerFilter(room="r"), DrawerFilter(before=5), DrawerFilter(wing="w", source_file=None)]
    with database.read() as older:
        older.execute("SELECT seq FROM state").fetchone()
        world.delete(drawers[:20])
        world.move(drawers[20:40], "v", "s")
        world.update(drawers[40:60], seed=2)
        world.redate(drawers[60:80], 9)
        world.purge(drawers[80:100])
        world.file(30, seed=3)
        for advance in (False, True):
            if advance:
                advance_all(index, database)
            for drawer_filter in filters:
                for query in unit_vectors(5, 4):
                    with database.read() as newer:
                        expected = plain_answer(newer, query, 150, drawer_filter)
                        assert answer(index, newer, query, 150, drawer_filter) == expected
                    expected = plain_answer(older, query, 150, drawer_filter)
                    assert answer(index, older, query, 150, drawer_filter) == expected


def test_many_threads_ask_while_others_write_and_advance(index: VectorIndex, database: Database, world: World) -> None:
    drawers = world.file(300, seed=1)
    finished = threading.Event()
    wrong: list[object] = []

    def ask(seed: int) -> None:
        for query in unit_vectors(40, seed):
            with database.read() as connection:
                for drawer_filter in (EVERYTHING, DrawerFilter(room="r")):
                    found = answer(index, connection, query, 10, drawer_filter)
                    expected = plain_answer(connection, query, 10, drawer_filter)
                    if found != expected:
                        wrong.append((found, expected))

    def advance() -> None:
        while not finished.is_set():
            index.advance(database.read, 40)

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    mover = threading.Thread(target=advance)
    for thread in [*askers, mover]:
        thread.start()
    for seed in range(15):
        world.file(5, seed=100 + seed)
        world.update(drawers[seed * 4 : seed * 4 + 4], seed=seed)
        world.delete(drawers[200 + seed : 203 + seed])
        world.move(drawers[100 + seed : 110 + seed], "w", "s" if seed % 2 else "r")
        world.purge(drawers[200 + seed : 202 + seed])
    for thread in askers:
        thread.join()
    finished.set()
    mover.join()
    assert wrong == []
    assert index.statistics().failures == 0
    advance_all(index, database)
    assert differences(index, database) == []
