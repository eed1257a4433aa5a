"""A look at the palace's files and their disk once a second, so that no probe has to wait for a file system."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass

from mempalace_mcp.core.endings import wait_for_end
from mempalace_mcp.storage.database import Database
from mempalace_mcp.storage.statistics import FileStatistics

INTERVAL_SECONDS = 1.0
CLOSE_SECONDS = 5.0
"""A disk that does not answer must not keep a process from ending."""


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """What was seen last, and how many seconds the look at hand has been taking: a disk that hangs shows there."""

    files: FileStatistics
    free_bytes: int | None
    look_seconds: float


class DiskWatch:
    """Looks once when it is made, and then from `start` to `close` in a thread of its own."""

    def __init__(self, database: Database, interval: float = INTERVAL_SECONDS) -> None:
        self._database = database
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._began: float | None = None
        self.look()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look(self) -> None:
        """Look now."""
        self._began = time.monotonic()
        self._files, self._free_bytes = self._database.files(), self._free()
        self._began = None

    @property
    def files(self) -> FileStatistics:
        """What was seen of the files last."""
        return self._files

    def statistics(self) -> DiskStatistics:
        """What was seen last; reads memory only."""
        began = self._began
        return DiskStatistics(self._files, self._free_bytes, 0.0 if began is None else time.monotonic() - began)

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._stop.set()
        wait_for_end(self._thread, CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()

    def _free(self) -> int | None:
        """Bytes that this user may still use; None where the directory is gone."""
        try:
            return shutil.disk_usage(self._database.directory).free
        except OSError:
            return None
