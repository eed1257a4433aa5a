"""The monitor: what a process writes to its log when it is stuck or asked, and the heap that its threads share."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.event_loop import Heartbeat, run_loop
from mempalace_mcp.runtime.health import Health
from mempalace_mcp.runtime.monitor import Watchdog

LATE = 0.2

PATIENCE = 20.0


class StackLog(logging.Handler):
    """Keeps what is logged, and lets wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.written = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.written.release()


@pytest.fixture
def stack_log() -> Iterator[StackLog]:
    handler, logger = StackLog(), logging.getLogger("mempalace_mcp.runtime.monitor")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def get_stuck(stack_log: StackLog) -> None:
    """Hold up the event loop until that is noticed, and long enough to be noticed twice."""
    assert stack_log.written.acquire(timeout=PATIENCE)
    time.sleep(3 * LATE)


async def test_the_stacks_are_written_once_each_time_the_loop_is_stuck(stack_log: StackLog) -> None:
    heartbeat = Heartbeat(tick=0.01)
    watching = asyncio.create_task(Health(Activity(5), heartbeat=heartbeat).watch())
    watchdog = Watchdog(lambda: heartbeat.overdue, late=LATE, interval=0.01)
    watchdog.start()
    for times in (1, 2):
        await asyncio.sleep(2 * LATE)
        get_stuck(stack_log)
        assert len(stack_log.messages) == times
    watching.cancel()
    await asyncio.wait([watching])
    watchdog.close()
    assert "the event loop is 0." in stack_log.messages[0]
    (main,) = (stack for stack in stack_log.messages[0].split("\nthread ") if stack.startswith("MainThread"))
    assert (
        main.index("test_the_stacks_are_written")
        < main.index(f"{__file__}:{get_stuck.__code__.co_firstlineno + 2} get_stuck")
        < main.index("acquire")
    )
    assert "\nthread watchdog" in stack_log.messages[0]


def test_a_signal_is_heard_at_work(stack_log: StackLog) -> None:
    watchdog = Watchdog(lambda: 0.0)
    watchdog.start()
    former = signal.getsignal(signal.SIGUSR1)
    with watchdog.on_signal():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stack_log.written.acquire(timeout=PATIENCE)
    watchdog.close()
    assert signal.getsignal(signal.SIGUSR1) is former
    assert "asked by a signal" in stack_log.messages[0]
    assert "test_a_signal_is_heard_at_work" in stack_log.messages[0]


def test_a_signal_is_heard_by_an_idle_event_loop(stack_log: StackLog) -> None:
    watchdog = Watchdog(lambda: 0.0)
    watchdog.start()

    async def idle() -> bool:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        return await asyncio.to_thread(stack_log.written.acquire, timeout=PATIENCE)

    with watchdog.on_signal():
        assert run_loop(idle)
    watchdog.close()
    assert len(stack_log.messages) == 1


GNU = hasattr(ctypes.CDLL(None), "malloc_info")

THREADS = """
import ctypes, threading
from mempalace_mcp.runtime.monitor import share_one_heap

{prepare}
library = ctypes.CDLL(None)
taken = threading.Barrier(8)

def take():
    assert library.malloc(5000)
    taken.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, stream)
library.fflush(stream)
"""


def heaps(prepare: str) -> int:
    """How many heaps the C library has after eight threads have taken memory at once."""
    script = THREADS.format(prepare=prepare)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30).stdout
    return told.count("<heap ")


@pytest.mark.skipif(not GNU, reason="the C library is another one")
def test_threads_share_one_heap() -> None:
    assert heaps("") > 1
    assert heaps("share_one_heap()") == 1
