"""The end of threads, and of the process: nothing that hangs keeps it from ending, and what is left is said."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

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
