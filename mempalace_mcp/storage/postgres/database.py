"""The palace's database in PostgreSQL, used by any number of servers at once.

The row of `state` is the palace's write lock: each transaction that writes takes it first and so sees everything that
was committed before, and `seq` ascends in the order of commits. A reader sees one snapshot and waits for nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from mempalace_mcp.core import clock
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import DeadlineExceeded, PalaceError, StorageError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import (
    DatabaseStatistics,
    DataVersion,
    FileStatistics,
    PalaceDatabase,
    ServerStatistics,
)
from mempalace_mcp.storage.group_commit import Backoff, GroupDatabase, Outcome, TransactionLost, run_units
from mempalace_mcp.storage.postgres.connection import (
    IDLE_SECONDS,
    READ_SECONDS,
    REST_SECONDS,
    PostgresConnection,
    connect,
)
from mempalace_mcp.storage.postgres.failures import explain, is_passing, state_of
from mempalace_mcp.storage.postgres.inspection import ServerWatch
from mempalace_mcp.storage.postgres.migrations import connect_migrated, load_steps, verify_version
from mempalace_mcp.storage.postgres.polling import VersionPoll
from mempalace_mcp.storage.reader_pool import PoolClosed, ReaderPool
from mempalace_mcp.storage.transactions import Stamp, Unit

T = TypeVar("T")

RECONNECT_SECONDS = 10.0
"""How long a reader waits for a server that starts again, or for the standby that takes its place."""
RESTED_SECONDS = 5.0
"""After so long a rest the connection for writing is tried before it waits for the lock."""
REMEMBERED = 10_000
"""Of so many changes, and of an hour by the database's clock, it is known which transactions were committed. A server
asks within a minute, and clocks of two machines may differ."""
FORGET_AFTER = 256
"""After so many commits a server removes what is older."""
BEGINNING = "beginning"
"""A savepoint before the first statement of a reader. An error of one statement would end the snapshot otherwise."""
_MILLISECOND = 1000


class PostgresDatabase(GroupDatabase, PalaceDatabase):
    """The palace at an address. Thread-safe; each process opens its own.

    `directory` is where this machine keeps the address of its daemon; nothing of the palace is in it.

    Raises:
        ConfigurationError: address, server, extension or user are wrong.
        PalaceError: the palace cannot be opened.
    """

    failures = (psycopg.Error,)

    def __init__(
        self, url: PalaceUrl, directory: Path, *, now: Callable[[], Instant] = clock.now, readers: int = 8
    ) -> None:
        self.url = url
        self.directory = directory
        self._now = now
        self._steps = load_steps()
        self._process = os.getpid()
        self._writing = threading.Lock()
        self._writer: PostgresConnection | None = None
        self._written_at = time.monotonic()
        self._statistics = replace(_EMPTY, readers_limit=readers)
        self._closed = False
        with self._explained():
            self._writer = connect_migrated(self.url, self._steps, self._now())
        self._readers = ReaderPool(partial(connect, url), readers)
        self._poll = VersionPoll(self.read)
        self._watch = ServerWatch(url)

    @contextlib.contextmanager
    def read(self) -> Iterator[PostgresConnection]:
        """A connection that sees one consistent snapshot for the length of a block, and cannot write.

        Raises:
            Busy: all connections were in use for the whole waiting time, or the server cannot be reached.
            PalaceMissing: the schema is gone.
            SchemaTooNew, StorageError: it cannot be read.
        """
        with self._explained(), contextlib.ExitStack() as stack:
            yield self._begin_to_read(stack)

    def read_if_changed(
        self, seen: DataVersion | None, read: Callable[[Connection], T]
    ) -> tuple[DataVersion, T] | None:
        """What `read` finds, and the version of that; None if nobody has committed since the version `seen`.

        A thread looks after the palace meanwhile, so that this waits for nothing; what others have committed is noticed
        a quarter of a second later. Only the first call waits.
        """
        return self._poll.read_if_changed(seen, read)

    def awaited(self) -> str:
        """What a write waits for, as error messages name it."""
        return f"the write lock of {self.url}"

    def integrity(self) -> list[str]:
        """What is wrong with the palace's tables: PostgreSQL verifies references at each write by itself.

        Raises:
            PalaceError: as `read`.
        """
        with self.read() as connection:
            invalid = connection.execute(
                "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND n.nspname = ?",
                (self.url.schema,),
            ).fetchall()
        return [f"the index {name} is not valid" for (name,) in invalid]

    def reopen(self) -> None:
        """Connect anew. On failure it stays as it was.

        Raises:
            PalaceMissing: the palace is not there.
            PalaceError: as opening.
        """
        self._verify_open()
        with self._explained():
            writer = connect_migrated(self.url, self._steps, self._now(), create=False)
        with self._writing:
            former, self._writer = self._writer, writer
        earlier, self._readers = self._readers, ReaderPool(partial(connect, self.url), self._readers.limit)
        earlier.close()
        if former is not None:
            former.close()
        self._note(reopened=self._statistics.reopened + 1, last_error=None, damaged=False)

    @property
    def server(self) -> ServerStatistics:
        """What was last heard of the server."""
        return self._watch.server

    def files(self) -> FileStatistics:
        """Ask the server: whether it has the palace, and how large that is."""
        return self._watch.look()

    def free_bytes(self) -> int | None:
        """None: a server tells nobody how full its disk is."""
        return None

    def statistics(self, files: FileStatistics | None = None) -> DatabaseStatistics:
        """Sizes, waits and counts; does not ask the server if the look at it is given."""
        files = files or self.files()
        return replace(
            self._statistics,
            available=files.available and not self._closed,
            database_bytes=files.database_bytes,
            readers_in_use=self._readers.lent,
        )

    def close(self) -> None:
        """Close all connections. Idempotent; does nothing in a forked child."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        self._poll.close()
        self._watch.close()
        self._readers.close()
        with self._writing:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _begin_to_read(self, stack: contextlib.ExitStack) -> PostgresConnection:
        """A connection with a new snapshot. A connection that was lost meanwhile is replaced, for a while."""
        patience, backoff = Deadline(RECONNECT_SECONDS), Backoff()
        while True:
            self._verify_open()
            try:
                with contextlib.ExitStack() as attempt:
                    connection = attempt.enter_context(self._readers.lend())
                    connection.expect(0)
                    version = connection.script(
                        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                        f"SET LOCAL search_path = {connection.path};"
                        f"SET LOCAL statement_timeout = {READ_SECONDS * _MILLISECOND};"
                        f"SET LOCAL idle_in_transaction_session_timeout = {REST_SECONDS * _MILLISECOND};"
                        f"SAVEPOINT {BEGINNING};"
                        "SELECT max(number) FROM schema_steps"
                    )
                    connection.expect(READ_SECONDS)
                    verify_version(version[0] if version else 0, len(self._steps))
                    stack.push(attempt.pop_all())
                    return connection
            except PoolClosed:
                if self._closed:
                    raise StorageError(f"{self.url} is closed", hint="Connect again.") from None
            except psycopg.Error as error:
                if not is_passing(error) or patience.remaining <= 0:
                    raise
                backoff.pause()

    def _renew_writer(self) -> PostgresConnection:
        """Replace the connection for writing, whose state is unknown."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._writer = connect(self.url)
        return self._writer

    @contextlib.contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        """Take this process's turn at writing; the palace's lock is taken with the transaction."""
        self._verify_open()
        if not self._writing.acquire(timeout=deadline.remaining):
            deadline.check(self.awaited())
        try:
            yield
        finally:
            self._writing.release()

    def _attempt(self, units: Sequence[Unit[Any]]) -> list[Outcome]:
        """Commit the units, however often the server or another one is in the way, as long as deadlines allow."""
        backoff = Backoff()
        while units := [unit for unit in units if unit.in_time(self.awaited())]:
            patience = max(unit.deadline.remaining for unit in units)
            try:
                outcomes = self._commit_once(units, patience)
            except (TransactionLost, psycopg.Error) as error:
                cause = error.__cause__ if isinstance(error, TransactionLost) else error
                if not is_passing(cause):
                    raise
                self._note(retries=self._statistics.retries + 1)
                backoff.pause()
            else:
                done = sum(outcome.error is None for outcome in outcomes)
                self._note(
                    last_error=None,
                    commits=self._statistics.commits + (done > 0),
                    groups=self._statistics.groups + (done > 1),
                    largest_group=max(self._statistics.largest_group, done),
                )
                return outcomes
        return []

    def _commit_once(self, units: Sequence[Unit[Any]], patience: float) -> list[Outcome]:
        """One attempt. If the connection is lost in COMMIT, the server is asked what has become of it.

        Raises:
            TransactionLost, psycopg.Error: nothing of any unit is stored.
        """
        writer = self._writer
        if writer is None or writer.broken or writer.suspect:
            writer = self._renew_writer()
        try:
            last = self._begin_to_write(writer, patience)
            writer.defers = True
            outcomes = run_units(writer, units, self._now, is_passing, last)
        except BaseException:
            if not writer.reset():
                writer.suspect = True
            raise
        finally:
            writer.defers = False
        if all(outcome.error is not None for outcome in outcomes):
            writer.reset()
            return outcomes
        name, end = uuid4(), Deadline(max(patience, RECONNECT_SECONDS))
        writer.expect(RECONNECT_SECONDS)
        try:
            writer.commit(*self._forgetting(last.seq), f"INSERT INTO commits (seq, name) VALUES ({last.seq}, '{name}')")
        except psycopg.Error:
            if not self._was_committed(last.seq, name, end):
                raise
        return outcomes

    def _forgetting(self, seq: int) -> list[str]:
        """What removes names of commits after which nobody asks any more, now and then."""
        if self._statistics.commits % FORGET_AFTER:
            return []
        return [f"DELETE FROM commits WHERE seq < {seq - REMEMBERED} AND at < now() - interval '1 hour'"]

    def _begin_to_write(self, writer: PostgresConnection, patience: float) -> Stamp:
        """Begin a transaction and take the palace's lock; the last stamp.

        Timeouts end with the transaction. COMMIT is not bound by them: an unfinished one must not be given up.
        """
        started = time.monotonic()
        if started - self._written_at > RESTED_SECONDS:  # to wait for a lock looks like a dead network
            writer.expect(0)
            writer.script("SELECT")
        writer.expect(patience)
        milliseconds = max(1, round(patience * _MILLISECOND))
        row = writer.script(
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f"SET LOCAL search_path = {writer.path};"
            f"SET LOCAL lock_timeout = {milliseconds}; SET LOCAL statement_timeout = {milliseconds};"
            f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * _MILLISECOND};"
            "SET LOCAL synchronous_commit = on;"
            "SELECT (SELECT max(number) FROM schema_steps), seq, recorded_at FROM state FOR UPDATE"
        )
        if row is None:
            raise StorageError(f"the state of the palace at {self.url} is missing", hint="Restore a backup.")
        verify_version(row[0], len(self._steps))
        self._written_at = time.monotonic()
        waited = self._written_at - started
        self._note(
            locks=self._statistics.locks + 1,
            lock_wait_total=self._statistics.lock_wait_total + waited,
            lock_wait_max=max(self._statistics.lock_wait_max, waited),
        )
        return Stamp(*row[1:])

    def _was_committed(self, seq: int, name: UUID, end: Deadline) -> bool:
        """Has the transaction whose COMMIT was not answered become durable?

        Raises:
            DeadlineExceeded: the server cannot be asked in time.
        """
        backoff = Backoff()
        while end.remaining > 0:
            try:
                writer = self._renew_writer()
                self._begin_to_write(writer, end.remaining)  # waits for the backend that may still be at it
                row = writer.execute("SELECT 1 FROM commits WHERE seq = ? AND name = ?", (seq, name)).fetchone()
                writer.reset()
            except psycopg.Error:
                backoff.pause()
            else:
                return row is not None
        raise DeadlineExceeded(
            f"the connection to {self.url} was lost, and whether this was written is not known",
            hint="Try again with the same idempotency key, or look at what is stored.",
        )

    def _verify_open(self) -> None:
        if self._process != os.getpid():
            raise StorageError(
                f"{self.url} was opened by process {self._process} before a fork",
                hint="Open the palace anew in each process.",
            )
        if self._closed:
            raise StorageError(f"{self.url} is closed", hint="Connect again.")

    def _note(self, **figures: Any) -> None:
        self._statistics = replace(self._statistics, **figures)

    def _after_break(self) -> None:
        """Nothing: a connection that is in doubt is replaced before the next transaction."""

    def _explain(self, failure: Exception) -> PalaceError:
        assert isinstance(failure, psycopg.Error)
        if state_of(failure).startswith("XX"):
            self._note(damaged=True)
        return explain(failure, self.url)

    def _note_refusal(self, error: PalaceError) -> None:
        self._note(last_error=error.code)


_EMPTY = DatabaseStatistics(
    available=True,
    writable=True,
    damaged=False,
    database_bytes=None,
    log_bytes=None,
    commits=0,
    groups=0,
    largest_group=0,
    retries=0,
    locks=0,
    lock_wait_total=0.0,
    lock_wait_max=0.0,
    readers_in_use=0,
    readers_limit=0,
    reopened=0,
    last_error=None,
)
