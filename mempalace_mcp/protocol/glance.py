"""Whether a file is still as it was, without a word to its disk."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_SETTLED_NS = 100_000_000
"""Changes so close together may bear the same time."""

_HOLD = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

_Stamps = list[tuple[int, int, int, int, int]]


class Glance:
    """Holds a file, if there is one, and its folder open from one look at them on: what the system knows of an open
    file it has in memory. A file that is made, removed or replaced changes its folder, or loses its name."""

    def __init__(self, file: Path) -> None:
        self._descriptors: list[int] = []
        for path in (file.parent, file):
            with contextlib.suppress(OSError):
                self._descriptors.append(os.open(path, _HOLD))
        self._stamps = self._look()
        newest = max((max(stamp[3:]) for stamp in self._stamps), default=0)
        self._is_settled = bool(self._stamps) and time.time_ns() - newest > _SETTLED_NS

    def shows_no_change(self) -> bool:
        """True if the file is certainly what it was."""
        return self._is_settled and self._look() == self._stamps

    def close(self) -> None:
        """Let go of both."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def _look(self) -> _Stamps:
        statuses = map(os.fstat, self._descriptors)
        return [(each.st_nlink, each.st_size, each.st_mode, each.st_mtime_ns, each.st_ctime_ns) for each in statuses]
