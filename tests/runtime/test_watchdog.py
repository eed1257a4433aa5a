"""What a process writes to its log when it is stuck, or when somebody asks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
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
    assert main.index("test_the_stacks_are_written") < main.index(f"{__file__}:47 get_stuck") < main.index("acquire")
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
