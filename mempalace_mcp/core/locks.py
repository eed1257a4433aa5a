"""Locks between processes: one file, one holder, released by the kernel when the holder dies.

The kernel's lock on the file decides, and its waiters queue in the kernel. The file holds the number of the process
that took the lock last, for messages only, and is never removed.

A bridge imports this module to find out whether there is a daemon, so errors and paths are imported where they are
needed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from mempalace_mcp.core import platform

TYPE_CHECKING = False  # as in `typing`, which is too large for a bridge
if TYPE_CHECKING:
    from mempalace_mcp.core.call_context import Deadline
    from mempalace_mcp.core.errors import StorageError

_MODE = 0o600
_SIGNATURE_BYTES = 20


class FileLock:
    """An exclusive lock on a file, between processes and between the threads of this one. Not reentrant.

    Waiting is left to a thread in the kernel's queue, at most one per lock: giving up does not cost the next caller
    that place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._held = False
        self._shared = False
        self._waiter: _Waiter | None = None

    @classmethod
    def take(cls, path: str | os.PathLike[str]) -> FileLock | None:
        """The lock, held, if it is free; never waits. For a process that only looks, or passes the lock on to a child:
        the file does not name it as the holder.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        lock = cls(path)
        if lock._take(time.monotonic()):
            return lock
        lock.close()
        return None

    @classmethod
    def inherit(cls, path: str | os.PathLike[str], descriptor: int) -> FileLock:
        """The lock, held, from the parent process, which has passed on the descriptor. Children do not get it."""
        os.set_inheritable(descriptor, False)
        lock = cls(path)
        lock._mutex.acquire()
        lock._descriptor, lock._held = descriptor, True
        _sign(descriptor)
        return lock

    def share(self) -> int:
        """Let the next child hold the lock, too; the descriptor. It is free when both have closed it or ended."""
        assert self._held
        assert self._descriptor is not None
        os.set_inheritable(self._descriptor, True)
        self._shared = True
        return self._descriptor

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._held and self._process == os.getpid()

    def acquire(self, deadline: Deadline | None = None) -> None:
        """Wait for the lock; without a deadline, for ever.

        Raises:
            Cancelled, DeadlineExceeded: the caller gave up or waited for its whole time.
            PalaceMissing: the directory of the file is gone.
            StorageReadOnly, StorageFull, StorageError: the file cannot be opened for writing.
        """
        while not self.try_acquire(None if deadline is None else deadline.remaining):
            if deadline is not None:
                deadline.check(self.describe())

    def try_acquire(self, seconds: float | None = 0.0, *, keep_place: bool = False) -> bool:
        """Take the lock if it is free now or within so many seconds; None waits for ever.

        With `keep_place` this process stays in the queue after the time is over: no other one gets the lock before the
        next call, which finds it, or before `close`.

        Raises:
            PalaceMissing, StorageReadOnly, StorageFull, StorageError: as `acquire`.
        """
        if self._process != os.getpid():
            raise self._used_after_fork()
        try:
            taken = self._take(None if seconds is None else time.monotonic() + seconds, keep_place)
        except OSError as error:
            raise self._explained(error) from error
        if taken and self._descriptor is not None:
            _sign(self._descriptor)
        return taken

    def release(self) -> None:
        """Give the lock back."""
        if not self.held:
            raise RuntimeError(f"{self.path} is not locked by this object")
        assert self._descriptor is not None
        self._held = False
        if self._shared:  # to unlock it would take it from the child
            self._drop_descriptor()
        else:
            platform.unlock(self._descriptor)
        self._mutex.release()

    @contextlib.contextmanager
    def hold(self, deadline: Deadline | None = None) -> Iterator[None]:
        """Hold the lock for the length of a block.

        Raises:
            PalaceError: as `acquire`.
        """
        self.acquire(deadline)
        try:
            yield
        finally:
            self.release()

    def holder(self) -> int | None:
        """The process that took the lock last, as far as the file says; it may have given it back since."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return None
        try:
            return int(os.read(descriptor, _SIGNATURE_BYTES))
        except (OSError, ValueError):
            return None
        finally:
            os.close(descriptor)

    def is_current(self) -> bool:
        """Is the locked file still the one at its path? False once somebody removed or replaced it."""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except OSError:
            return False

    def describe(self) -> str:
        """The lock and its holder, as an error message names them."""
        holder = self.holder()
        return f"the lock {self.path}" + (f", held by process {holder}" if holder else "")

    def close(self) -> None:
        """Release the lock if it is held, and the descriptor. Idempotent."""
        if self._process != os.getpid():
            return
        if self._held:
            self.release()
        with self._mutex:
            if self._waiter is not None:
                self._waiter.abandon()
                self._waiter = None
            self._drop_descriptor()

    def _take(self, end: float | None, keep_place: bool = False) -> bool:
        """Take the lock on the file that is at the path now; False when the time is over."""
        if not self._mutex.acquire(timeout=-1 if end is None else max(0.0, end - time.monotonic())):
            return False
        try:
            while not self._held and not self._try_descriptor():
                if end is not None and time.monotonic() >= end:
                    self._mutex.release()
                    return False
                self._queue(None if end is None else max(0.0, end - time.monotonic()), keep_place)
        except BaseException:  # whatever stopped us, others must get in
            self._held = False
            self._drop_descriptor()
            self._mutex.release()
            raise
        return True

    def _try_descriptor(self) -> bool:
        if self._descriptor is None:
            self._descriptor = self._open()
        while platform.try_lock(self._descriptor):
            if self._settle():
                return True
            self._descriptor = self._open()
        return False

    def _queue(self, seconds: float | None, keep_place: bool) -> None:
        """Wait for the kernel's lock; hold it if it came in time, on the file that is at the path now."""
        if self._waiter is None or not self._waiter.rejoin():
            self._waiter = _Waiter(self._open())
        if not self._waiter.wait(seconds, keep_place):
            return
        waiter, self._waiter = self._waiter, None
        self._drop_descriptor()
        self._descriptor = waiter.descriptor
        if waiter.error is not None:
            raise waiter.error
        self._settle()

    def _settle(self) -> bool:
        """With the kernel's lock in hand: keep it if the file is still at its path, else drop it."""
        if not self.is_current():
            self._drop_descriptor()
            return False
        self._held = True
        return True

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT, _MODE)

    def _drop_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _explained(self, error: OSError) -> StorageError:
        from pathlib import Path

        from mempalace_mcp.core.files import explain_os_error

        return explain_os_error(error, Path(self.path))

    def _used_after_fork(self) -> StorageError:
        from mempalace_mcp.core.errors import StorageError

        return StorageError(
            f"{self.path} was opened by process {self._process} before a fork",
            hint="Open the palace anew in each process.",
        )


