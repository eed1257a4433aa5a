"""Writes the stacks of all threads to the log when the event loop is stuck, or when somebody asks by a signal.

Each thread is shown while this one holds the interpreter. `faulthandler` does without, and so can write in a moment in
which no Python code may run; but it reads frames that others are just leaving, which has killed busy processes.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from mempalace_mcp.core.endings import wait_for_end

logger = logging.getLogger(__name__)

LATE_SECONDS = 10.0
INTERVAL_SECONDS = 1.0
CLOSE_SECONDS = 5.0
_ASK = "asked by a signal"
_STOP = ""


class Watchdog:
    """A thread from `start` to `close`. `overdue` tells by how many seconds the event loop is late at this moment."""

    def __init__(
        self, overdue: Callable[[], float], late: float = LATE_SECONDS, interval: float = INTERVAL_SECONDS
    ) -> None:
        self._overdue = overdue
        self._late = late
        self._interval = interval
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()  # its `put` is safe in a signal handler
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._has_barked = False

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Watch no more. Idempotent."""
        self._orders.put(_STOP)
        wait_for_end(self._thread, CLOSE_SECONDS)

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """For the length of a block SIGUSR1 writes the stacks, where there is such a signal. For the main thread."""
        if not hasattr(signal, "SIGUSR1"):
            yield
            return
        former = signal.signal(signal.SIGUSR1, lambda number, frame: self._orders.put(_ASK))
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, former)

    def _run(self) -> None:
        while (order := self._next_order()) != _STOP:
            if order is not None:
                _write_stacks(order)
            overdue = self._overdue()
            if overdue <= self._late:
                self._has_barked = False
            elif not self._has_barked:
                self._has_barked = True
                _write_stacks(f"the event loop is {overdue:.1f} s late")

    def _next_order(self) -> str | None:
        try:
            return self._orders.get(timeout=self._interval)
        except queue.Empty:
            return None


def _write_stacks(occasion: str) -> None:
    logger.critical("stacks of all threads, %s:\n%s", occasion, "\n".join(stacks()))


def stacks() -> Iterator[str]:
    """A paragraph for each thread, innermost call last. Source files are not read: the disk may be what is stuck."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, innermost in sys._current_frames().items():
        calls = [
            f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"
            for frame, line in traceback.walk_stack(innermost)
        ]
        yield "\n".join([f"thread {names.get(identity, identity)}", *reversed(calls)])
