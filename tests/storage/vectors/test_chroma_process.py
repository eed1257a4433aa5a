"""Chroma in a child process: neither side is harmed by what happens to the other, and nothing is left over."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.vectors.chroma_process import ChromaProcess
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.lean_import import EXPORTER
from mempalace_mcp.storage.vectors.manifest import DATABASE, take_stamp
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
    manifest_of,
    unit_vectors,
    verify_answers,
)

pytestmark = pytest.mark.long

CHUNKS = np.arange(1, 101)
VECTORS = unit_vectors(100, 1)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ChromaProcess]:
    """A session that holds `VECTORS`; gone at the end."""
    opened = ChromaProcess(tmp_path)
    opened.upsert(CHUNKS, VECTORS)
    yield opened
    opened.kill()


def child_of(index: VectorIndex) -> psutil.Process:
    """The process that runs Chroma for an index."""
    pid = index.statistics().process
    assert pid is not None
    return psutil.Process(pid)


def verify_replacement(index: VectorIndex, database: Database, former: psutil.Process) -> None:
    """The former child is gone and reaped, and Chroma is as good as ever in another one."""
    assert not former.is_running()
    verify_answers(index, database)
    advance_all(index, database)
    assert index.statistics().chroma_state is IndexState.READY
    assert child_of(index) != former
    verify_answers(index, database)
    assert differences(index, database) == []


def test_a_session_answers_as_chroma_does(tmp_path: Path, session: ChromaProcess) -> None:
    session.delete(CHUNKS[:10])
    assert session.chunks().tolist() == list(range(11, 101))
    found = session.query(VECTORS[50], 3, 7, 5.0)
    assert found is not None
    assert found.chunks[0] == 51
    assert found.cosines == pytest.approx(np.sort(VECTORS[10:] @ VECTORS[50])[:-4:-1], abs=1e-5)
    assert (found.first.tolist(), found.last.tolist()) == ([0, 0, 0], [7, 7, 7])
    assert found.floor == found.cosines.min()
    everything = session.query(VECTORS[50], 200, 7, 5.0)
    assert everything is not None
    assert (len(everything.chunks), everything.floor) == (90, -np.inf)
    held = session.vectors([5, 20, 21, 1000])
    assert sorted(held) == [20, 21]
    assert held[20] == pytest.approx(VECTORS[19], abs=1e-6)
    assert session.vectors([]) == {}
    session.close()
    assert not psutil.pid_exists(session.pid)
    second = ChromaProcess(tmp_path)
    assert second.chunks().tolist() == list(range(11, 101))
    second.close()


def test_a_directory_that_cannot_be_opened_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"nonsense" * 1000)
    before = set(psutil.Process().children())
    with pytest.raises(StorageError, match="file is not a database"):
        ChromaProcess(tmp_path)
    assert set(psutil.Process().children()) <= before


def test_an_error_of_chroma_ends_the_session(session: ChromaProcess) -> None:
    with pytest.raises(StorageError, match="dimension"):
        session.upsert(CHUNKS, unit_vectors(100, 1, 8))
    assert not psutil.pid_exists(session.pid)
    for use in (session.chunks, session.close, lambda: session.query(VECTORS[0], 1, 1, 5.0)):
        with pytest.raises(StorageError):
            use()
    session.kill()


def test_the_answer_to_a_query_given_up_is_never_taken_for_another(session: ChromaProcess) -> None:
    process = psutil.Process(session.pid)
    process.suspend()
    assert session.query(VECTORS[3], 1, 1, 0.05) is None
    assert session.query(VECTORS[4], 1, 1, 0.05) is None
    process.resume()
    while (found := session.query(VECTORS[5], 1, 1, 5.0)) is None:
        pass
    assert found.chunks.tolist() == [6]
    process.suspend()
    assert session.query(VECTORS[3], 1, 1, 0.05) is None
    process.resume()
    assert sorted(session.vectors([7, 8])) == [7, 8]


def test_a_batch_that_takes_too_long_ends_the_session(session: ChromaProcess) -> None:
    process = psutil.Process(session.pid)
    process.suspend()
    with pytest.raises(StorageError, match="timed out"):
        session.upsert(CHUNKS, VECTORS, seconds=0.1)
    assert not process.is_running()


def test_a_batch_larger_than_the_socket_holds_times_out_too(session: ChromaProcess) -> None:
    process = psutil.Process(session.pid)
    process.suspend()
    with pytest.raises(StorageError, match="timed out"):
        session.upsert(np.arange(100_000), unit_vectors(100_000, 1), seconds=0.1)
    assert not process.is_running()


@pytest.mark.parametrize("use", [ChromaProcess.chunks, lambda session: session.query(VECTORS[0], 1, 1, 30.0)])
def test_a_child_killed_while_it_is_asked_is_an_error_at_once(
    session: ChromaProcess, use: Callable[[ChromaProcess], object]
) -> None:
    process = psutil.Process(session.pid)
    process.suspend()
    errors: list[StorageError] = []

    def ask() -> None:
        with suppress(StorageError):
            use(session)
            return
        errors.append(StorageError("as it should be"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(0.1)  # time to ask; if it is too short, the test is merely an easier one
    process.kill()
    thread.join()
    assert len(errors) == 1
    assert not process.is_running()


def test_the_child_leaves_signals_to_its_parent(session: ChromaProcess) -> None:
    process = psutil.Process(session.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    assert len(session.chunks()) == 100
    assert process.is_running()


def test_the_child_has_nothing_of_its_parent(tmp_path: Path, filled: VectorIndex, database: Database) -> None:
    with database.read():
        process = child_of(filled)
        paths = {file.path for file in process.open_files() if Path(file.path).is_relative_to(tmp_path)}
        assert all(Path(path).is_relative_to(chroma_directory(tmp_path)) for path in paths), paths
        assert process.net_connections("inet") == []
        assert process.cwd() == "/"
        environment = process.environ()
    assert (environment["OPENBLAS_NUM_THREADS"], environment["ORT_DISABLE_TELEMETRY"]) == ("1", "1")


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("mempalace_mcp.storage.vectors.index", ["chromadb", "onnxruntime", "mcp"]),
        (
            "mempalace_mcp.storage.vectors.chroma_worker",
            ["onnxruntime", "tokenizers", "mcp", "grpc", "pygments.lexers", "rich.console"],
        ),
    ],
)
def test_each_side_imports_what_it_needs(module: str, foreign: list[str]) -> None:
    program = f"import sys, {module}; print([name for name in {foreign} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_what_sends_traces_is_imported_when_somebody_makes_one() -> None:
    program = f"""
