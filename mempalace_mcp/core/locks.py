"""Locks between processes: one file, one holder, released by the kernel when the holder dies.

The file is never removed. It holds the number of the process that took it last, for people and messages only: what
decides is the kernel's lock (`flock`), whose waiters queue in the kernel.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp.core import flock
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.core.files import explain_os_error


class FileLock:
    """An exclusive lock on a file, between processes and between the threads of this one. Not reentrant.

    Waiting with a deadline leaves the place in the kernel's queue to a helper thread, at most one per lock: a caller
    who gives up does not cost the next one its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._held = False
        self._waiter: _Waiter | None = None

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
        self._refuse_after_fork()
        while not self._mutex.acquire(timeout=-1 if deadline is None else deadline.remaining):
            self._give_up(deadline)
        try:
            while not self._take(deadline):
                self._give_up(deadline)
        except BaseException:  # whatever stopped us, others must get in
            self._let_go()
            raise

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never wait.

        Raises:
            PalaceMissing, StorageReadOnly, StorageFull, StorageError: as `acquire`.
        """
        self._refuse_after_fork()
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            taken = self._try_take()
        except BaseException:  # whatever stopped us, others must get in
            self._let_go()
            raise
        if not taken:
            self._mutex.release()
        return taken

    def release(self) -> None:
        """Give the lock back."""
        if not self.held:
            raise RuntimeError(f"{self.path} is not locked by this object")
        self._let_go()

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
        """The process that took the lock last, as far as the file tells; it may have given it back since."""
        return flock.signature(str(self.path))

    def is_current(self) -> bool:
        """Is the locked file still the one at its path? False once somebody removed or replaced it."""
        return self._descriptor is not None and flock.is_at(self._descriptor, str(self.path))

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

    def _take(self, deadline: Deadline | None) -> bool:
        """Take the lock on the file that is at the path now; False when the time is over."""
        while not self._try_take():
            if self._waiter is None or not self._waiter.rejoin():
                self._waiter = _Waiter(_open(self.path))
            if not self._waiter.wait(None if deadline is None else deadline.remaining):
                return False
            if self._waiter.error is not None:
                raise explain_os_error(self._waiter.error, self.path)
            self._drop_descriptor()
            self._descriptor, self._waiter = self._waiter.descriptor, None
            if self._settle():
                return True
        return True

    def _try_take(self) -> bool:
        if self._descriptor is None:
            self._descriptor = _open(self.path)
        try:
            while flock.try_lock(self._descriptor):
                if self._settle():
                    return True
                self._descriptor = _open(self.path)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        return False

    def _settle(self) -> bool:
        """With the kernel's lock in hand: keep it if the file is still at its path, else drop it."""
        assert self._descriptor is not None
        if not flock.is_at(self._descriptor, str(self.path)):
            self._drop_descriptor()
            return False
        flock.sign(self._descriptor, os.getpid())
        self._held = True
        return True

    def _let_go(self) -> None:
        if self._held and self._descriptor is not None:
            self._held = False
            flock.unlock(self._descriptor)
        self._mutex.release()

    def _drop_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _give_up(self, deadline: Deadline | None) -> None:
        if deadline is not None:
            deadline.check(self.describe())

    def _refuse_after_fork(self) -> None:
        if self._process != os.getpid():
            raise StorageError(
                f"{self.path} was opened by process {self._process} before a fork",
                hint="Open the palace anew in each process.",
            )


class _Waiter:
    """A thread that stands in the kernel's queue with a descriptor of its own, for callers who may leave."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None
        self._guard = threading.Lock()
        self._wanted = True
        self._over = threading.Event()
        threading.Thread(target=self._stand, name="lock waiter", daemon=True).start()

    def wait(self, seconds: float | None) -> bool:
        """True once the lock is there; it then belongs to the caller, with the descriptor."""
        try:
            self._over.wait(seconds)
        except BaseException:  # an interrupt of the main thread: nobody would take what comes
            self.abandon()
            raise
        with self._guard:
            self._wanted = self._over.is_set()
            return self._wanted

    def rejoin(self) -> bool:
        """Want the lock again after leaving; False when it came meanwhile and was given back."""
        with self._guard:
            self._wanted = not self._over.is_set()
            return self._wanted

    def abandon(self) -> None:
        """Nobody will come back: the thread gives the lock up as soon as it gets it."""
        with self._guard:
            if self._over.is_set() and self._wanted:
                os.close(self.descriptor)
            self._wanted = False

    def _stand(self) -> None:
        try:
            flock.lock(self.descriptor)
        except OSError as error:
            self.error = error
        with self._guard:
            if not self._wanted:
                os.close(self.descriptor)
            self._over.set()


def _open(path: Path) -> int:
    try:
        return flock.open_lock(str(path))
    except OSError as error:
        raise explain_os_error(error, path) from error
