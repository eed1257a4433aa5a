"""Work that keeps a processor busy goes ahead few at a time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_LEAST = 2
AT_MOST = 4
"""However many processors there are: a third to a half of a search needs the interpreter's lock, which is one."""

PATIENCE_SECONDS = 0.05


class Turnstile:
    """Lets about as many threads through at a time as there are processors; nobody waits long, whatever holds them up.

    Threads that compute side by side take the interpreter's lock from each other: on two processors eight searches at
    once get two thirds as far as two at a time, and take half as much processor time again.
    """

    def __init__(self, at_once: int | None = None, patience: float = PATIENCE_SECONDS) -> None:
        self._places = threading.BoundedSemaphore(at_once or max(AT_LEAST, min(_processors(), AT_MOST)))
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


def _processors() -> int:
    """How many of them this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or AT_LEAST