class _Waiter:
    """A thread that stands in the kernel's queue with a descriptor of its own, for callers that may leave."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None
        self._guard = threading.Lock()
        self._wanted = True
        self._over = threading.Event()
        threading.Thread(target=self._stand, name="lock waiter", daemon=True).start()

    def wait(self, seconds: float | None, keep_place: bool) -> bool:
        """True once the lock is there; it then belongs to the caller, with the descriptor."""
        try:
            self._over.wait(seconds)
        except BaseException:  # an interrupt of the main thread: nobody would take the lock
            self.abandon()
            raise
        with self._guard:
            has_come = self._over.is_set()
            self._wanted = has_come or keep_place
            return has_come

    def rejoin(self) -> bool:
        """Want the lock again after leaving; False when it came meanwhile and was given back."""
        with self._guard:
            if not self._over.is_set():
                self._wanted = True
            return self._wanted

    def abandon(self) -> None:
        """Nobody will come back: the thread gives the lock up as soon as it gets it."""
        with self._guard:
            if self._over.is_set() and self._wanted:
                os.close(self.descriptor)
            self._wanted = False

    def _stand(self) -> None:
        try:
            platform.lock(self.descriptor)
        except OSError as error:
            self.error = error
        with self._guard:
            if not self._wanted:
                os.close(self.descriptor)
            self._over.set()


def _sign(descriptor: int) -> None:
    """Note this process as the holder, for people and messages."""
    signature = f"{os.getpid():<{_SIGNATURE_BYTES - 1}}\n".encode("ascii")
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        if os.read(descriptor, _SIGNATURE_BYTES) != signature:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, signature)
    except OSError:  # a full disk must not refuse the lock for the sake of a message
        return
