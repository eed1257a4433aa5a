"""A set of integers in a temporary file: there may be too many of them for the memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


class DiskSet:
    """Integers of up to 64 bits, in a file that goes with the set. For one thread."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("")  # the empty name is that of a temporary file
        self._connection.execute("CREATE TABLE members (value INTEGER PRIMARY KEY)")

    def __contains__(self, value: int) -> bool:
        row = self._connection.execute("SELECT 1 FROM members WHERE value = ?", (value,)).fetchone()
        return row is not None

    def update(self, values: Iterable[int]) -> None:
        """Add the values."""
        self._connection.executemany("INSERT OR IGNORE INTO members VALUES (?)", ((value,) for value in values))

    def close(self) -> None:
        """Remove the file."""
        self._connection.close()
