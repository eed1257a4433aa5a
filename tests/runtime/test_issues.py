"""Each reason provoked by a fault of its own kind, in a whole process on a real palace; and gone with the fault."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import DeadlineExceeded, PalaceCorrupt, PalaceError, PalaceMissing, StorageFull
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.embedding.encoder import BUNDLED, MiniLm
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.health import CheckInputs, Limits, checks
from mempalace_mcp.runtime.issues import Status
from mempalace_mcp.runtime.monitor import DiskWatch
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from tests.palace.support import database_of, opened
from tests.storage.support import Child, add_wing, small_disk, soon
from tests.storage.vectors.support import World, advance_all, index_of

pytestmark = pytest.mark.long

PATIENCE = 30.0


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A process that embeds nothing, whose palace has a directory of its own."""
    with opened(tmp_path / "palace", started=False) as running:
        yield running


def codes(app: App, limits: Limits | None = None, **components: object) -> list[str]:
    """The reasons that hold now; with `components` instead of the app's own."""
    own = {name: getattr(app.check_inputs, name) for name in CheckInputs.__slots__}
    inputs = CheckInputs(**{**own, **components})
    return [issue.code for check in checks(inputs, limits) if (issue := check())]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process does."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "in vain"
        time.sleep(0.005)


def test_a_process_without_faults_has_no_reasons(app: App) -> None:
    assert codes(app) == []


@pytest.mark.parametrize("gone", ["palace", "palace/palace.db", "palace/palace.db-wal"])
def test_vanished_files_are_noticed_while_nobody_calls(tmp_path: Path, app: App, gone: str) -> None:
    app.database.write(add_wing("Paris"), soon())
    watch = DiskWatch(app.database, interval=0.01)
    watch.start()
    (tmp_path / gone).rename(tmp_path / "aside")
    wait_for(lambda: codes(app, disk=watch) == ["palace_missing"])
    (tmp_path / "aside").rename(tmp_path / gone)
    wait_for(lambda: codes(app, disk=watch) == [])
    watch.close()


def test_a_deleted_palace_is_failing_until_another_one_is_opened(tmp_path: Path, app: App) -> None:
    with opened(tmp_path / "other", started=False) as other:
        other.palace.add_drawer("w", "r", "elsewhere")
    shutil.rmtree(app.settings.palace)
    with pytest.raises(PalaceMissing):
        app.palace.add_drawer("w", "r", "never there")
    assert app.health.snapshot().status is Status.FAILING
    (tmp_path / "other").rename(app.settings.palace)
    app.database.reopen()
    app.disk.look()
    assert app.health.snapshot().status is Status.OK


def test_a_damaged_file_is_failing_although_nobody_writes(app: App) -> None:
    app.palace.add_drawer("w", "r", "soon illegible")
    database_of(app).checkpoint()
    noise = "import os, sys; os.pwrite(os.open(sys.argv[1], os.O_WRONLY), os.urandom(400_000), 4096)"
    subprocess.run([sys.executable, "-c", noise, str(database_of(app).path)], check=True)
    with pytest.raises(PalaceCorrupt), app.database.read() as connection:
        connection.execute("SELECT content FROM drawers").fetchall()
    assert codes(app) == ["palace_corrupt"]
    assert not app.health.snapshot().ready


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_writer_is_failing_for_good(app: App) -> None:
    writer = app.writer
    identity = writer._thread.ident
    assert identity is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identity), ctypes.py_object(SystemExit))
    with writer._changed:
        writer._changed.notify()
    writer._thread.join(PATIENCE)
    report = app.health.snapshot()
    assert [issue.code for issue in report.reasons] == ["writer_dead"]
    assert (report.status, report.live, report.ready) == (Status.FAILING, False, False)
    with pytest.raises(PalaceError, match="has ended"):  # at once, and not after its whole time
        app.palace.add_drawer("w", "r", "unheard")


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, opened(disk.path, started=False) as app:
        limits = Limits(free_bytes=64 * 1024)
        app.database.write(add_wing("before"), soon())
        disk.fill()
        app.disk.look()
        assert codes(app, limits) == ["disk_low"]
        with pytest.raises(StorageFull):
            app.palace.add_drawer("w", "r", "x" * 500_000)
        assert codes(app, limits) == ["storage_full", "disk_low"]
        assert app.health.snapshot().ready, "it still answers searches"
        disk.empty()
        app.disk.look()
        app.palace.add_drawer("w", "r", "room again")
        assert codes(app, limits) == []


