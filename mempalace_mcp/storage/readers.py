"""A bounded pool of connections that read."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator

from mempalace_mcp.core.errors import Busy
from mempalace_mcp.storage.connection import Connection

WAIT_SECONDS = 10.0
"""How long a thread waits for a connection: longer means that somebody never gives one back."""
CLOSE_SECONDS = 5.0
"""How long closing waits for readers at work; those left over close their connection when they are done."""


class PoolClosed(Exception):
    """Raised when a connection is asked of a pool that is closed."""


class ReaderPool:
    """Opens connections when they are first needed and lends each to one thread at a time."""

    def __init__(self, open_connection: Callable[[], Connection], limit: int) -> None:
        self.limit = limit
        self._open_connection = open_connection
        self._idle: list[Connection] = []
        self._lent = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def lent(self) -> int:
        """How many connections are in use."""
        return self._lent

    @contextlib.contextmanager
    def lend(self) -> Iterator[Connection]:
        """A connection for the length of a block; whatever transaction it has left is rolled back.

        Raises:
            Busy: all of them have been in use for the whole waiting time.
            PoolClosed: the pool is closed.
            sqlite3.Error: no connection can be opened.
        """
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Refuse further readers, wait a little for those at work, close the rest. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lent, CLOSE_SECONDS)
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._lent < self.limit, WAIT_SECONDS):
                raise Busy(f"all {self.limit} connections for reading are in use", hint="Try again.")
            if self._closed:
                raise PoolClosed
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._open_connection()
        except BaseException:  # whatever it was, the place is free again
            with self._changed:
                self._lent -= 1
                self._changed.notify_all()
            raise

    def _give_back(self, connection: Connection) -> None:
        usable = _rolled_back(connection)
        with self._changed:
            self._lent -= 1
            keep = usable and not self._closed
            if keep:
                self._idle.append(connection)
            self._changed.notify_all()
        if not keep:
            connection.close()


def _rolled_back(connection: Connection) -> bool:
    try:
        connection.roll_back()
    except sqlite3.Error:
        return False
    return True
