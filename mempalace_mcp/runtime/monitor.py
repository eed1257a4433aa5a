"""Watching the process: its event loop, threads, memory, descriptors and disk.

How many sockets this process may hold, so that it never runs out of file descriptors.

How a serving process takes memory from the system.

What the operating system says about this process.

A look at the palace's files and their disk once a second, so that no probe has to wait for a file system.

Writes the stacks of all threads to the log when the event loop is stuck, or when somebody asks by a signal.

Each thread is shown while this one holds the interpreter. `faulthandler` does without, and so can write in a moment in
which no Python code may run; but it reads frames that others are just leaving, which has killed busy processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import queue
import shutil
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
from mempalace_mcp.storage.sqlite.database import Database, FileStatistics

WANTED = 8192
SOCKETS_AT_A_DOOR = 1024
_SHARE = 4
"""One part for each of two doors; the rest is for databases, Chroma, logs, and what is just being closed."""


def raise_limit() -> None:
    """Let this process open as many files as it may want, if the system allows."""
    platform.raise_file_limit(WANTED)


def sockets_at_a_door() -> int:
    """How many connections a door may have at once."""
    limit = platform.file_limit()
    return SOCKETS_AT_A_DOOR if limit is None else min(SOCKETS_AT_A_DOOR, limit // _SHARE)


_ARENA_MAX = -8
"""`M_ARENA_MAX` of `mallopt(3)` in the GNU C library."""


def share_one_heap() -> None:
    """Let all threads take memory from one heap of the C library; where there is another library, nothing happens.

    The GNU library gives threads heaps of their own. SQLite's pages are taken by one thread and given back by another,
    so the heaps of a pool of threads fill with holes, and the process grows for hours though it uses no more. Threads
    that wait for the one heap cost nothing that could be measured. To be called before there are threads.
    """
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
"""A disk that does not answer must not keep a process from ending."""


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """What was seen last, and how many seconds the look at hand has been taking: a disk that hangs shows there."""

    files: FileStatistics
    free_bytes: int | None = field(metadata=gauge("disk_free_bytes", "Space left on the palace's disk."))
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


logger = logging.getLogger(__name__)

LATE_SECONDS = 10.0
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
