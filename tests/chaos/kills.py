"""Stops the daemon in the middle of a checkpoint: `python -m tests.chaos.kills <palace> <seconds>`.

A process of its own, for a checkpoint takes a few milliseconds, and the threads of the test would be in its way.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from mempalace_mcp.core.locks import FileLock

_PAGES = struct.Struct("=I")
_MOVED, _BEGUN = 96, 128
"""Where the shared memory of the log says how many pages a checkpoint has moved, and was about to move: "WAL-index
format", https://www.sqlite.org/walformat.html."""


def in_checkpoint(palace: Path) -> bool:
    """Has somebody begun to move pages, and not finished?"""
    with suppress(OSError), (palace / "palace.db-shm").open("rb", buffering=0) as shared:
        head = shared.read(_BEGUN + _PAGES.size)
        if len(head) == _BEGUN + _PAGES.size:
            return bool(_PAGES.unpack_from(head, _MOVED) < _PAGES.unpack_from(head, _BEGUN))
    return False


def lie_in_wait(palace: Path, seconds: float) -> bool:
    """True as soon as the daemon stands still in a checkpoint, False when the time is over."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        daemon = FileLock(palace / "daemon.lock").holder()
        if not in_checkpoint(palace) or daemon is None or daemon != FileLock(palace / "write.lock").holder():
            continue
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGSTOP)
            if in_checkpoint(palace):
                return True
            os.kill(daemon, signal.SIGCONT)
    return False


if __name__ == "__main__":
    sys.exit(0 if lie_in_wait(Path(sys.argv[1]), float(sys.argv[2])) else 1)
