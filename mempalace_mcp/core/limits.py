"""Limits on threads: how many compute at once, and how long the end of the process waits for them."""

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
"""However many processors there are: a third to a half of a search holds the interpreter's lock."""

MAX_WAIT_SECONDS = 0.05


class ConcurrencyLimiter:
    """Lets about as many threads compute at a time as there are processors. Waiting is bounded: then they all go.

    Threads that compute side by side take the interpreter's lock from each other. On two processors, eight searches at
    once do two thirds of the work of two at a time, with half as much processor time again.
    """

    def __init__(self, at_once: int | None = None, max_wait: float = MAX_WAIT_SECONDS) -> None:
        processors = platform.processors() or AT_LEAST
        self._places = threading.BoundedSemaphore(at_once or max(AT_LEAST, min(processors, AT_MOST)))
        self._max_wait = max_wait

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a place for the length of the block; after `max_wait` seconds go on without one."""
        has_place = self._places.acquire(timeout=self._max_wait)
        try:
            yield
        finally:
            if has_place:
                self._places.release()


logger = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0
"""For threads that still run at the end of the process."""


def wait_for_end(thread: threading.Thread, seconds: float) -> bool:
    """Wait for the end of a thread that was told to stop; False, with a warning, if it takes longer."""
    if thread.ident is None:
        return True
    thread.join(seconds)
    if thread.is_alive():
        logger.warning("the thread %s has not ended within %.0f s; it is left behind", thread.name, seconds)
    return not thread.is_alive()


def leave(code: int, seconds: float = LEAVE_SECONDS) -> None:
    """Return if the interpreter can end by itself; end the process if threads would keep it after so many seconds."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, end - time.monotonic()))
    running = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    if running:
        logger.warning("%d threads still run, and end with the process: %s", len(running), ", ".join(running))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
