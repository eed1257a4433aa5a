"""The exact index: a matrix of vectors in a mapped file, scanned as a whole, and the join of results with SQLite."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.log import ROW_FIELDS, Integers, RowFilter, Snapshot, Vectors
from mempalace_mcp.storage.vectors.model import Difference, Neighbour

Mask = NDArray[np.bool_]

BLOCK_ROWS = 32_768
_REMOVED = len(ROW_FIELDS)
_POSITION, _CHUNK, _DRAWER, _WING, _ROOM, _WHEN_AT, _SEQ, _LIVE = range(_REMOVED)
_FIRST_CAPACITY = 1024
_SPARE_ROWS = 14  # candidates beyond the limit, for rows that SQLite does not confirm
_WIDENING = 4
_GATHER_ROWS = 4096
_WASTE_ROWS = 1000
_WASTE_SHARE = 0.2


class MappedMatrix:
    """A growing matrix in blocks of `BLOCK_ROWS` rows, written to an unlinked file and read through mappings.

    Rows are written with `write`: a store into a mapping is a fatal signal when the disk is full. Where the file cannot
    be created or cannot grow, rows are in ordinary memory. Rows never change once written: readers need no lock, but
    `extend` does.
    """

    def __init__(self, directory: Path, dimension: int) -> None:
        self.dimension = dimension
        self.rows = 0
        self._directory = directory
        self._block_bytes = BLOCK_ROWS * dimension * 4
        self._blocks: tuple[Vectors, ...] = ()
        self._file: FileIO | None = None
        self._mapped = True  # while the file takes further rows

    @property
    def views(self) -> tuple[Vectors, ...]:
        """The blocks; rows beyond `rows` are undefined."""
        return self._blocks

    @property
    def bytes_mapped(self) -> int:
        """Bytes held by the file."""
        return self.rows * self.dimension * 4 - self.bytes_memory

    @property
    def bytes_memory(self) -> int:
        """Bytes held in anonymous memory."""
        rows = sum(
            min(BLOCK_ROWS, self.rows - number * BLOCK_ROWS)
            for number, block in enumerate(self._blocks)
            if block.flags.writeable
        )
        return rows * self.dimension * 4

    def extend(self, rows: int, vectors: Vectors) -> None:
        """Add vectors behind the first `rows` rows; rows there are of an attempt that failed, and are overwritten."""
        self.rows = rows
        while len(vectors):
            block, offset = divmod(self.rows, BLOCK_ROWS)
            part = np.ascontiguousarray(vectors[: BLOCK_ROWS - offset], np.float32)
            self._write(block, offset, part)
            self.rows += len(part)
            vectors = vectors[len(part) :]

    def close(self) -> None:
        """Close the file; its blocks stay readable until the last reader of each is gone."""
        self._mapped = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, block: int, offset: int, part: Vectors) -> None:
        if self._mapped:
            try:
                if block == len(self._blocks):
                    self._blocks = (*self._blocks, self._map(block))
                self._write_file(block * self._block_bytes + offset * self.dimension * 4, part)
            except (OSError, ValueError):  # no room, no permission, or a file system that cannot map
                self._mapped = False
            else:
                return
        self._write_memory(block, offset, part)

    def _map(self, block: int) -> Vectors:
        if self._file is None:
            descriptor, name = tempfile.mkstemp(dir=self._directory)
            self._file = os.fdopen(descriptor, "w+b", buffering=0)
            Path(name).unlink()
        self._file.truncate((block + 1) * self._block_bytes)
        mapping = mmap.mmap(
            self._file.fileno(), self._block_bytes, access=mmap.ACCESS_READ, offset=block * self._block_bytes
        )
        return np.frombuffer(mapping, np.float32).reshape(BLOCK_ROWS, self.dimension)

    def _write_file(self, start: int, part: Vectors) -> None:
        assert self._file is not None
        self._file.seek(start)
        data = part.data.cast("B")
        while data:
            data = data[self._file.write(data) :]

    def _write_memory(self, block: int, offset: int, part: Vectors) -> None:
        if block < len(self._blocks) and not self._blocks[block].flags.writeable:
            copy = np.empty((BLOCK_ROWS, self.dimension), np.float32)
            copy[:offset] = self._blocks[block][:offset]
            self._blocks = (*self._blocks[:block], copy)
        elif block == len(self._blocks):
            self._blocks = (*self._blocks, np.empty((BLOCK_ROWS, self.dimension), np.float32))
        self._blocks[block][offset : offset + len(part)] = part


class RowMetadata:
    """Columns of integers that describe the rows of the matrix: `ROW_FIELDS`, and whether a row is removed.

    Rows ascend by position. A row is removed when its vector is no longer in SQLite. The position and chunk of a row
    never change: views of these columns stay valid while rows are added.
    """

    def __init__(self) -> None:
        self.count = 0
        self.removed = 0
        self._table = np.zeros((_REMOVED + 1, _FIRST_CAPACITY), np.int64)

    @property
    def positions(self) -> Integers:
        return self._table[_POSITION, : self.count]

    @property
    def chunks(self) -> Integers:
        return self._table[_CHUNK, : self.count]

    @property
    def rows(self) -> Integers:
        """The fields `ROW_FIELDS` of the rows whose vectors still exist."""
        return self._table[:_REMOVED, : self.count][:, self._table[_REMOVED, : self.count] == 0]

    @property
    def live(self) -> int:
        """The number of rows of live drawers."""
        return int(np.count_nonzero(self._table[_LIVE, : self.count]))

    def dead(self, first: int) -> int:
        """The number of rows from `first` on that are removed or of deleted drawers."""
        return self.count - first - int(np.count_nonzero(self._table[_LIVE, first : self.count]))

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._table.nbytes

    def append(self, fields: Integers) -> None:
        """Add rows given as the columns `ROW_FIELDS`."""
        count = self.count + fields.shape[1]
        if count > self._table.shape[1]:
            table = np.zeros((_REMOVED + 1, max(count, 2 * self._table.shape[1])), np.int64)
            table[:, : self.count] = self._table[:, : self.count]
            self._table = table
        self._table[:_REMOVED, self.count : count] = fields
        self.count = count

    def rows_of(self, drawers: Integers) -> Integers:
        """The indexes of the rows of these drawers."""
        return np.flatnonzero(np.isin(self._table[_DRAWER, : self.count], drawers))

    def drawers_at(self, rows: Integers) -> Integers:
        drawers: Integers = self._table[_DRAWER, rows]
        return drawers

    def update(self, rows: Integers, changes: Integers) -> None:
        """Update rows from their drawers: columns id, wing, room, when_at, seq, live in the order of ids."""
        indexes = np.searchsorted(changes[0], self._table[_DRAWER, rows])
        for field, column in zip((_WING, _ROOM, _WHEN_AT, _SEQ, _LIVE), changes[1:], strict=True):
            self._table[field, rows] = column[indexes]
        self._table[_LIVE, rows] &= 1 - self._table[_REMOVED, rows]

    def mark_removed(self, rows: Integers, positions: Integers, seq: int) -> None:
        """Of these rows, mark those as removed whose position is not among `positions`, as of change number `seq`."""
        removed = rows[~np.isin(self._table[_POSITION, rows], positions) & (self._table[_REMOVED, rows] == 0)]
        self._table[_REMOVED, removed] = 1
        self._table[_LIVE, removed] = 0
        self._table[_SEQ, removed] = np.maximum(self._table[_SEQ, removed], seq)
        self.removed += len(removed)

    def eligible(self, first: int, stop: int, seq: int, row_filter: RowFilter) -> Mask:
        """Which rows from `first` to `stop` may match for a reader whose snapshot has the change number `seq`.

        This includes all rows whose drawer has changed since: the join with SQLite tells what that reader sees.
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


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best rows of Chroma or of the exact matrix, before the join with SQLite.

    A row is valid if SQLite has the chunk's vector at a position from `first` to `last`. Further rows have a cosine of
    at most `floor`, which is minus infinity when there are none.
    """

    chunks: Integers
    cosines: NDArray[np.float32]
    first: Integers
    last: Integers
    floor: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The cosine of every row of a range, minus infinity for those that cannot match."""

    chunks: Integers
    positions: Integers
    cosines: NDArray[np.float32]
    eligible: int

    def best(self, count: int) -> Candidates:
        """The `count` best rows in any order, or all if there are fewer."""
        if count < self.eligible < len(self.cosines) / 2:  # many equal ones make a partition slow
            rows = np.flatnonzero(self.cosines > -np.inf)
            order = rows[np.argpartition(self.cosines[rows], len(rows) - count)[len(rows) - count :]]
            floor = float(self.cosines[order].min())
        elif count < self.eligible:
            order = np.argpartition(self.cosines, len(self.cosines) - count)[len(self.cosines) - count :]
            floor = float(self.cosines[order].min())
        else:
            order = np.flatnonzero(self.cosines > -np.inf)
            floor = -math.inf
        positions = self.positions[order]
        return Candidates(self.chunks[order], self.cosines[order], positions, positions, floor)