def test_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    entered, answer = threading.Event(), threading.Event()

    class Hanging(Database):
        def files(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if threading.current_thread().name == "disk":
                entered.set()
                answer.wait()
            return super().files()

    database = Hanging(tmp_path)
    with opened(tmp_path, started=False) as app:
        watch = DiskWatch(database, interval=0.01)
        watch.start()
        entered.wait()
        wait_for(lambda: codes(app, Limits(look_seconds=0.05), disk=watch) == ["disk_slow"])
        assert app.health.snapshot().components["disk"], "a probe does not wait for it"
        answer.set()
        wait_for(lambda: codes(app, Limits(look_seconds=0.05), disk=watch) == [])
        watch.close()
    database.close()


def test_a_write_lock_held_by_another_process(app: App) -> None:
    limits = Limits(write_seconds=0.05)
    with Child("hold_lock", app.settings.palace) as child:
        assert child.line() == "held"
        waiting = app.writer.submit(add_wing("Paris"), Deadline(1.0))
        wait_for(lambda: codes(app, limits) == ["writer_waiting"])
        with pytest.raises(DeadlineExceeded):
            waiting.result(PATIENCE)
        wait_for(lambda: codes(app, limits) == ["lock_held"])
        child.go()
        assert child.rest() == ["released"]
    app.database.write(add_wing("Rome"), soon())
    assert codes(app, limits) == []


def test_a_full_queue_of_writes(app: App) -> None:
    writer = WriterThread(app.database, queue_limit=3)
    begun, go_on = threading.Event(), threading.Event()

    def work(transaction: Transaction) -> None:
        begun.set()
        go_on.wait()

    units = [writer.submit(work, soon())]
    begun.wait()
    units += [writer.submit(work, soon()) for _ in range(3)]
    assert codes(app, writer=writer) == ["writer_full"]
    go_on.set()
    for unit in units:
        unit.result(PATIENCE)
    assert codes(app, writer=writer) == []
    writer.close()


def test_a_log_that_a_reader_elsewhere_keeps_from_shrinking(app: App) -> None:
    limits = Limits(log_bytes=100_000)
    app.database.write(add_wing("Paris"), soon())
    database_of(app).checkpoint()
    with Child("hold_snapshot", app.settings.palace) as child:
        assert child.line() == "reading"
        for number in range(10):
            app.palace.add_drawer("w", "r", f"{number} " * 5_000)
        assert not database_of(app).checkpoint().complete
        app.disk.look()
        assert codes(app, limits) == ["log_large"]
        child.go()
        assert child.rest() == ["done"]
    assert database_of(app).checkpoint().complete
    app.disk.look()
    assert codes(app, limits) == []


async def test_a_full_line_of_calls(app: App) -> None:
    executor = Executor(1, waiting_limit=2)
    go_on = threading.Event()
    calls = [asyncio.create_task(executor.run(number, go_on.wait)) for number in range(3)]
    while executor.statistics().waiting < 2:
        await asyncio.sleep(0)
    assert codes(app, executor=executor) == ["executor_full"]
    go_on.set()
    await asyncio.gather(*calls)
    assert codes(app, executor=executor) == []
    executor.close()


def test_a_model_whose_files_were_moved_away(app: App, tmp_path: Path) -> None:
    shutil.copytree(BUNDLED, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").rename(tmp_path / "aside")
    broken = BackgroundEmbedder(lambda: MiniLm.load(tmp_path / "model"))
    broken.start()
    assert not broken.wait(PATIENCE)
    broken.close()
    assert codes(app, embedder=broken) == ["embedder_missing"]
    (tmp_path / "aside").rename(tmp_path / "model" / "tokenizer.json")
    mended = BackgroundEmbedder(lambda: MiniLm.load(tmp_path / "model"))
    mended.start()
    assert mended.wait(PATIENCE)
    assert codes(app, embedder=mended) == []
    mended.close()


def test_an_indexer_that_fails_and_one_that_has_died(app: App) -> None:
    (app.settings.palace / "embed.lock").mkdir()
    app.palace.add_drawer("w", "r", "to be embedded")
    app.embedder.start()
    app.indexer.start()
    wait_for(lambda: codes(app, Limits(indexer_failures=1)) == ["indexer_failing"])
    app.indexer.close()
    assert codes(app) == ["indexer_dead"]


def test_an_index_being_built_and_one_that_cannot_be(app: App) -> None:
    directory = app.settings.palace
    World(database_of(app)).file(100, seed=1)
    (directory / "index").write_text("in the way")
    index = index_of(directory)
    assert index.advance(app.database.read, 20) == 0
    assert codes(app, index=index) == ["index_failing"]
    (directory / "index").unlink()
    index.rebuild()
    assert index.advance(app.database.read, 20) == 20
    assert codes(app, index=index) == ["index_rebuilding"]
    advance_all(index, database_of(app))
    assert codes(app, index=index) == []
    index.close()


def test_no_probe_waits_for_a_process_whose_every_part_is_stuck(app: App) -> None:
    """The writer sits in a transaction, readers keep every connection, the model is loading."""
    stuck, go_on = threading.Barrier(app.database.statistics().readers_limit + 3), threading.Event()

    def sit(transaction: object = None) -> None:
        stuck.wait(PATIENCE)
        go_on.wait()

    def sit_reading() -> None:
        with app.database.read():
            sit()

    def load() -> MiniLm:
        sit()
        raise OSError(os.strerror(5))

    embedder = BackgroundEmbedder(load)
    embedder.start()
    writing = app.writer.submit(sit, soon())
    readers = [threading.Thread(target=sit_reading) for _ in range(app.database.statistics().readers_limit)]
    for reader in readers:
        reader.start()
    stuck.wait(PATIENCE)
    report = app.health.snapshot()
    assert report.components["database"].readers_in_use == len(readers)
    assert report.components["writer"].committing == 1
    assert codes(app, embedder=embedder) == []
    go_on.set()
    writing.result(PATIENCE)
    for reader in readers:
        reader.join()
    embedder.close()
