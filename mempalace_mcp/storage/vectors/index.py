"""The vector index of a palace: Chroma holds the synced part of the log, an exact matrix the unsynced tail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.chroma import CachedClient, ChromaIndex
from mempalace_mcp.storage.vectors.exact import Candidates, ExactIndex, nearest_live
from mempalace_mcp.storage.vectors.log import RowFilter, Snapshot, Vectors
from mempalace_mcp.storage.vectors.model import (
    Cause,
    ChromaStatistics,
    Difference,
    IndexState,
    Neighbour,
    Reconnection,
    Serving,
)
from mempalace_mcp.storage.vectors.protocol import PalaceVectors, Read

logger = logging.getLogger(__name__)

TIME_SHARE = 0.8
"""The part of the time in which Chroma may be written."""
CLOSE_SECONDS = 30.0
STORED_AT_ONCE = 1_000
"""The index follows the log of vectors; nothing of it is written with them."""
PATIENCE_SECONDS = 0.25
"""The wait of a query for Chroma: shorter than loading an exact matrix of `MINIMUM_ROWS`."""
MINIMUM_ROWS = 50_000
_MOST_ROWS = 800
_SAMPLE_ROWS = 32


class VectorIndex(PalaceVectors):
    """Nearest neighbours, as of the snapshot of the connection that asks.

    Opens nothing until it is used. `nearest` and `cosines` may be called by many threads at once. `advance` is called
    by one thread when that has nothing else to do; only `advance` and `reconnect` open Chroma. While Chroma is missing,
    damaged, being filled or held by another process, the exact matrix answers alone.

    `mode` is `chroma` or `exact`. `stat_cooldown` is the number of seconds between checks for foreign writes. Chroma is
    begun at `minimum_rows` vectors. `time_share` is the part of the time that `advance` may take. A query waits
    `patience` seconds for Chroma to be free, and as long for its answer; then the exact matrix answers.

    Chroma is the faster one from 40,000 to 50,000 vectors on. For 100,000 vectors of 384 numbers the exact matrix takes
    7 ms and 40 MB of anonymous memory, Chroma and its process 2 ms and 260 MB.
    """

    stored_at_once = STORED_AT_ONCE

    def __init__(
        self,
        directory: Path,
        *,
        mode: str,
        stat_cooldown: float,
        minimum_rows: int = MINIMUM_ROWS,
        time_share: float = TIME_SHARE,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._directory = directory
        self._mode = mode
        self._time_share = time_share
        self._client = CachedClient(directory, stat_cooldown, patience)
        self._chroma = ChromaIndex(self._client, minimum_rows)
        self._exact: ExactIndex | None = None
        self._loading = threading.Lock()
        self._maintenance = threading.Lock()
        self._tidied_seq = -1
        self._resume_at = 0.0
        self._position = 0
        self._closed = False

    def nearest(
        self, connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter
    ) -> list[Neighbour]:
        """The `limit` live chunks nearest to a query that match the filter, best first.

        Raises:
            ModelMismatch: the query has another dimension than the palace's vectors.
            PalaceCorrupt: the palace's vectors differ in length.
        """
        with log.snapshot(connection) as snapshot:
            if snapshot.dimension == 0 or limit < 1:
                return []
            query = log.unit_query(query, snapshot.dimension)
            self._position = max(self._position, snapshot.position)
            serving = self._serving(snapshot) if drawer_filter.is_empty else None
            if serving is not None:
                found = self._nearest_in_both(connection, snapshot, query, limit, serving)
                if found is not None:
                    return found
            exact = self._caught_up(connection, snapshot, 0)
            rows = log.row_filter(connection, drawer_filter)
            scores = exact.scores(connection, snapshot, query, rows, 0)
            return nearest_live(connection, limit, drawer_filter, lambda count: [scores.best(count)]) or []

    def cosines(self, connection: Connection, query: Vectors, chunks: Sequence[int]) -> dict[int, float]:
        """The cosine to the query of those of the chunks that have a vector.

        Raises:
            ModelMismatch, PalaceCorrupt: as `nearest`.
        """
        found, vectors = log.vectors_of(connection, chunks)
        if len(found) == 0:
            return {}
        return dict(zip(found.tolist(), (vectors @ log.unit_query(query, vectors.shape[1])).tolist(), strict=True))

    @property
    def rest(self) -> float:
        """Seconds until the share of the time lets `advance` work again."""
        return max(0.0, self._resume_at - time.monotonic())

    def advance(self, database_read: Read, limit: int) -> int:
        """Add up to `limit` rows of the unsynced tail to Chroma, or remove rows there; returns how many.

        0 means that there is nothing to do, or that its share of the time is used up (see `rest`). Never raises because
        of Chroma.
        """
        if self.rest > 0 or not self._maintenance.acquire(blocking=False):
            return 0
        started = time.monotonic()
        try:
            return 0 if self._closed else self._advance(database_read, limit)
        finally:
            finished = time.monotonic()
            self._resume_at = finished + (finished - started) * (1 / self._time_share - 1)
            self._maintenance.release()

    def reconnect(self, connection: Connection) -> Reconnection[ChromaStatistics]:
        """Close everything, open it again and verify it. Chroma's files are kept if they can be trusted."""
        before = self.statistics()
        with self._maintenance:
            self._client.close(Cause.RECONNECT)
            self._drop_exact()
            self._resume_at, self._tidied_seq = 0.0, -1
            if self._mode != "exact":
                with log.snapshot(connection) as snapshot:
                    self._chroma.open(connection, snapshot)
        differences = self.verify(connection)
        return Reconnection(before, self.statistics(), differences)

    def rebuild(self) -> bool:
        """Discard everything derived; `advance` fills Chroma anew. False when another process holds Chroma."""
        with self._maintenance:
            self._drop_exact()
            self._resume_at = 0.0
            held = self._mode == "exact" or self._client.hold()
            if held:
                self._client.discard(Cause.REBUILD)
            return held

    def verify(self, connection: Connection) -> list[Difference]:
        """Where the two parts differ from SQLite: all ids and a sample of the vectors. Loads the whole exact matrix."""
        with log.snapshot(connection) as snapshot:
            exact = self._caught_up(connection, snapshot, 0)
            return [
                *exact.differences(connection, snapshot, _SAMPLE_ROWS),
                *self._chroma.differences(connection, snapshot),
            ]

    def statistics(self) -> ChromaStatistics:
        """The present figures, without reading a file."""
        client, serving, exact = self._client, self._client.serving, self._exact
        position = serving.position if serving else 0
        return ChromaStatistics(
            mode=self._mode,
            rows_exact=exact.rows if exact else 0,
            rows_live=exact.live if exact else 0,
            rows_tail=exact.rows_beyond(position) if exact else 0,
            chroma_state=self._state(serving),
            process=client.process,
            chroma_rows=serving.rows if serving else 0,
            chroma_deleted=client.deleted,
            position=position,
            generation=client.generation,
            last_reopen=client.last_reopen,
            foreign_writes=client.foreign_writes,
            rebuilds=client.rebuilds,
            rebuild_seconds=client.rebuild_seconds,
            failures=client.failures,
            bytes_mapped=exact.bytes_mapped if exact else 0,
            bytes_memory=exact.bytes_memory if exact else 0,
            bytes_chroma=client.size,
        )

    def close(self) -> None:
        """Close Chroma so that its files can be trusted next time, and the matrix. Idempotent."""
        self._closed = True
        if not self._maintenance.acquire(timeout=CLOSE_SECONDS):
            logger.warning("Chroma is still at work after %.0f s; it ends with this process", CLOSE_SECONDS)
            return
        try:
            self._client.close()
            self._drop_exact()
        finally:
            self._maintenance.release()

    def _state(self, serving: Serving | None) -> IndexState:
        if self._mode == "exact":
            return IndexState.OFF
        if serving is None:
            return self._client.state
        return IndexState.READY if self._is_worthwhile(serving, self._position) else IndexState.BUILDING

    def _is_worthwhile(self, serving: Serving, position: int) -> bool:
        """Does Chroma hold the larger part? Else scanning everything is faster than asking it and scanning the rest."""
        return serving.rows > 0 and position - serving.position <= serving.rows

    def _serving(self, snapshot: Snapshot) -> Serving | None:
        """The state of Chroma, if it can answer for this snapshot and that is worthwhile."""
        serving = self._client.serving
        if serving is None or serving.palace != snapshot.palace or serving.watermark > snapshot.seq:
            return None
        return serving if self._is_worthwhile(serving, snapshot.position) else None

    def _nearest_in_both(
        self, connection: Connection, snapshot: Snapshot, query: Vectors, limit: int, serving: Serving
    ) -> list[Neighbour] | None:
        """The nearest of the synced part and the unsynced tail; None when Chroma fails or has too many dead rows."""
        exact = self._caught_up(connection, snapshot, serving.position)
        unsynced = exact.scores(connection, snapshot, query, RowFilter(), serving.position)
        wait = exact.after > 0  # else everything is loaded, and the exact answer needs no waiting

        def best(count: int) -> list[Candidates] | None:
            synced = self._client.query(serving, query, count, wait) if count <= _MOST_ROWS else None
            return None if synced is None else [synced, unsynced.best(count)]

        return nearest_live(connection, limit, DrawerFilter(), best)

    def _caught_up(self, connection: Connection, snapshot: Snapshot, after: int) -> ExactIndex:
        """A matrix of the snapshot beyond `after`: the shared one, or a new one when that is too new."""
        exact = self._exact
        if exact is None or not exact.covers(snapshot, after):
            with self._loading:
                exact = self._exact
                if exact is None or not exact.covers(snapshot, after):
                    exact = self._load(connection, snapshot, after)
                    self._replace_exact(exact)
        if exact.catch_up(connection, snapshot):
            return exact
        older = self._load(connection, snapshot, after)
        older.close()
        return older

    def _load(self, connection: Connection, snapshot: Snapshot, after: int) -> ExactIndex:
        exact = ExactIndex(self._directory, snapshot, after)
        exact.load(connection, snapshot)
        return exact

    def _replace_exact(self, exact: ExactIndex | None) -> None:
        former, self._exact = self._exact, exact
        if former is not None:
            former.close()

    def _drop_exact(self) -> None:
        with self._loading:
            self._replace_exact(None)

    def _advance(self, database_read: Read, limit: int) -> int:
        with database_read() as connection, log.snapshot(connection) as snapshot:
            self._position = max(self._position, snapshot.position)
            self._tidy_exact(connection, snapshot)
            if self._mode == "exact" or not self._chroma.open(connection, snapshot):
                return 0
            step = self._chroma.next_step(connection, snapshot, limit)
        return self._chroma.apply(step)

    def _tidy_exact(self, connection: Connection, snapshot: Snapshot) -> None:
        """Find removed rows after changes, and load the matrix anew when much of it is not needed."""
        exact = self._exact
        if exact is None or not exact.covers(snapshot, exact.after) or snapshot.seq < exact.since:
            return
        if snapshot.seq != self._tidied_seq:
            exact.find_removed(connection, snapshot)
            self._tidied_seq = snapshot.seq
        serving = self._client.serving
        position = serving.position if serving else 0
        if exact.is_wasteful(position):
            fresh = self._load(connection, snapshot, position if exact.after else 0)
            with self._loading:
                self._replace_exact(fresh)
