"""The vector index of a palace: Chroma's prefix of the log and the exact rest, joined with SQLite."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from mempalace_mcp.core.errors import ModelMismatch
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.chroma import CachedClient, ChromaIndex
from mempalace_mcp.storage.vectors.exact import Candidates, ExactIndex, nearest_live
from mempalace_mcp.storage.vectors.log import RowFilter, Snapshot, Vectors
from mempalace_mcp.storage.vectors.model import (
    Cause,
    ChromaState,
    Difference,
    Neighbour,
    Reconnection,
    Serving,
    VectorStatistics,
)

Read = Callable[[], AbstractContextManager[Connection]]

TIME_SHARE = 0.8
"""The part of the time in which Chroma may be written."""
logger = logging.getLogger(__name__)

CLOSE_SECONDS = 30.0
PATIENCE_SECONDS = 0.25
"""How long a query waits for Chroma: less than loading the exact matrix would take, where Chroma is worthwhile."""
MINIMUM_ROWS = 50_000
_MOST_ROWS = 800
_SAMPLE_ROWS = 32


class VectorIndex:
    """Nearest neighbours that are exactly as fresh as the connection they are asked with.

    Opens nothing until it is used. `nearest` and `cosines` may be called by many threads at once; `advance` by one
    thread when there is nothing better to do: it alone imports, opens and fills Chroma. Until then, and whenever
    Chroma is missing, damaged or held by another process, the exact matrix answers alone.

    `mode` is `chroma` or `exact`; `stat_cooldown` is the number of seconds between looks for foreign writes; below
    `minimum_rows` vectors Chroma is not begun; `time_share` is the part of the time `advance` may take; `patience` is
    the number of seconds that a query waits for Chroma's turn and as long for its answer, before it is answered
    exactly.

    Chroma pays late: the exact matrix answers 100,000 vectors of 384 numbers in 7 ms with 40 MB of anonymous memory,
    Chroma and its process take 2 ms and 260 MB; it is the quicker one from 40,000 to 50,000 vectors on.
    """

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
        self._prefix = ChromaIndex(self._client, minimum_rows)
        self._exact: ExactIndex | None = None
        self._loading = threading.Lock()
        self._maintenance = threading.Lock()
        self._tidied = -1
        self._resume_at = 0.0
        self._position = 0
        self._closed = False

    def nearest(
        self, connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter
    ) -> list[Neighbour]:
        """The `limit` live chunks nearest to a query that match the filter, best first, as this connection sees them.

        Raises:
            ModelMismatch: the query has another dimension than the palace's vectors.
            PalaceCorrupt: the palace's vectors differ in length.
        """
        with log.snapshot(connection) as moment:
            if moment.dimension == 0 or limit < 1:
                return []
            query = _unit(query, moment.dimension)
            self._position = max(self._position, moment.position)
            serving = self._serving(moment) if drawer_filter.is_empty else None
            if serving is not None:
                found = self._nearest_in_both(connection, moment, query, limit, serving)
                if found is not None:
                    return found
            exact = self._caught_up(connection, moment, 0)
            rows = log.row_filter(connection, drawer_filter)
            scores = exact.scores(connection, moment, query, rows, 0)
            return nearest_live(connection, limit, drawer_filter, lambda count: [scores.best(count)]) or []

    def cosines(self, connection: Connection, query: Vectors, chunks: Sequence[int]) -> dict[int, float]:
        """The cosine to the query of those of the chunks that have a vector.

        Raises:
            ModelMismatch, PalaceCorrupt: as `nearest`.
        """
        found, vectors = log.vectors_of(connection, chunks)
        if len(found) == 0:
            return {}
        return dict(zip(found.tolist(), (vectors @ _unit(query, vectors.shape[1])).tolist(), strict=True))

    @property
    def rest(self) -> float:
        """Seconds until `advance` will do something again, as far as its share of the time is concerned."""
        return max(0.0, self._resume_at - time.monotonic())

    def advance(self, database_read: Read, limit: int) -> int:
        """Move up to `limit` rows of the tail into Chroma, or remove rows there; returns how many rows were touched.

        0 means that there is nothing to do, or nothing allowed for now (see `rest`). Never raises on account of Chroma.
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

    def reconnect(self, connection: Connection) -> Reconnection:
        """Close everything, forget everything, reopen and verify. Chroma's files survive if they can be trusted."""
        before = self.statistics()
        with self._maintenance:
            self._client.close(Cause.RECONNECT)
            self._drop_exact()
            self._resume_at, self._tidied = 0.0, -1
            if self._mode != "exact":
                with log.snapshot(connection) as moment:
                    self._prefix.open(connection, moment)
        differences = self.verify(connection)
        return Reconnection(before, self.statistics(), differences)

    def rebuild(self) -> bool:
        """Throw away everything derived; `advance` fills Chroma anew. False when another process holds Chroma."""
        with self._maintenance:
            self._drop_exact()
            self._resume_at = 0.0
            held = self._mode == "exact" or self._client.hold()
            if held:
                self._client.discard(Cause.REBUILD)
            return held

    def verify(self, connection: Connection) -> list[Difference]:
        """Where the parts disagree with SQLite: ids all compared, vectors sampled. Loads the whole exact matrix."""
        with log.snapshot(connection) as moment:
            exact = self._caught_up(connection, moment, 0)
            return [
                *exact.differences(connection, moment, _SAMPLE_ROWS),
                *self._prefix.differences(connection, moment),
            ]

    def statistics(self) -> VectorStatistics:
        """The present figures; reads memory only."""
        client, serving, exact = self._client, self._client.serving, self._exact
        position = serving.position if serving else 0
        return VectorStatistics(
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
        """Close Chroma so that it can be trusted next time, and let go of the matrix. Idempotent."""
        self._closed = True
        if not self._maintenance.acquire(timeout=CLOSE_SECONDS):
            logger.warning("Chroma is at work still after %.0f s, and ends with the process", CLOSE_SECONDS)
            return
        try:
            self._client.close()
            self._drop_exact()
        finally:
            self._maintenance.release()

    def _state(self, serving: Serving | None) -> ChromaState:
        if self._mode == "exact":
            return ChromaState.OFF
        if serving is None:
            return self._client.state
        return ChromaState.READY if self._is_worthwhile(serving, self._position) else ChromaState.BUILDING

    def _is_worthwhile(self, serving: Serving, position: int) -> bool:
        """Scanning the tail and asking Chroma is quicker than scanning everything once Chroma holds the larger part."""
        return serving.rows > 0 and position - serving.position <= serving.rows

    def _serving(self, moment: Snapshot) -> Serving | None:
        """What Chroma can answer for this moment, if that is worthwhile."""
        serving = self._client.serving
        if serving is None or serving.palace != moment.palace or serving.swept > moment.seq:
            return None
        return serving if self._is_worthwhile(serving, moment.position) else None

    def _nearest_in_both(
        self, connection: Connection, moment: Snapshot, query: Vectors, limit: int, serving: Serving
    ) -> list[Neighbour] | None:
        """Chroma's prefix and the exact tail; None when Chroma fails or too many of its rows are dead."""
        exact = self._caught_up(connection, moment, serving.position)
        tail = exact.scores(connection, moment, query, RowFilter(), serving.position)
        wait = exact.after > 0  # else everything is loaded, and the exact answer is as good as there

        def best(count: int) -> list[Candidates] | None:
            prefix = self._client.query(serving, query, count, wait) if count <= _MOST_ROWS else None
            return None if prefix is None else [prefix, tail.best(count)]

        return nearest_live(connection, limit, DrawerFilter(), best)

    def _caught_up(self, connection: Connection, moment: Snapshot, after: int) -> ExactIndex:
        """An exact matrix of everything beyond `after` that this moment sees: the common one unless that is too new."""
        exact = self._exact
        if exact is None or not exact.covers(moment, after):
            with self._loading:
                exact = self._exact
                if exact is None or not exact.covers(moment, after):
                    exact = self._load(connection, moment, after)
                    self._replace_exact(exact)
        if moment.seq < exact.since:
            older = self._load(connection, moment, after)
            older.close()
            return older
        exact.catch_up(connection, moment)
        return exact

    def _load(self, connection: Connection, moment: Snapshot, after: int) -> ExactIndex:
        exact = ExactIndex(self._directory, moment, after)
        exact.load(connection, moment)
        return exact

    def _replace_exact(self, exact: ExactIndex | None) -> None:
        former, self._exact = self._exact, exact
        if former is not None:
            former.close()

    def _drop_exact(self) -> None:
        with self._loading:
            self._replace_exact(None)

    def _advance(self, database_read: Read, limit: int) -> int:
        with database_read() as connection, log.snapshot(connection) as moment:
            self._position = max(self._position, moment.position)
            self._tidy_exact(connection, moment)
            if self._mode == "exact" or not self._prefix.open(connection, moment):
                return 0
            plan = self._prefix.plan(connection, moment, limit)
        return self._prefix.carry_out(plan)

    def _tidy_exact(self, connection: Connection, moment: Snapshot) -> None:
        """Find vanished rows after changes, and load anew what is mostly waste."""
        exact = self._exact
        if exact is None or not exact.covers(moment, exact.after) or moment.seq < exact.since:
            return
        if moment.seq != self._tidied:
            exact.sweep(connection, moment)
            self._tidied = moment.seq
        serving = self._client.serving
        position = serving.position if serving else 0
        if exact.is_wasteful(position):
            fresh = self._load(connection, moment, position if exact.after else 0)
            with self._loading:
                self._replace_exact(fresh)


def _unit(query: Vectors, dimension: int) -> Vectors:
    """The query at unit length.

    Raises:
        ModelMismatch: it has another dimension.
    """
    if query.shape != (dimension,):
        raise ModelMismatch(
            f"the query has {query.size} dimensions, the palace's vectors have {dimension}",
            hint=f"Use the model that made the palace. Or: {log.REINDEX}",
        )
    length = float(np.linalg.norm(query))
    return np.ascontiguousarray(query / length if length > 0 else query, np.float32)
