"""Watches the process: memory, threads, descriptors, the palace's disk, and an event loop that is stuck.

Also sets up what the process takes from the system: file descriptors and memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

from mempalace_mcp.core import platform
from mempalace_mcp.core.figures import counter, gauge
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.storage.database import DatabaseFiles, FileStatistics

WANTED_DESCRIPTORS = 8192
MAX_CONNECTIONS = 1024
_CONNECTION_SHARE = 4
"""A quarter of the descriptors for each of two transports; the rest is for databases, Chroma, logs and closing."""


def raise_limit() -> None:
    """Raise the limit of open files to what a busy process needs, if the system allows."""
    platform.raise_file_limit(WANTED_DESCRIPTORS)


def connection_limit() -> int:
    """How many connections a transport may have at once, so that the process never runs out of file descriptors."""
    limit = platform.file_limit()
    return MAX_CONNECTIONS if limit is None else min(MAX_CONNECTIONS, limit // _CONNECTION_SHARE)


_ARENA_MAX = -8
"""`M_ARENA_MAX` of `mallopt(3)` in the GNU C library."""


def share_one_heap() -> None:
    """Let all threads allocate from one heap of the GNU C library. With another C library nothing happens.

    To be called before threads are started.
    """
    # The GNU library gives each thread a heap of its own. One thread allocates a page of SQLite and another frees it,
    # so the heaps fragment, and the process grows for hours. Contention for the one heap could not be measured.
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_ARENA_MAX, 1)


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """The process as a whole; None where the operating system does not tell."""

    thread_count: int = field(metadata=gauge("thread_count", "Threads of Python.", metric="mempalace_threads"))
    native_thread_count: int | None = field(
        metadata=gauge("native_thread_count", "Threads of the process.", metric="mempalace_native_threads")
    )
    cpu_seconds: float = field(metadata=counter("cpu_seconds", "CPU time used.", metric="process_cpu_seconds_total"))
    rss_bytes: int | None = field(
        metadata=gauge("rss_bytes", "Resident memory.", metric="process_resident_memory_bytes")
    )
    allocated_blocks: int = field(metadata=gauge("allocated_blocks", "Blocks of memory allocated by Python."))
    open_descriptors: int | None = field(
        metadata=gauge("open_descriptors", "Open file descriptors.", metric="process_open_fds")
    )


class ProcessProbe:
    """Measures the process. `read` makes the system calls, `statistics` costs next to nothing."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.read()

    def read(self) -> None:
        """Ask the operating system, which takes about a tenth of a millisecond."""
        self._rss_bytes = self._open_descriptors = self._native_threads = None
        with contextlib.suppress(psutil.Error, OSError), self._process.oneshot():
            self._rss_bytes = self._process.memory_info().rss
            self._open_descriptors = self._process.num_fds()
            self._native_threads = self._process.num_threads()

    def statistics(self) -> ProcessStatistics:
        """The last reading, and what the interpreter knows at once."""
        return ProcessStatistics(
            thread_count=threading.active_count(),
            native_thread_count=self._native_threads,
            cpu_seconds=time.process_time(),
            rss_bytes=self._rss_bytes,
            allocated_blocks=sys.getallocatedblocks(),
            open_descriptors=self._open_descriptors,
        )


INTERVAL_SECONDS = 1.0
CLOSE_SECONDS = 5.0
"""At most this long a disk that does not answer delays the end of the process."""


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """The last reading, and for how many seconds the present one has been running: long if the disk hangs."""

    files: FileStatistics
    free_bytes: int | None = field(metadata=gauge("disk_free_bytes", "Space left on the palace's disk."))
    look_seconds: float


class DiskWatch:
    """Reads the palace's files and the free space when it is made, then once a second from `start` to `close`.

    Health checks use the last reading, so that no probe waits for a file system.
    """

    # A thread of its own: it hangs with the disk, and then the watchdog must still write stacks.

    def __init__(self, database: DatabaseFiles, interval: float = INTERVAL_SECONDS) -> None:
        self._database = database
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._began: float | None = None
        self.look()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def look(self) -> None:
        """Read now."""
        self._began = time.monotonic()
        self._files, self._free_bytes = self._database.files(), self._database.free_bytes()
        self._began = None

    @property
    def files(self) -> FileStatistics:
        """The last reading of the files."""
        return self._files

    def statistics(self) -> DiskStatistics:
        """The last reading; reads memory only."""
        began = self._began
        return DiskStatistics(self._files, self._free_bytes, 0.0 if began is None else time.monotonic() - began)

    def close(self) -> None:
        """Stop the thread. Idempotent."""
        self._stop.set()
        wait_for_end(self._thread, CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()


logger = logging.getLogger(__name__)

LATE_SECONDS = 10.0
_ON_SIGNAL = "asked by a signal"
_STOP = ""


class Watchdog:
    """Writes the stacks of all threads to the log, once when the event loop is late and whenever SIGUSR1 arrives.

    `overdue` returns by how many seconds the event loop is late now. A thread of its own, from `start` to `close`.
    """

    def __init__(
        self, overdue: Callable[[], float], late: float = LATE_SECONDS, interval: float = INTERVAL_SECONDS
    ) -> None:
        self._overdue = overdue
        self._late = late
        self._interval = interval
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()  # its `put` is safe in a signal handler
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._reported = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. Idempotent."""
        self._requests.put(_STOP)
        wait_for_end(self._thread, CLOSE_SECONDS)

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """Within the block SIGUSR1 writes the stacks, where there is such a signal. For the main thread."""
        if not hasattr(signal, "SIGUSR1"):
            yield
            return
        previous = signal.signal(signal.SIGUSR1, lambda number, frame: self._requests.put(_ON_SIGNAL))
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, previous)

    def _run(self) -> None:
        while (request := self._next_request()) != _STOP:
            if request is not None:
                _log_stacks(request)
            overdue = self._overdue()
            if overdue <= self._late:
                self._reported = False
            elif not self._reported:
                self._reported = True
                _log_stacks(f"the event loop is {overdue:.1f} s late")

    def _next_request(self) -> str | None:
        try:
            return self._requests.get(timeout=self._interval)
        except queue.Empty:
            return None


def _log_stacks(cause: str) -> None:
    logger.critical("stacks of all threads, %s:\n%s", cause, "\n".join(stacks()))


def stacks() -> Iterator[str]:
    """A paragraph for each thread, innermost call last. Source files are not read, since the disk may be stuck."""
    # Not by `faulthandler`: it reads frames without the interpreter's lock, which has crashed busy processes.
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, innermost in sys._current_frames().items():
        calls = [
            f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"
            for frame, line in traceback.walk_stack(innermost)
        ]
        yield "\n".join([f"thread {names.get(identity, identity)}", *reversed(calls)])
