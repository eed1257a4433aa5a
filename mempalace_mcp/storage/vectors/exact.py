"""The exact matrix: every vector of the log beyond some position, scanned as a whole."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.storage.vectors import truth
from mempalace_mcp.storage.vectors.blocks import BLOCK_ROWS, Blocks
from mempalace_mcp.storage.vectors.candidates import Scores
from mempalace_mcp.storage.vectors.columns import Columns, Mask
from mempalace_mcp.storage.vectors.model import Difference
from mempalace_mcp.storage.vectors.truth import Moment, RowFilter, Vectors

_GATHER_ROWS = 4096
_WASTE_ROWS = 1000
_WASTE_SHARE = 0.2


class ExactIndex:
    """Vectors with a position beyond `after`, and what is needed to filter them. Those of drawers that were deleted
    when it was loaded are left out: a drawer that is restored enters the log anew.

    Each search first catches up with what its connection sees, under a lock; the scan itself runs without one, since
    rows never change. A reader whose snapshot is older than what is loaded gets every row that may matter to it, and
    leaves the rest to the join with SQLite. `since` is the oldest change number it can serve.
    """

    def __init__(self, directory: Path, moment: Moment, after: int) -> None:
        self.after = after
        self._palace = moment.palace
        self.since = moment.seq
        self._lock = threading.Lock()
        self._columns = Columns()
        self._blocks = Blocks(directory, moment.dimension)
        self._seq = moment.seq
        self._position = after
        self._absent = 0
        """Vectors of the log beyond `after` that were left out and still exist."""

    def covers(self, moment: Moment, after: int) -> bool:
        """Does it follow the log of this palace, with vectors of this length, from `after` or earlier on?"""
        return (self._palace, self._blocks.dimension) == (moment.palace, moment.dimension) and self.after <= after

    @property
    def rows(self) -> int:
        return self._columns.count

    @property
    def live(self) -> int:
        """Rows of live drawers."""
        return self._columns.live

    @property
    def bytes_mapped(self) -> int:
        return self._blocks.bytes_mapped

    @property
    def bytes_memory(self) -> int:
        return self._columns.size + self._blocks.bytes_memory

    def rows_beyond(self, position: int) -> int:
        """How many rows have a higher position."""
        positions = self._columns.positions
        return len(positions) - int(np.searchsorted(positions, position, "right"))

    def is_wasteful(self, position: int) -> bool:
        """Would loading it anew save a good part of it? A mere tail needs nothing up to `position`."""
        superfluous = 0 if self.after == 0 else self._columns.count - self.rows_beyond(position)
        return superfluous + self._columns.dead(superfluous) > max(_WASTE_ROWS, self._columns.count * _WASTE_SHARE)

    def load(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Load the rows of live drawers, before anybody else uses it."""
        with self._lock:
            self._read_log(connection, moment, live=True)
            self._absent = truth.count_after(connection, self.after) - self._columns.count

    def catch_up(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Load what the connection sees beyond what is loaded."""
        with self._lock:
            self._catch_up(connection, moment)

    def scores(
        self, connection: sqlite3.Connection, moment: Moment, query: Vectors, row_filter: RowFilter, after: int
    ) -> Scores:
        """The cosine to a query of every row beyond `after` that may match at this moment."""
        with self._lock:
            self._catch_up(connection, moment)
            positions, chunks = self._columns.positions, self._columns.chunks
            first, stop = (int(edge) for edge in np.searchsorted(positions, (after, moment.position), "right"))
            stop = max(first, stop)
            mask = self._columns.eligible(first, stop, moment.seq, row_filter)
            views = self._blocks.views
        cosines = _scan(views, query, first, mask)
        return Scores(chunks[first:stop], positions[first:stop], cosines, int(np.count_nonzero(mask)))

    def sweep(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Find the rows whose vectors have vanished without a trace in their drawer, as after a purge."""
        with self._lock:
            self._catch_up(connection, moment)
            columns = self._columns
            if moment.seq < self._seq or moment.position < self._position:
                return
            present = truth.count_after(connection, self.after)
            if present != columns.count - columns.gone + self._absent:
                columns.keep(np.arange(columns.count), truth.entries(connection)[0], moment.seq)
                self._absent = present - (columns.count - columns.gone)

    def differences(self, connection: sqlite3.Connection, moment: Moment, sample: int) -> list[Difference]:
        """Where it disagrees with SQLite: rows and their fields all compared, vectors sampled."""
        self.sweep(connection, moment)
        with self._lock:
            have = {int(row[0]): tuple(int(value) for value in row) for row in self._columns.rows.T}
            chunks, positions = self._columns.chunks, self._columns.positions
            views = self._blocks.views
        found: list[Difference] = []
        for fields, _ in truth.rows_after(connection, self.after):
            for row in fields.T:
                mine = have.pop(int(row[0]), None)
                if mine is None:
                    if row[-1]:  # live
                        found.append(Difference("exact", int(row[1]), "missing"))
                elif mine != tuple(int(value) for value in row):
                    found.append(Difference("exact", int(row[1]), "its drawer is described wrongly"))
        found += [Difference("exact", row[1], "not in SQLite") for row in have.values()]
        picked = np.unique(np.linspace(0, len(chunks) - 1, min(sample, len(chunks)), dtype=np.int64))
        wanted = {int(positions[row]): int(row) for row in picked}
        for position, chunk, vector in truth.vectors_at(connection, list(wanted)):
            mine_vector = views[wanted[position] // BLOCK_ROWS][wanted[position] % BLOCK_ROWS]
            if not np.array_equal(mine_vector, vector):
                found.append(Difference("exact", chunk, "another vector"))
        return found

    def close(self) -> None:
        """Let go of the file. Whoever still holds the matrix may search on; new rows go to memory."""
        with self._lock:
            self._blocks.close()

    def _catch_up(self, connection: sqlite3.Connection, moment: Moment) -> None:
        if moment.seq > self._seq:
            self._apply_changes(connection, moment)
        self._read_log(connection, moment, live=False)

    def _read_log(self, connection: sqlite3.Connection, moment: Moment, *, live: bool) -> None:
        if moment.position > self._position:
            for fields, vectors in truth.rows_after(connection, self._position, live=live):
                if vectors.shape[1] != self._blocks.dimension:
                    raise PalaceCorrupt("the palace holds vectors of different lengths", hint=truth.REINDEX)
                self._blocks.extend(self._columns.count, vectors)
                self._columns.append(fields)
                self._position = int(fields[0, -1])
            self._position = moment.position

    def _apply_changes(self, connection: sqlite3.Connection, moment: Moment) -> None:
        changes = truth.changes_after(connection, self._seq)
        rows = self._columns.rows_of(changes[0])
        if len(rows):
            drawers = np.unique(self._columns.drawers_at(rows))
            self._columns.update(rows, changes)
            self._columns.keep(rows, truth.positions_of_drawers(connection, drawers.tolist()), moment.seq)
        self._seq = moment.seq


def _scan(views: tuple[Vectors, ...], query: Vectors, first: int, mask: Mask) -> NDArray[np.float32]:
    """Cosines of the rows from `first` on where the mask is set, minus infinity elsewhere."""
    cosines = np.full(len(mask), -np.inf, np.float32)
    start = 0
    while start < len(mask):
        block, offset = divmod(first + start, BLOCK_ROWS)
        stop = min(len(mask), start + BLOCK_ROWS - offset)
        vectors, part = views[block][offset : offset + stop - start], mask[start:stop]
        wanted = np.flatnonzero(part)
        if 2 * len(wanted) > len(part):
            cosines[start:stop] = np.where(part, vectors @ query, -np.inf)
        else:
            for some in range(0, len(wanted), _GATHER_ROWS):
                rows = wanted[some : some + _GATHER_ROWS]
                cosines[start + rows] = vectors[rows] @ query
        start = stop
    return cosines