def nearest_live(
    connection: Connection,
    limit: int,
    drawer_filter: DrawerFilter,
    best: Callable[[int], Sequence[Candidates] | None],
) -> list[Neighbour] | None:
    """The `limit` best candidates that SQLite confirms; None when `best` returns None.

    `best` takes a count and returns so many candidates of each part. The count grows until `limit` candidates are
    confirmed that no further row can outrank, or there are no further rows.
    """
    count = limit + _SPARE_ROWS
    while (parts := best(count)) is not None:
        confirmed = _confirmed(connection, drawer_filter, parts)
        floor = max(part.floor for part in parts)
        certain = [neighbour for neighbour in confirmed if neighbour.cosine >= floor]
        if len(certain) >= limit or floor == -np.inf:
            return certain[:limit]
        count *= _WIDENING
    return None


def _confirmed(connection: Connection, drawer_filter: DrawerFilter, parts: Sequence[Candidates]) -> list[Neighbour]:
    chunks = np.unique(np.concatenate([part.chunks for part in parts])).tolist()
    live = log.live_positions(connection, chunks, drawer_filter)
    cosines: dict[int, float] = {}
    for part in parts:
        rows = zip(part.chunks.tolist(), part.cosines.tolist(), part.first.tolist(), part.last.tolist(), strict=True)
        for chunk, cosine, first, last in rows:
            if first <= live.get(chunk, -1) <= last:
                cosines[chunk] = cosine
    ranked = sorted(cosines.items(), key=lambda item: (-item[1], item[0]))
    return [Neighbour(chunk, cosine) for chunk, cosine in ranked]