import sys
from mempalace_mcp.storage.vectors.lean_import import leave_out
leave_out()
from {EXPORTER} import OTLPSpanExporter
assert "grpc" not in sys.modules
exporter = OTLPSpanExporter(endpoint="http://127.0.0.1:1", insecure=True)
print(type(exporter).__module__)
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == f"{EXPORTER}\n"


def test_a_child_killed_between_calls_is_replaced(filled: VectorIndex, database: Database) -> None:
    former = child_of(filled)
    former.kill()
    verify_answers(filled, database)
    assert filled.statistics().chroma_state is IndexState.FAILED
    assert filled.statistics().process is None
    verify_replacement(filled, database, former)
    assert (filled.statistics().failures, filled.statistics().last_reopen) == (1, "failed")


def test_a_child_killed_in_a_batch_is_replaced(
    tmp_path: Path, filled: VectorIndex, database: Database, world: World
) -> None:
    world.file(500, seed=4)
    former = child_of(filled)
    former.suspend()
    moved: list[int] = []
    batch = threading.Thread(target=lambda: moved.append(filled.advance(database.read, 500)))
    batch.start()
    while manifest_of(tmp_path).exists():
        assert batch.is_alive()
    verify_answers(filled, database, queries=1)
    former.kill()
    batch.join()
    assert moved == [0]
    verify_replacement(filled, database, former)
    assert filled.statistics().last_reopen == "failed"
    assert filled.statistics().chroma_rows == ROWS + 500


def test_a_stopped_child_costs_no_answer_and_is_replaced(tmp_path: Path, database: Database, world: World) -> None:
    world.file(200, seed=3)
    index = index_of(tmp_path, patience=0.1)
    advance_all(index, database)
    former = child_of(index)
    former.suspend()
    while index.statistics().failures == 0:
        verify_answers(index, database, queries=1)
    verify_replacement(index, database, former)
    index.close()


@pytest.mark.parametrize("pattern", ["data_level0.bin", "header.bin"][:THOROUGHNESS])
def test_files_that_crash_chroma_crash_the_child_alone(
    tmp_path: Path, filled: VectorIndex, database: Database, pattern: str
) -> None:
    process = child_of(filled)
    filled.close()
    assert not process.is_running()
    (path,) = chroma_directory(tmp_path).rglob(pattern)
    path.write_bytes(b"\x7f" * path.stat().st_size)
    edit_manifest(tmp_path, {"stamp": asdict(take_stamp(chroma_directory(tmp_path)))})
    second = index_of(tmp_path)
    verify_answers(second, database)
    advance_all(second, database)
    verify_answers(second, database)
    advance_all(second, database)
    statistics = second.statistics()
    assert (statistics.chroma_state, statistics.failures, statistics.rebuilds) == (IndexState.READY, 1, 1)
    assert differences(second, database) == []
    second.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["working", "stopped"])
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path, stopped: bool) -> None:
    with fresh_database(tmp_path) as database:
        World(database).file(3000, seed=3)
    with child("fill", tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        while not manifest_of(tmp_path).exists():
            assert process.poll() is None
        (own,) = psutil.Process(process.pid).children()
        if stopped:
            own.suspend()
        process.kill()
        own.wait(timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child ends after what it is doing")
def test_the_child_ends_with_its_parent_even_within_native_code(tmp_path: Path) -> None:
    with child("add_twice", tmp_path) as process, closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        (own,) = psutil.Process(process.pid).children()
        connection.execute("BEGIN EXCLUSIVE")  # Chroma's native code waits for the lock for up to 1000 s
        process.stdin.write("\n")
        process.stdin.flush()
        with pytest.raises(psutil.TimeoutExpired):
            own.wait(timeout=0.5)  # time to get stuck; if it is too short, the test is merely an easier one
        process.kill()
        try:
            own.wait(timeout=10)
        finally:
            with suppress(psutil.NoSuchProcess):
                own.kill()
