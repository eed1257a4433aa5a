"""Work that the servers of a palace in PostgreSQL share: passages are claimed for a minute, tasks are leased.

Both are rows with a time until which they hold, by the clock of the database. A lock of a session would be free the
moment its server dies; but behind a pooler that gives each transaction another connection nobody could give it back.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.model import Chunk, Priority
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.connection import Connection, Parameters
from mempalace_mcp.storage.postgres.connection import PostgresConnection, connect
from mempalace_mcp.storage.postgres.failures import explain, is_passing
from mempalace_mcp.storage.turns import Task, Turns

logger = logging.getLogger(__name__)

T = TypeVar("T")

TURN_SECONDS = 60.0
"""How long others wait for a server that has died. A batch of passages takes a few seconds."""
RENEWED_AFTER = 1 / 3
"""Of that time a lease is renewed, so that a slow step does not lose it."""
ASKED_AFTER = 1 / 12
"""Of that time a server that was refused a lease asks again."""
_STATEMENT_SECONDS = 10
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_CLAIM = f"""
    WITH free AS MATERIALIZED (
        SELECT chunk FROM pending WHERE bulk = :bulk AND claimed_until < {_NOW}
        ORDER BY chunk LIMIT :limit FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE pending p SET claimed_until = {_NOW} + :time FROM free WHERE p.chunk = free.chunk RETURNING p.chunk
    )
    SELECT c.id, substr(d.content, c.start + 1, c.stop - c.start)
    FROM claimed JOIN chunks c ON c.id = claimed.chunk JOIN drawers d ON d.id = c.drawer ORDER BY c.id
"""

# An index is made without a transaction and far longer than a lease lasts. To rename its table meanwhile would wait for
# it, with the palace's write lock in hand.
_TAKE = f"""
    INSERT INTO leases (task, holder, until) SELECT :task, :holder, {_NOW} + :time
    WHERE :task <> '{Task.MOVE}' OR EXISTS (SELECT 1 FROM leases WHERE task = :task AND holder = :holder)
       OR NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index
                      WHERE relid IN ('vectors'::regclass, 'other_vectors'::regclass))
    ON CONFLICT (task) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE leases.until < {_NOW} OR leases.holder = excluded.holder
    RETURNING 1
"""
_RELEASE = "DELETE FROM leases WHERE task = :task AND holder = :holder RETURNING 1"


class Desk:
    """A connection of its own for short statements beside the palace's write lock. Thread-safe.

    What they write concerns nobody after a crash, so they do not wait for the disk.
    """

    def __init__(self, url: PalaceUrl) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._connection: PostgresConnection | None = None

    def run(self, sql: str, parameters: Parameters = ()) -> Sequence[tuple[Any, ...]]:
        """Run a statement in a transaction of its own; its rows. A connection that was lost is replaced once.

        Raises:
            PalaceError: the server refuses, or cannot be reached.
        """
        return self.do(lambda connection: connection.execute(sql, parameters).fetchall())

    def do(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run several statements in a transaction of their own; what `work` returns. It may be called twice.

        Raises:
            PalaceError: as `run`.
        """
        with self._lock:
            try:
                try:
                    return self._do(work)
                except psycopg.Error as error:
                    if not is_passing(error):
                        raise
                    return self._do(work)
            except psycopg.Error as error:
                raise explain(error, self._url) from error

    def close(self) -> None:
        """Close the connection; the next statement opens another. Idempotent."""
        with self._lock:
            self._drop()

    def _do(self, work: Callable[[PostgresConnection], T]) -> T:
        connection = self._connection or connect(self._url)
        self._connection = connection
        try:
            connection.expect(_STATEMENT_SECONDS)
            connection.script(
                f"BEGIN; SET LOCAL search_path = {connection.path}; SET LOCAL synchronous_commit = off;"
                f"SET LOCAL statement_timeout = {_STATEMENT_SECONDS * 1000}"
            )
            result = work(connection)
            connection.script("COMMIT")
        except BaseException:
            self._drop()
            raise
        return result

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Lease:
    """The right to do a task alone, for a while. It is not the process that holds it but this object."""

    def __init__(self, desk: Desk, task: Task, seconds: float = TURN_SECONDS) -> None:
        self._desk = desk
        self._values = {"task": str(task), "holder": secrets.token_hex(8)}
        self._seconds = seconds
        self._until = 0.0

    def take(self) -> bool:
        """Take it if it is free, or keep it; False while another one has it.

        Raises:
            PalaceError: the server cannot be asked.
        """
        now = time.monotonic()
        if self._until - now < self._seconds * (1 - RENEWED_AFTER):
            taken = self._desk.run(_TAKE, self._values | {"time": round(self._seconds * 1_000_000)})
            self._until = now + self._seconds if taken else 0.0
        return self._until > now

    def release(self) -> None:
        """Give it back if it is held.

        Raises:
            PalaceError: the server cannot be asked; it ends by itself then.
        """
        if self._until:
            self._until = 0.0
            self._desk.run(_RELEASE, self._values)


class LeasedTurns(Turns):
    """All servers embed, each the passages that it has claimed; each task is done by the server that has its lease."""

    def __init__(self, url: PalaceUrl, *, seconds: float = TURN_SECONDS) -> None:
        self._desk = Desk(url)
        self._seconds = seconds
        self._leases = {task: Lease(self._desk, task, seconds) for task in Task}
        self._ask_at: dict[Task, float] = {}

    def claim(self, connection: Connection, limit: int, priority: Priority) -> list[Chunk]:
        """The oldest ones that nobody has claimed. What is not stored when the time is over is free again."""
        values = {
            "bulk": int(priority is Priority.BULK),
            "limit": limit,
            "time": round(self._seconds * 1_000_000),
        }
        return [Chunk(*row) for row in self._desk.run(_CLAIM, values)]

    def lead(self, task: Task) -> bool:
        """While the lease is held here. A server that does not have it asks now and then."""
        now = time.monotonic()
        if now < self._ask_at.get(task, 0.0):
            return False
        taken = self._leases[task].take()
        if not taken:
            self._ask_at[task] = now + self._seconds * ASKED_AFTER
        return taken

    def release(self) -> None:
        """Give back the leases for what takes long. That for tidying is kept, so that servers do not take turns at
        finding nothing to do."""
        for task in (Task.MOVE, Task.TOKENS):
            self._leases[task].release()

    def close(self) -> None:
        """Give back the leases as far as the server can be reached, and close the connection."""
        try:
            for lease in self._leases.values():
                lease.release()
        except PalaceError:
            logger.info("leases could not be given back; they end by themselves")
        self._desk.close()