class ExactIndex:
    """A matrix of the vectors with a position beyond `after`, and the metadata that filters need.

    Vectors of drawers that were deleted when it was loaded are left out: a restored drawer enters the log anew. Each
    search first catches up with the snapshot of its connection, under a lock. The scan runs without the lock, since
    rows never change. For a snapshot older than the matrix, all rows that may match are candidates, and the join with
    SQLite decides. `since` is the oldest change number that it can serve.
    """

    def __init__(self, directory: Path, snapshot: Snapshot, after: int) -> None:
        self.after = after
        self._palace = snapshot.palace
        self.since = snapshot.seq
        self._lock = threading.Lock()
        self._metadata = RowMetadata()
        self._matrix = MappedMatrix(directory, snapshot.dimension)
        self._seq = snapshot.seq
        self._position = after
        self._skipped = 0  # vectors beyond `after` that SQLite has, but that were left out

    def covers(self, snapshot: Snapshot, after: int) -> bool:
        """Does it follow the log of this palace, with vectors of this length, from `after` or earlier on?"""
        return (self._palace, self._matrix.dimension) == (snapshot.palace, snapshot.dimension) and self.after <= after

    @property
    def rows(self) -> int:
        return self._metadata.count

    @property
    def live(self) -> int:
        """Rows of live drawers."""
        return self._metadata.live

    @property
    def bytes_mapped(self) -> int:
        return self._matrix.bytes_mapped

    @property
    def bytes_memory(self) -> int:
        return self._metadata.size + self._matrix.bytes_memory

    def rows_beyond(self, position: int) -> int:
        """The number of rows with a higher position."""
        positions = self._metadata.positions
        return len(positions) - int(np.searchsorted(positions, position, "right"))

    def is_wasteful(self, position: int) -> bool:
        """Would a new matrix be much smaller? One of the unsynced tail needs no row up to `position`."""
        unneeded = 0 if self.after == 0 else self._metadata.count - self.rows_beyond(position)
        return unneeded + self._metadata.dead(unneeded) > max(_WASTE_ROWS, self._metadata.count * _WASTE_SHARE)

    def load(self, connection: Connection, snapshot: Snapshot) -> None:
        """Load the rows of live drawers; called once, before other threads use it."""
        with self._lock:
            self._read_log(connection, snapshot, live=True)
            self._skipped = log.count_after(connection, self.after) - self._metadata.count

    def catch_up(self, connection: Connection, snapshot: Snapshot) -> bool:
        """Load the changes up to a snapshot; False if it is older than what the matrix can serve."""
        with self._lock:
            if snapshot.seq < self.since:
                return False
            self._catch_up(connection, snapshot)
            return True

    def scores(
        self, connection: Connection, snapshot: Snapshot, query: Vectors, row_filter: RowFilter, after: int
    ) -> Scores:
        """The cosine to a query of every row beyond `after` that may match in this snapshot."""
        with self._lock:
            self._catch_up(connection, snapshot)
            positions, chunks = self._metadata.positions, self._metadata.chunks
            first, stop = (int(edge) for edge in np.searchsorted(positions, (after, snapshot.position), "right"))
            stop = max(first, stop)
            mask = self._metadata.eligible(first, stop, snapshot.seq, row_filter)
            views = self._matrix.views
        cosines = _scan(views, query, first, mask)
        return Scores(chunks[first:stop], positions[first:stop], cosines, int(np.count_nonzero(mask)))

    def find_removed(self, connection: Connection, snapshot: Snapshot) -> None:
        """Mark the rows whose vectors were removed without a change of their drawer, as a purge does."""
        with self._lock:
            self._catch_up(connection, snapshot)
            metadata = self._metadata
            if snapshot.seq < self._seq or snapshot.position < self._position:
                return
            present = log.count_after(connection, self.after)
            if present != metadata.count - metadata.removed + self._skipped:
                metadata.mark_removed(np.arange(metadata.count), log.entries(connection)[0], snapshot.seq)
                self._skipped = present - (metadata.count - metadata.removed)

    def differences(self, connection: Connection, snapshot: Snapshot, sample: int) -> list[Difference]:
        """Where it disagrees with SQLite: rows and their fields all compared, vectors sampled."""
        self.find_removed(connection, snapshot)
        with self._lock:
            held = {int(row[0]): tuple(int(value) for value in row) for row in self._metadata.rows.T}
            chunks, positions = self._metadata.chunks, self._metadata.positions
            views = self._matrix.views
        found: list[Difference] = []
        for fields, _ in log.rows_after(connection, self.after):
            for row in fields.T:
                loaded = held.pop(int(row[0]), None)
                if loaded is None:
                    if row[-1]:  # live
                        found.append(Difference("exact", int(row[1]), "missing"))
                elif loaded != tuple(int(value) for value in row):
                    found.append(Difference("exact", int(row[1]), "its drawer is described wrongly"))
        found += [Difference("exact", row[1], "not in SQLite") for row in held.values()]
        picked = np.unique(np.linspace(0, len(chunks) - 1, min(sample, len(chunks)), dtype=np.int64))
        wanted = {int(positions[row]): int(row) for row in picked}
        for position, chunk, vector in log.vectors_at(connection, list(wanted)):
            loaded_vector = views[wanted[position] // BLOCK_ROWS][wanted[position] % BLOCK_ROWS]
            if not np.array_equal(loaded_vector, vector):
                found.append(Difference("exact", chunk, "another vector"))
        return found

    def close(self) -> None:
        """Close the file. Searches under way go on; new rows go to memory."""
        with self._lock:
            self._matrix.close()

    def _catch_up(self, connection: Connection, snapshot: Snapshot) -> None:
        if snapshot.seq > self._seq:
            self._apply_changes(connection, snapshot)
        self._read_log(connection, snapshot, live=False)

    def _read_log(self, connection: Connection, snapshot: Snapshot, *, live: bool) -> None:
        if snapshot.position > self._position:
            missing = snapshot.position - self._position
            for fields, vectors in log.rows_after(connection, self._position, live=live):
                if vectors.shape[1] != self._matrix.dimension:
                    raise PalaceCorrupt("the palace holds vectors of different lengths", hint=log.REINDEX)
                self._matrix.extend(self._metadata.count, vectors)
                self._metadata.append(fields)
                self._position = int(fields[0, -1])
                missing -= fields.shape[1]
            self._position = snapshot.position
            if missing:  # vectors that came and went in between, which an older snapshot may see
                self.since = snapshot.seq

    def _apply_changes(self, connection: Connection, snapshot: Snapshot) -> None:
        changes = log.changes_after(connection, self._seq)
        rows = self._metadata.rows_of(changes[0])
        if len(rows):
            drawers = np.unique(self._metadata.drawers_at(rows))
            self._metadata.update(rows, changes)
            self._metadata.mark_removed(rows, log.positions_of_drawers(connection, drawers.tolist()), snapshot.seq)
        self._seq = snapshot.seq


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
            for begin in range(0, len(wanted), _GATHER_ROWS):
                rows = wanted[begin : begin + _GATHER_ROWS]
                cosines[start + rows] = vectors[rows] @ query
        start = stop
    return cosines
