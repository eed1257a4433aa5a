"""Handing the daemon lock over to `serve`, and refusing to."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import Busy, StorageError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon import control, ipc
from mempalace_mcp.daemon.control import refuse_if_served, take_daemon_lock
from mempalace_mcp.daemon.ipc import DaemonAddress
from tests.daemon.support import bridge, daemon_pid, wait_for
from tests.server.clients import PATIENCE

LOCKS = Path("/proc/locks")


def test_a_daemon_lock_that_cannot_be_opened_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / ipc.LOCK_FILE).mkdir()
    with pytest.raises(StorageError, match=ipc.LOCK_FILE) as caught:
        take_daemon_lock(str(tmp_path))
    assert caught.value.hint


@pytest.mark.skipif(not LOCKS.exists(), reason="the system does not show who waits for a lock")
def test_a_successor_waits_in_the_kernels_queue(tmp_path: Path) -> None:
    """Sessions that lose their daemon look for a free lock again and again: one of them would often be quicker."""
    file = tmp_path / ipc.LOCK_FILE
    daemon = FileLock.take(str(file))
    assert daemon is not None
    with ThreadPoolExecutor(1) as threads:
        successor = threads.submit(take_daemon_lock, str(tmp_path))
        waiting = re.compile(rf"-> FLOCK .*:{file.stat().st_ino} ")
        wait_for(lambda: waiting.search(LOCKS.read_text()) is not None, "somebody in the queue")
        daemon.close()
        lock = successor.result(PATIENCE)
    assert FileLock.take(str(file)) is None
    lock.close()


def test_a_successor_that_is_refused_leaves_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HANDOVER_SECONDS", 0.05)
    daemon = FileLock.take(tmp_path / ipc.LOCK_FILE)
    assert daemon is not None
    with pytest.raises(Busy):
        take_daemon_lock(str(tmp_path))
    daemon.close()
    with closing(FileLock(tmp_path / ipc.LOCK_FILE)) as lock:
        assert lock.try_acquire(PATIENCE)


def test_an_address_that_was_left_behind_refuses_nothing(tmp_path: Path) -> None:
    left = DaemonAddress(pid=1, version="0", started=0.0, path=str(tmp_path / "gone"), http="http://127.0.0.1:8765")
    left.write(str(tmp_path / ipc.ADDRESS_FILE))
    refuse_if_served(str(tmp_path))


def test_a_daemon_without_http_stays_where_the_port_is_taken(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        refuse_if_served(str(palace))
        assert daemon_pid(client) == pid
