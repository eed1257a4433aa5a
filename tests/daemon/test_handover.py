"""Coming to the seat, refused in words."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.daemon import ipc as addresses
from mempalace_mcp.daemon.connector import DaemonLock
from mempalace_mcp.daemon.control import refuse_if_served, take_daemon_lock, wait_for_daemon_lock
from mempalace_mcp.daemon.ipc import DaemonAddress
from tests.daemon.support import bridge, daemon_pid, wait_for
from tests.server.clients import PATIENCE

LOCKS = Path("/proc/locks")


def test_a_seat_that_cannot_be_opened_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / addresses.LOCK).mkdir()
    with pytest.raises(StorageError, match=addresses.LOCK) as caught:
        take_daemon_lock(str(tmp_path))
    assert caught.value.hint


@pytest.mark.skipif(not LOCKS.exists(), reason="the system does not show who waits for a lock")
def test_a_successor_waits_in_the_kernels_queue(tmp_path: Path) -> None:
    """Sessions that lose their daemon look for a free seat again and again: one of them would often be quicker."""
    file = tmp_path / addresses.LOCK
    daemon = DaemonLock.take(str(file))
    assert daemon is not None
    with ThreadPoolExecutor(1) as threads:
        successor = threads.submit(take_daemon_lock, str(tmp_path))
        waiting = re.compile(rf"-> FLOCK .*:{file.stat().st_ino} ")
        wait_for(lambda: waiting.search(LOCKS.read_text()) is not None, "somebody in the queue")
        daemon.close()
        seat = successor.result(PATIENCE)
    assert DaemonLock.take(str(file)) is None
    seat.close()


def test_a_successor_that_is_refused_leaves_the_queue(tmp_path: Path) -> None:
    file, waiting = str(tmp_path / addresses.LOCK), Future[DaemonLock]()
    waiting.cancel()
    wait_for_daemon_lock(file, waiting)
    seat = DaemonLock.take(file)
    assert seat is not None
    seat.close()


def test_an_address_that_was_left_behind_refuses_nothing(tmp_path: Path) -> None:
    left = DaemonAddress(pid=1, version="0", started=0.0, path=str(tmp_path / "gone"), http="http://127.0.0.1:8765")
    left.write(str(tmp_path / addresses.FILE))
    refuse_if_served(str(tmp_path))


def test_a_daemon_without_http_stays_where_the_port_is_taken(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        refuse_if_served(str(palace))
        assert daemon_pid(client) == pid
