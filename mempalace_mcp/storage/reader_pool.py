"""A pool of connections for reading."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from mempalace_mcp.core.errors import Busy


class Pooled(Protocol):
    """A connection that can be lent again."""

    def reset(self) -> bool:
        """End statements and transaction, if there are any; False if the connection cannot be used again."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


C = TypeVar("C", bound=Pooled)

WAIT_SECONDS = 10.0
"""How long a thread waits for a connection; longer means that one was never returned."""
CLOSE_SECONDS = 5.0
"""How long closing waits for active readers; others close their connection when they are done."""


class PoolClosed(Exception):
    """Raised when a connection is asked of a pool that is closed."""


class ReaderPool(Generic[C]):
    """Opens connections when they are first needed and lends each to one thread at a time."""

    def __init__(self, open_connection: Callable[[], C], limit: int) -> None:
        self.limit = limit
        self._open_connection = open_connection
        self._idle: list[C] = []
        self._lent = 0
        self._closed = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def lent(self) -> int:
        """How many connections are in use."""
        return self._lent

    @property
    def closed(self) -> bool:
        """Is it closed?"""
        return self._closed

    @contextlib.contextmanager
    def lend(self) -> Iterator[C]:
        """A connection for the length of a block; a transaction that is left open is rolled back.

        Raises:
            Busy: all of them have been in use for the whole waiting time.
            PoolClosed: the pool is closed.
            Exception: no connection can be opened.
        """
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Refuse further readers, wait a little for active ones, close the rest. Idempotent."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lent, CLOSE_SECONDS)
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> C:
        with self._lock:
            if not self._is_free() and not self._changed.wait_for(self._is_free, WAIT_SECONDS):
                raise Busy(f"all {self.limit} connections for reading are in use", hint="Try again.")
            if self._closed:
                raise PoolClosed
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._open_connection()
        except BaseException:  # the place in the pool must become free
            with self._lock:
                self._lent -= 1
                self._changed.notify_all()
            raise

    def _is_free(self) -> bool:
        return self._closed or self._lent < self.limit

    def _give_back(self, connection: C) -> None:
        usable = connection.reset()
        with self._lock:
            self._lent -= 1
            keep = usable and not self._closed
            if keep:
                self._idle.append(connection)
            self._changed.notify_all()
        if not keep:
            connection.close()
