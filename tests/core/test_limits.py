"""How much is done at once, and threads that do not end when they are told to."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mempalace_mcp.core.limits import AT_LEAST, ConcurrencyLimiter, wait_for_end


def test_no_more_are_through_at_a_time_than_there_are_places() -> None:
    limiter = ConcurrencyLimiter(3, max_wait=20)
    meeting = threading.Barrier(3)
    counting = threading.Lock()
    inside = most = 0

    def work(_: int) -> None:
        nonlocal inside, most
        with limiter.turn():
            with counting:
                inside += 1
                most = max(most, inside)
            meeting.wait(20)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(12)))
    assert most == 3


def test_nobody_waits_for_ever() -> None:
    limiter = ConcurrencyLimiter(1, max_wait=0.01)
    with limiter.turn(), limiter.turn(), limiter.turn():
        pass
    with limiter.turn():
        pass


def test_a_place_is_free_again_after_an_error() -> None:
    limiter = ConcurrencyLimiter(1, max_wait=20)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.turn():
            raise ZeroDivisionError


def test_a_palace_with_one_processor_serves_two_searches_at_once() -> None:
    limiter = ConcurrencyLimiter(max_wait=20)
    with ThreadPoolExecutor(AT_LEAST) as threads:
        meeting = threading.Barrier(AT_LEAST)

        def work(_: int) -> None:
            with limiter.turn():
                meeting.wait(20)

        list(threads.map(work, range(AT_LEAST)))


def test_what_does_not_end_is_left_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="the slow one")
    assert wait_for_end(thread, 0)
    thread.start()
    assert not wait_for_end(thread, 0.01)
    assert "the slow one" in caplog.text
    end.set()
    assert wait_for_end(thread, 30)


def test_a_process_ends_with_what_hangs() -> None:
    code = (
        "import threading, sys\n"
        "from mempalace_mcp.core.limits import leave\n"
        "leave(3, 0.1)\n"
        "print('nothing hangs')\n"
        "threading.Thread(target=threading.Event().wait, name='hanging').start()\n"
        "leave(7, 0.1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (7, "nothing hangs\n")
    assert "hanging" in ended.stderr
