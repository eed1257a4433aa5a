"""How many may do something at once, and how the end of threads is waited for.

Work that keeps a processor busy goes ahead few at a time.

The end of threads, and of the process: nothing that hangs keeps it from ending, and what is left is said.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mempalace_mcp.core import platform

AT_LEAST = 2
AT_MOST = 4
"""However many processors there are: a third to a half of a search needs the interpreter's lock, which is one."""

PATIENCE_SECONDS = 0.05


class ConcurrencyLimiter:
    """Lets about as many threads through at a time as there are processors; nobody waits long, whatever holds them up.

    Threads that compute side by side take the interpreter's lock from each other: on two processors eight searches at
    once get two thirds as far as two at a time, and take half as much processor time again.
    """

    def __init__(self, at_once: int | None = None, patience: float = PATIENCE_SECONDS) -> None:
        processors = platform.processors() or AT_LEAST
        self._places = threading.BoundedSemaphore(at_once or max(AT_LEAST, min(processors, AT_MOST)))
        self._patience = patience

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, for at most the `patience` in seconds, and hold it for the length of the block."""
        has_place = self._places.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if has_place:
                self._places.release()


logger = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0
"""For threads that are still about when all else is done."""


def wait_for_end(thread: threading.Thread, seconds: float) -> bool:
    """Wait for a thread that was told to end, if it has begun; False, with a warning, if it takes longer."""
    if thread.ident is None:
        return True
    thread.join(seconds)
    if thread.is_alive():
        logger.warning("the thread %s has not ended within %.0f s; it is left behind", thread.name, seconds)
    return not thread.is_alive()


def leave(code: int, seconds: float = LEAVE_SECONDS) -> None:
    """Return if the interpreter can end by itself; else, since some thread would keep it, end the process."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, end - time.monotonic()))
    left = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    if left:
        logger.warning("%d threads are at work still, and end with the process: %s", len(left), ", ".join(left))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
