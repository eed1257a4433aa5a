"""What is known of each row of the exact matrix, as columns of integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.storage.vectors.truth import ROW_FIELDS, Integers, RowFilter

_GONE = len(ROW_FIELDS)
_POSITION, _CHUNK, _DRAWER, _WING, _ROOM, _WHEN_AT, _SEQ, _LIVE = range(_GONE)
_FIRST_CAPACITY = 1024

Mask = NDArray[np.bool_]


class Columns:
    """Position, chunk, drawer, wing, room, date, change number, live and gone; rows ascend by position.

    Position and chunk of a row never change; whoever holds those views may read on while rows are added.
    """

    def __init__(self) -> None:
        self.count = 0
        self.gone = 0
        self._table = np.zeros((_GONE + 1, _FIRST_CAPACITY), np.int64)

    @property
    def positions(self) -> Integers:
        return self._table[_POSITION, : self.count]

    @property
    def chunks(self) -> Integers:
        return self._table[_CHUNK, : self.count]

    @property
    def rows(self) -> Integers:
        """The fields `ROW_FIELDS` of the rows whose vectors still exist."""
        return self._table[:_GONE, : self.count][:, self._table[_GONE, : self.count] == 0]

    @property
    def live(self) -> int:
        """How many rows belong to live drawers."""
        return int(np.count_nonzero(self._table[_LIVE, : self.count]))

    def dead(self, first: int) -> int:
        """How many rows from `first` on belong to deleted drawers, or to none."""
        return self.count - first - int(np.count_nonzero(self._table[_LIVE, first : self.count]))

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._table.nbytes

    def append(self, fields: Integers) -> None:
        """Add rows given as the columns `ROW_FIELDS`."""
        count = self.count + fields.shape[1]
        if count > self._table.shape[1]:
            table = np.zeros((_GONE + 1, max(count, 2 * self._table.shape[1])), np.int64)
            table[:, : self.count] = self._table[:, : self.count]
            self._table = table
        self._table[:_GONE, self.count : count] = fields
        self.count = count

    def rows_of(self, drawers: Integers) -> Integers:
        """The indexes of the rows of these drawers."""
        return np.flatnonzero(np.isin(self._table[_DRAWER, : self.count], drawers))

    def drawers_at(self, rows: Integers) -> Integers:
        drawers: Integers = self._table[_DRAWER, rows]
        return drawers

    def update(self, rows: Integers, changes: Integers) -> None:
        """Write what the drawers of these rows have become: columns id, wing, room, when_at, seq, live by id."""
        place = np.searchsorted(changes[0], self._table[_DRAWER, rows])
        for field, column in zip((_WING, _ROOM, _WHEN_AT, _SEQ, _LIVE), changes[1:], strict=True):
            self._table[field, rows] = column[place]
        self._table[_LIVE, rows] &= 1 - self._table[_GONE, rows]

    def keep(self, rows: Integers, positions: Integers, seq: int) -> None:
        """Of these rows, mark those as gone whose position is not among the given ones, as seen at `seq`."""
        vanished = rows[~np.isin(self._table[_POSITION, rows], positions) & (self._table[_GONE, rows] == 0)]
        self._table[_GONE, vanished] = 1
        self._table[_LIVE, vanished] = 0
        self._table[_SEQ, vanished] = np.maximum(self._table[_SEQ, vanished], seq)
        self.gone += len(vanished)

    def eligible(self, first: int, stop: int, seq: int, row_filter: RowFilter) -> Mask:
        """Which rows from `first` to `stop` a reader at `seq` must consider.

        Those that match, and those whose drawer has changed since: what such a reader sees of them, SQLite knows.
        """
        table = self._table[:, first:stop]
        mask: Mask = table[_LIVE] != 0
        if row_filter.wing is not None:
            mask &= table[_WING] == row_filter.wing
        if row_filter.rooms is not None:
            mask &= np.isin(table[_ROOM], row_filter.rooms)
        if row_filter.drawers is not None:
            mask &= np.isin(table[_DRAWER], row_filter.drawers)
        if row_filter.since is not None:
            mask &= table[_WHEN_AT] >= row_filter.since
        if row_filter.before is not None:
            mask &= table[_WHEN_AT] < row_filter.before
        mask |= table[_SEQ] > seq
        return mask
