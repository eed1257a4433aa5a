"""The file lock, between threads and between processes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Cancelled, DeadlineExceeded, PalaceMissing, StorageReadOnly
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.sqlite.database import LOCK_FILE
from tests.storage.support import Child, small_disk, soon


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LOCK_FILE


@pytest.fixture
def lock(path: Path) -> Iterator[FileLock]:
    lock = FileLock(path)
    yield lock
    lock.close()


@pytest.fixture
def rival(path: Path) -> Iterator[FileLock]:
    """Another object on the same file, as another part of the program would have it."""
    lock = FileLock(path)
    yield lock
    lock.close()


def waiters() -> int:
    return sum(thread.name == "lock waiter" for thread in threading.enumerate())


def test_is_held_from_acquire_to_release(lock: FileLock, rival: FileLock) -> None:
    assert not lock.held
    lock.acquire()
    assert lock.held
    assert not rival.try_acquire()
    lock.release()
    assert not lock.held
    assert rival.try_acquire()
    assert not lock.try_acquire()


def test_file_is_private_and_stays(lock: FileLock, path: Path) -> None:
    with lock.hold():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.close()
    lock.close()
    assert path.exists()


def test_release_of_a_free_lock_is_a_mistake(lock: FileLock) -> None:
    with pytest.raises(RuntimeError, match="not locked"):
        lock.release()


def test_an_error_in_the_block_releases(lock: FileLock, rival: FileLock) -> None:
    with pytest.raises(ZeroDivisionError), lock.hold():
        raise ZeroDivisionError
    assert rival.try_acquire()


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "an object each"])
def test_threads_exclude_each_other(lock: FileLock, path: Path, shared: bool) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        own = lock if shared else FileLock(path)
        for _ in range(50):
            with own.hold(soon()):
                inside += 1
                most = max(most, inside)
                inside -= 1
        if not shared:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_waiting_too_long_names_the_process_that_holds(lock: FileLock, tmp_path: Path) -> None:
    with Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        assert not lock.try_acquire()
        assert lock.holder() == holder.pid
        with pytest.raises(DeadlineExceeded, match=f"process {holder.pid}") as caught:
            lock.acquire(Deadline(0.1))
        assert caught.value.retryable
        assert not lock.held


def test_waits_for_another_process(lock: FileLock, tmp_path: Path) -> None:
    with Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        thread = threading.Thread(target=lock.acquire, args=(soon(),))
        thread.start()
        holder.go()
        thread.join()
        assert lock.held
        assert holder.rest() == ["released"]


def test_the_lock_of_a_killed_process_is_free(lock: FileLock, tmp_path: Path) -> None:
    with Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        holder.kill()
        lock.acquire(soon())
        assert lock.held


def test_who_gave_up_does_not_get_the_lock_later(lock: FileLock, rival: FileLock, tmp_path: Path) -> None:
    with Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        with pytest.raises(DeadlineExceeded):
            lock.acquire(Deadline(0.05))
        holder.go()
        holder.rest()
    with rival.hold(soon()):
        assert not lock.held
    with lock.hold(soon()):
        assert lock.held


def test_giving_up_often_keeps_one_place_in_the_queue(lock: FileLock, tmp_path: Path) -> None:
    with Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        for _ in range(5):
            with pytest.raises(DeadlineExceeded):
                lock.acquire(Deadline(0.02))
        assert waiters() == 1
        holder.go()
        lock.acquire(soon())
        assert lock.held
        holder.rest()


def test_closing_leaves_the_queue(lock: FileLock, rival: FileLock) -> None:
    rival.acquire()
    with pytest.raises(DeadlineExceeded):
        lock.acquire(Deadline(0.02))
    lock.close()
    rival.release()
    with rival.hold(soon()):
        assert rival.held


def test_a_thread_waits_no_longer_than_its_deadline_for_another(lock: FileLock) -> None:
    lock.acquire()
    with pytest.raises(DeadlineExceeded):
        lock.acquire(Deadline(0.02))
    assert lock.held


def test_cancelled_while_waiting(lock: FileLock, rival: FileLock) -> None:
    rival.acquire()
    deadline = Deadline(0.02)
    deadline.cancel()
    with pytest.raises(Cancelled):
        lock.acquire(deadline)


def test_a_removed_file_is_made_anew_by_the_next_holder(lock: FileLock, rival: FileLock, path: Path) -> None:
    with lock.hold():
        assert lock.is_current()
        path.unlink()
        assert not lock.is_current()
    with rival.hold():
        assert not lock.try_acquire()
    with lock.hold():
        assert lock.is_current()


def test_waiting_for_a_file_that_is_replaced_meanwhile(lock: FileLock, rival: FileLock, path: Path) -> None:
    rival.acquire()
    thread = threading.Thread(target=lock.acquire, args=(soon(),))
    thread.start()
    path.unlink()
    rival.release()
    thread.join()
    assert lock.held
    assert lock.is_current()
    assert not rival.try_acquire()


def test_a_removed_directory(tmp_path: Path) -> None:
    palace = tmp_path / "palace"
    palace.mkdir()
    lock = FileLock(palace / LOCK_FILE)
    with lock.hold():
        shutil.rmtree(palace)
        assert not lock.is_current()
    with pytest.raises(PalaceMissing, match="palace"):
        lock.acquire()
    lock.close()


def test_a_read_only_directory(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.forbid_writing()
        lock = FileLock(disk.path / LOCK_FILE)
        with pytest.raises(StorageReadOnly):
            lock.try_acquire()
        lock.close()


def test_a_full_disk_refuses_the_signature_but_not_the_lock(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk.path / LOCK_FILE).touch()
        lock = FileLock(disk.path / LOCK_FILE)
        disk.fill()
        with lock.hold(soon()):
            assert lock.held
            assert lock.holder() is None
        lock.close()


def test_a_program_started_meanwhile_does_not_inherit_it(lock: FileLock, rival: FileLock) -> None:
    with lock.hold():
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.close()
    assert rival.try_acquire()
    program.communicate(b"\n")


def test_a_lock_that_is_only_taken_names_nobody(lock: FileLock, path: Path) -> None:
    taken = FileLock.take(path)
    assert taken is not None
    assert lock.holder() is None
    assert FileLock.take(path) is None
    taken.close()
    with lock.hold():
        assert lock.holder() == os.getpid()


def test_a_child_that_shares_the_lock_keeps_it_and_names_itself(lock: FileLock, path: Path) -> None:
    code = """if True:
        import sys
        from mempalace_mcp.core.locks import FileLock
        lock = FileLock.inherit(sys.argv[1], int(sys.argv[2]))
        print(lock.held, flush=True)
        input()
        lock.close()
        print("closed", flush=True)
        input()
    """
    taken = FileLock.take(path)
    assert taken is not None
    descriptor = taken.share()
    command = [sys.executable, "-c", code, str(path), str(descriptor)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor], text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        taken.close()
        assert not lock.try_acquire()
        assert lock.holder() == child.pid
        print(file=child.stdin, flush=True)
        assert child.stdout.readline() == "closed\n"
        assert lock.try_acquire()
        child.kill()


def test_waiting_for_some_time_takes_the_lock_that_comes_free(lock: FileLock, rival: FileLock) -> None:
    rival.acquire()
    assert not lock.try_acquire(0.02)
    release = threading.Timer(0.05, rival.release)
    release.start()
    assert lock.try_acquire(60.0)
    release.join()


def wait_for_waiters(count: int) -> None:
    limit = time.monotonic() + 60
    while waiters() != count:
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_a_kept_place_is_not_lost_between_two_calls(lock: FileLock, rival: FileLock, path: Path) -> None:
    rival.acquire()
    assert not lock.try_acquire(0.02, keep_place=True)
    rival.release()
    wait_for_waiters(0)
    assert not rival.try_acquire(), "it is the other's, which has not called again yet"
    assert lock.try_acquire(0.02, keep_place=True)
    assert lock.held


def test_closing_gives_a_kept_place_back(lock: FileLock, rival: FileLock) -> None:
    rival.acquire()
    assert not lock.try_acquire(0.02, keep_place=True)
    rival.release()
    wait_for_waiters(0)
    lock.close()
    assert rival.try_acquire()
