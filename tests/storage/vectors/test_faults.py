"""Chroma deleted, replaced, damaged, written by strangers, killed in a batch: search answers, and it heals."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.log import Vectors
from mempalace_mcp.storage.vectors.model import IndexState
from tests.storage.support import fresh_database
from tests.storage.vectors.support import (
    ROWS,
    THOROUGHNESS,
    World,
    advance_all,
    child,
    chroma_directory,
    differences,
    edit_manifest,
    index_of,
    lines_of,
    manifest_of,
    unit_vectors,
    verify_answers,
)

pytestmark = pytest.mark.long

Damage = Callable[[Path], None]


def delete_directory(directory: Path) -> None:
    shutil.rmtree(chroma_directory(directory))


def delete_everything(directory: Path) -> None:
    shutil.rmtree(directory / "index")


def replace_directory(directory: Path) -> None:
    path = chroma_directory(directory)
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    copy.rename(path)


def truncate(pattern: str) -> Damage:
    def damage(directory: Path) -> None:
        (path,) = chroma_directory(directory).rglob(pattern)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)

    return damage


def scribble(directory: Path) -> None:
    (path,) = chroma_directory(directory).rglob("link_lists.bin")
    path.write_bytes(b"\xff" * path.stat().st_size)


DAMAGES = {
    "directory deleted": delete_directory,
    "everything deleted": delete_everything,
    "links overwritten": scribble,
}
MORE_DAMAGES = {
    "directory replaced": replace_directory,
    "database truncated": truncate("chroma.sqlite3"),
    "vectors truncated": truncate("data_level0.bin"),
    "links truncated": truncate("link_lists.bin"),
    "metadata truncated": truncate("index_metadata.pickle"),
}
if THOROUGHNESS > 1:
    DAMAGES |= MORE_DAMAGES


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_under_a_live_process_is_noticed_and_repaired(
    tmp_path: Path, filled: VectorIndex, database: Database, world: World, damage: Damage
) -> None:
    verify_answers(filled, database)
    damage(tmp_path)
    verify_answers(filled, database)
    assert filled.statistics().chroma_state is IndexState.FOREIGN
    world.file(5, seed=8)
    verify_answers(filled, database)
    advance_all(filled, database)
    statistics = filled.statistics()
    assert (statistics.chroma_state, statistics.chroma_rows) == (IndexState.READY, ROWS + 5)
    assert (statistics.generation, statistics.failures) == (2, 0)
    assert (statistics.last_reopen, statistics.foreign_writes) == ("files changed", 1)
    verify_answers(filled, database)
    assert differences(filled, database) == []


def test_files_damaged_between_two_lives_are_never_opened(
    tmp_path: Path, filled: VectorIndex, database: Database
) -> None:
    filled.close()
    truncate("data_level0.bin")(tmp_path)
    second = index_of(tmp_path)
    verify_answers(second, database)
    advance_all(second, database)
    assert second.statistics().last_reopen == "files changed"
    assert second.statistics().chroma_rows == ROWS
    verify_answers(second, database)
    assert differences(second, database) == []
    second.close()


def test_closed_files_are_reopened_as_they_are(tmp_path: Path, filled: VectorIndex, database: Database) -> None:
    path = chroma_directory(tmp_path)
    filled.close()
    second = index_of(tmp_path)
    assert second.advance(database.read, 500) == 0
    statistics = second.statistics()
    assert (statistics.last_reopen, statistics.rebuilds, statistics.chroma_rows) == ("start", 0, ROWS)
    assert chroma_directory(tmp_path) == path
    verify_answers(second, database)
    assert differences(second, database) == []
    assert second.statistics().rows_exact == ROWS  # loaded by the check, not by the queries before it
    second.close()


def test_a_process_killed_in_a_batch_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        World(database).file(3000, seed=3)
        with child("fill", tmp_path) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            while not manifest_of(tmp_path).exists():
                assert process.poll() is None
            kill_in_a_batch(process, manifest_of(tmp_path))
        former = chroma_directory(tmp_path)
        index = index_of(tmp_path)
        verify_answers(index, database)
        advance_all(index, database)
        assert index.statistics().last_reopen == "not closed cleanly"
        assert chroma_directory(tmp_path) != former
        verify_answers(index, database)
        assert differences(index, database) == []
        index.close()


def kill_in_a_batch(process: subprocess.Popen[str], manifest: Path) -> None:
    """Stop the process again and again until it stands in the middle of a batch; then kill it there."""
    assert process.stdout
    frozen = psutil.Process(process.pid)
    while not select.select([process.stdout], [], [], 0)[0]:
        frozen.suspend()
        if not manifest.exists() and frozen.status() == psutil.STATUS_STOPPED:
            frozen.kill()
            process.wait()
            return
        frozen.resume()
    raise AssertionError("it was done without a batch in which it could not be trusted")


def test_a_process_killed_between_batches_costs_no_rebuild(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        World(database).file(200, seed=3)
        with child("fill", tmp_path) as process:
            assert process.stdout
            assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "done\n"]
        index = index_of(tmp_path)
        advance_all(index, database)
        assert (index.statistics().last_reopen, index.statistics().rebuilds) == ("start", 0)
        verify_answers(index, database)
        assert differences(index, database) == []
        index.close()


def test_files_are_on_the_disk_before_the_manifest_says_so(
    tmp_path: Path, filled: VectorIndex, database: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced.append(f"{path.name}, manifest" if manifest_of(tmp_path).exists() else path.name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    world.file(30, seed=4)
    synced.clear()
    assert filled.advance(database.read, 500) == 30
    folder = chroma_directory(tmp_path)
    assert (synced[0], synced[-2:]) == ("index", ["chroma.tmp", "index, manifest"])
    assert {"chroma.sqlite3", folder.name} <= set(synced[1:-2])
    synced.clear()
    filled.close()
    assert (synced[0], synced[-2:]) == ("index", ["chroma.tmp", "index, manifest"])
    assert folder.name in synced[1:-2]


def test_own_writes_reopen_nothing(filled: VectorIndex, database: Database, world: World) -> None:
    for seed in range(20):
        world.file(30, seed=seed)
        advance_all(filled, database)
        verify_answers(filled, database, queries=2)
    statistics = filled.statistics()
    assert (statistics.generation, statistics.foreign_writes, statistics.failures) == (1, 0, 0)
    assert statistics.position == ROWS + 600


def test_idle_readers_reopen_nothing(tmp_path: Path, filled: VectorIndex, database: Database, world: World) -> None:
    for _ in range(THOROUGHNESS):
        before = (chroma_directory(tmp_path) / "chroma.sqlite3").stat().st_mtime_ns
        assert lines_of("read_chroma", tmp_path) == ["read"]
        assert (chroma_directory(tmp_path) / "chroma.sqlite3").stat().st_mtime_ns != before
        verify_answers(filled, database)
    world.file(30, seed=4)
    advance_all(filled, database)
    statistics = filled.statistics()
    assert (statistics.generation, statistics.foreign_writes) == (1, 0)
    assert statistics.chroma_state is IndexState.READY


def test_a_foreign_write_is_noticed_by_the_next_query_and_repaired(
    tmp_path: Path, filled: VectorIndex, database: Database
) -> None:
    assert lines_of("write_chroma", tmp_path) == ["written"]
    verify_answers(filled, database, queries=1)
    assert (filled.statistics().chroma_state, filled.statistics().foreign_writes) == (IndexState.FOREIGN, 1)
    advance_all(filled, database)
    assert filled.statistics().last_reopen == "files changed"
    verify_answers(filled, database)
    assert differences(filled, database) == []


def test_a_foreign_write_within_the_cooldown_is_not_hidden_by_an_own_write(
    tmp_path: Path, database: Database, world: World
) -> None:
    index = index_of(tmp_path, stat_cooldown=3600)
    world.file(ROWS, seed=3)
    advance_all(index, database)
    assert lines_of("write_chroma", tmp_path) == ["written"]
    verify_answers(index, database, queries=1)
    assert index.statistics().foreign_writes == 0
    world.file(50, seed=4)
    advance_all(index, database)
    assert index.statistics().foreign_writes == 1
    advance_all(index, database)
    verify_answers(index, database)
    assert differences(index, database) == []
    index.close()


def test_a_foreign_write_in_the_middle_of_an_own_one_is_noticed(
    tmp_path: Path, database: Database, world: World, index: VectorIndex
) -> None:
    world.file(100, seed=3)
    advance_all(index, database)
    client, wrote = index._client, []
    assert client._manifest is not None
    assert not client._change(
        lambda _: wrote.extend(lines_of("write_chroma", tmp_path)),
        operations=0,
        chunks=client.chunks(),
        manifest=client._manifest,
    )
    assert wrote == ["written"]
    assert (index.statistics().chroma_state, index.statistics().foreign_writes) == (IndexState.FOREIGN, 1)


@pytest.mark.parametrize("damage", [delete_directory, replace_directory])
def test_deletion_and_replacement_are_noticed_within_the_cooldown(
    tmp_path: Path, database: Database, world: World, damage: Damage
) -> None:
    index = index_of(tmp_path, stat_cooldown=3600)
    world.file(100, seed=3)
    advance_all(index, database)
    damage(tmp_path)
    verify_answers(index, database, queries=1)
    assert index.statistics().chroma_state is IndexState.FOREIGN
    index.close()


def test_beside_the_holder_of_the_lock_search_is_exact_and_fresh(
    tmp_path: Path, database: Database, world: World, index: VectorIndex
) -> None:
    world.file(100, seed=3)
    with child("hold", tmp_path) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert advance_all(index, database) == 0
        assert index.statistics().chroma_state is IndexState.HELD_ELSEWHERE
        for seed in range(5):
            world.file(3, seed=seed)
            verify_answers(index, database)
        process.stdin.close()
        process.wait()
    advance_all(index, database)
    assert (index.statistics().chroma_state, index.statistics().last_reopen) == (IndexState.READY, "start")
    verify_answers(index, database)
    assert differences(index, database) == []


def test_a_full_disk_costs_chroma_but_no_answer(tmp_path: Path, world: World) -> None:
    world.file(ROWS, seed=3)
    assert lines_of("fill_disk", tmp_path) == ["failed", "ready []"]


def test_reconnecting_leaves_descriptors_threads_and_processes_as_they_were(
    tmp_path: Path, filled: VectorIndex, database: Database
) -> None:
    filled.close()
    process = psutil.Process()

    def reconnect(times: int) -> tuple[int, int, int]:
        index = index_of(tmp_path)
        for _ in range(times):
            with database.read() as connection:
                assert index.reconnect(connection).differences == []
            verify_answers(index, database, queries=1)
        statistics = index.statistics()
        assert (statistics.generation, statistics.last_reopen, statistics.rebuilds) == (times, "reconnect", 0)
        resources = process.num_fds(), process.num_threads(), len(process.children(recursive=True))
        index.close()
        return resources

    before, after = reconnect(1), reconnect(1 + THOROUGHNESS)
    assert all(now <= then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("values", "reason", "rebuilds"),
    [
        ({"boot": "any", "closed": True}, "start", 0),
        ({"boot": "any", "closed": False}, "not closed cleanly", 1),
        ({"stamp": "nonsense"}, "not closed cleanly", 1),
    ],
)
def test_manifests_of_earlier_versions_and_malformed_ones(
    tmp_path: Path,
    index: VectorIndex,
    database: Database,
    world: World,
    values: dict[str, object],
    reason: str,
    rebuilds: int,
) -> None:
    world.file(60, seed=1)
    advance_all(index, database)
    index.close()
    edit_manifest(tmp_path, values)
    second = index_of(tmp_path)
    advance_all(second, database)
    assert (second.statistics().last_reopen, second.statistics().rebuilds) == (reason, rebuilds)
    verify_answers(second, database)
    assert differences(second, database) == []
    second.close()


def test_files_that_contradict_the_truth_are_rebuilt(tmp_path: Path, filled: VectorIndex, database: Database) -> None:
    filled.close()

    def work(transaction: Transaction) -> None:
        for chunk, vector in enumerate(unit_vectors(ROWS, 1234), 1):
            transaction.connection.execute(
                "UPDATE vectors SET embedding = ? WHERE chunk = ?", (vector.tobytes(), chunk)
            )

    World(database).do(work)
    second = index_of(tmp_path)
    advance_all(second, database)
    assert second.statistics().last_reopen == "differs from SQLite"
    verify_answers(second, database)
    second.close()


def test_a_palace_under_another_identity_starts_anew(filled: VectorIndex, database: Database) -> None:
    def work(transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE state SET palace_id = 'another'")

    World(database).do(work)
    verify_answers(filled, database)
    advance_all(filled, database)
    assert filled.statistics().last_reopen == "differs from SQLite"
    verify_answers(filled, database)
    assert differences(filled, database) == []


def test_a_removed_lock_ends_the_trust(tmp_path: Path, filled: VectorIndex, database: Database, world: World) -> None:
    (tmp_path / "index.lock").unlink()
    world.file(30, seed=4)
    verify_answers(filled, database)
    advance_all(filled, database)
    assert filled.statistics().last_reopen == "files changed"
    assert differences(filled, database) == []


def test_vectors_of_purged_drawers_are_gone_from_every_file(
    tmp_path: Path, index: VectorIndex, database: Database, world: World
) -> None:
    drawers = world.file(ROWS, seed=3)
    advance_all(index, database)
    secret = unit_vectors(ROWS, 3)[10]
    assert is_in_files(chroma_directory(tmp_path), secret)
    world.purge(drawers[: ROWS // 2])
    verify_answers(index, database)
    advance_all(index, database)
    verify_answers(index, database)
    assert index.statistics().last_reopen == "compaction"
    assert index.statistics().chroma_rows == ROWS // 2
    assert not is_in_files(chroma_directory(tmp_path), secret)
    assert differences(index, database) == []


def is_in_files(directory: Path, vector: Vectors) -> bool:
    """Is the vector in one of the files, as it is or but for rounding?"""
    for path in (path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        numbers = np.frombuffer(content[: len(content) // 4 * 4], np.float32)
        if vector.tobytes() in content:
            return True
        if len(numbers) >= len(vector):
            windows = np.lib.stride_tricks.sliding_window_view(numbers, len(vector))
            if np.isclose(windows, vector, atol=1e-6).all(axis=1).any():
                return True
    return False
