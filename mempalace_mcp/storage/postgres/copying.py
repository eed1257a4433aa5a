"""A palace in PostgreSQL as the source of a copy, and as its target."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import psycopg
from psycopg import capabilities

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Zone
from mempalace_mcp.core.errors import Busy, Conflict, InvalidArgument, NotFound
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.copying import (
    Origin,
    PalaceCopy,
    Row,
    broken_rule,
    count_rows,
    last_key,
    name_of,
    select,
    verify_unused,
    verify_unwritten,
)
from mempalace_mcp.storage.postgres.connection import PostgresConnection, connect, is_storable, translated
from mempalace_mcp.storage.postgres.failures import explain, is_passing, state_of
from mempalace_mcp.storage.postgres.migrations import connect_migrated, load_steps, verify_version, version_of
from mempalace_mcp.storage.postgres.words import PostgresWords
from mempalace_mcp.storage.schema_mark import marked
from mempalace_mcp.storage.tables import TABLES, Table
from mempalace_mcp.storage.transactions import Transaction

_STREAMED = 200
"""Rows that the server sends at once."""
_LOCK_SECONDS = 60
_ANSWER_SECONDS = 600
"""For one statement, such as the look at all rows that PostgreSQL plans by."""
_LOCKED = "55P03"
_LONGEST_IDLE_SECONDS = 600
"""Much longer than `copying.WATCH_SECONDS`. After it a transaction that holds a lock ends: nobody is there any more."""
_PATIENT = (
    "SET LOCAL statement_timeout = 0; SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 3;"
    "SET LOCAL tcp_keepalives_count = 3;"
)
"""A copy takes its time, but one whose machine is gone must not keep its locks."""
_LINE = re.compile(r"COPY \w+, line (\d+)")
_OF_WORDS = ("passages", "words", "loose_words")


@dataclass(frozen=True, slots=True)
class PostgresSnapshot:
    """The palace at an address, within a transaction; `holder` is another one that has the palace's write lock."""

    url: PalaceUrl
    connection: PostgresConnection
    origin: Origin
    holder: PostgresConnection

    def rows(self, table: Table, after: Row | None = None) -> Iterator[Row]:
        """The rows by key, those beyond the key `after` alone if it is given."""
        with explained(self.url):
            yield from stream(self.connection, table, after)

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        with explained(self.url):
            return count_rows(self.connection, table)

    def last_number(self, table: Table) -> int:
        """The largest number that the table's sequence has given, or a row has."""
        with explained(self.url):
            (given,) = self.connection.execute(
                "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(?, ?)::regclass), 0)",
                (table.name, table.key[0]),
            ).fetchone() or (0,)
            last = last_key(self.connection, table)
        return max(given, last[0] if last else 0)

    def verify_held(self) -> None:
        """Return if the palace's write lock was never lost.

        Raises:
            PalaceError: the connection that has it is gone.
        """
        with explained(self.url):
            self.holder.execute("SELECT 1")


def stream(connection: PostgresConnection, table: Table, after: Row | None = None) -> Iterator[Row]:
    """The rows of a table by key as they come, without waiting for all."""
    size = _STREAMED if capabilities.has_stream_chunked() else 1
    with connection.driver.cursor() as cursor:
        yield from cursor.stream(translated(select(table, after)).encode(), after or (), binary=True, size=size)


@contextlib.contextmanager
def read_palace(url: PalaceUrl) -> Iterator[PostgresSnapshot]:
    """The palace at an address as it is now. Nothing in it is changed; others can read it and wait with writing.

    Raises:
        NotFound: there is no palace.
        Conflict: its schema is an earlier one.
        PalaceError: it cannot be read, or others are writing for too long.
    """
    steps = load_steps()
    with contextlib.ExitStack() as stack, explained(url):
        holder = stack.enter_context(contextlib.closing(connect(url)))
        version = version_of(holder)
        if not version:
            raise NotFound(f"there is no palace at {url}", argument="SOURCE", hint="Correct the address.")
        verify_version(version, len(steps))
        if version < len(steps):
            raise Conflict(
                f"the palace at {url} has schema {version}, an earlier one, and a source is not changed",
                argument="SOURCE",
                hint=f"Bring it up to schema {len(steps)} first: any command opens it, as `mempalace-mcp status`.",
            )
        _begin(holder, f"SET LOCAL lock_timeout = {_LOCK_SECONDS * 1000}; SELECT 1 FROM state FOR UPDATE")
        reader = stack.enter_context(contextlib.closing(connect(url)))
        _begin(reader, "SELECT 1", isolation="REPEATABLE READ READ ONLY", longest_idle=0)
        origin = Origin.of(reader)
        if origin is None:
            raise NotFound(f"there is no palace at {url}", argument="SOURCE", hint="Restore a backup.")
        yield PostgresSnapshot(url, reader, origin, holder)


def _begin(
    connection: PostgresConnection,
    first: str,
    *,
    isolation: str = "READ COMMITTED",
    longest_idle: int | None = None,
) -> None:
    """Begin a transaction with a statement; it may be idle for so many seconds, 0 for any time."""
    idle = _LONGEST_IDLE_SECONDS if longest_idle is None else longest_idle
    connection.expect(_ANSWER_SECONDS)
    connection.script(
        f"BEGIN ISOLATION LEVEL {isolation}; SET LOCAL search_path = {connection.path}; {_PATIENT}"
        f"SET LOCAL idle_in_transaction_session_timeout = {idle * 1000}; {first}"
    )


class PostgresCopy(PalaceCopy):
    """The schema of a palace that is being made. `holder` is a transaction that has the row of the mark locked."""

    words: PostgresWords

    def __init__(self, url: PalaceUrl, connection: PostgresConnection, holder: PostgresConnection, zone: Zone) -> None:
        super().__init__(str(url), PostgresWords(zone))
        self._url = url
        self._connection = connection
        self._holder = holder
        self._types = cache(self._types_of)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction, committed at the end of the block. Only `finish` makes all of them durable."""
        connection = self._connection
        with explained(self._url):
            _begin(connection, "SET LOCAL synchronous_commit = off")
            try:
                yield Transaction(connection, clock.now)
                connection.script("COMMIT")
            except BaseException:  # nothing may stay begun
                connection.reset()
                raise

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows by key."""
        with self.transaction():
            yield from stream(self._connection, table)

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        """Store rows by COPY."""
        sql = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN (FORMAT BINARY)"
        with self.transaction():
            types = self._types(table)
            try:
                with self._connection.driver.cursor() as cursor, cursor.copy(sql.encode()) as copy:
                    copy.set_types(types)
                    for row in rows:
                        copy.write_row(row)
            except (psycopg.Error, UnicodeError) as error:
                raise self._refusal(table, rows, error) from error

    def last_passage(self, tx: Transaction) -> int:
        """The last chunk that has its words."""
        (last,) = tx.connection.execute("SELECT coalesce(max(chunk), 0) FROM passages").fetchone() or (0,)
        return int(last)

    def add_words(self, tx: Transaction, texts: Mapping[int, str]) -> None:
        """Make chunks findable by the words of their texts, without waiting for the answer to each."""
        with self._connection.driver.pipeline():
            for chunk, text in texts.items():
                self.words.add(tx, chunk, text)

    def clear(self, tx: Transaction) -> None:
        """Remove all rows, and all words."""
        names = ", ".join([*(table.name for table in TABLES), *_OF_WORDS, "leases"])
        tx.connection.execute(f"TRUNCATE {names} RESTART IDENTITY")
        tx.connection.execute("UPDATE lexicon SET passages = 0, tokens = 0, stale = 0")

    def mark(self, origin: Origin, version: int) -> None:
        """Make it an unfinished copy of that palace."""
        with self.transaction() as tx:
            tx.connection.execute("SELECT 1 FROM state FOR UPDATE")
            verify_unused(tx.connection, self.name)
            self.begin_anew(tx, origin)
            tx.connection.execute(
                "INSERT INTO schema_steps (number, applied_at) VALUES (?, ?)", (marked(version), clock.now())
            )

    def hold(self, version: int) -> None:
        """Keep others from working on the same copy.

        Raises:
            Busy: another process does.
        """
        try:
            _begin(self._holder, f"SELECT 1 FROM schema_steps WHERE number = {marked(version)} FOR UPDATE NOWAIT")
        except psycopg.Error as error:
            if state_of(error) == _LOCKED:
                raise Busy(f"another process moves a palace to {self.name}", hint="Wait for its end.") from error
            raise

    def verify_held(self) -> None:
        """Return if no other process can have begun to work on the copy.

        Raises:
            PalaceError: the connection that keeps others away is gone.
        """
        with explained(self._url):
            self._holder.execute("SELECT 1")

    def finish(self, numbers: Mapping[Table, int]) -> None:
        """Let it be a palace, in the transaction that has held the mark, and durably."""
        with self.transaction() as tx:
            tx.connection.execute(f"ANALYZE {', '.join([*(table.name for table in TABLES), *_OF_WORDS])}")
            for table, number in numbers.items():
                if number:
                    tx.connection.execute(
                        "SELECT setval(pg_get_serial_sequence(?, ?)::regclass, ?)", (table.name, table.key[0], number)
                    )
        with explained(self._url):
            self._holder.expect(_LOCK_SECONDS)
            self._holder.script(
                f"SET LOCAL synchronous_commit = on; DELETE FROM schema_steps WHERE number >= {marked(0)}; COMMIT"
            )

    def _types_of(self, table: Table) -> list[int]:
        """The types of the table's columns, by their numbers."""
        rows = self._connection.execute(
            "SELECT attname, atttypid::bigint FROM pg_attribute WHERE attrelid = ?::regclass", (table.name,)
        )
        types = dict(rows.fetchall())
        return [types[column] for column in table.columns]

    def _refusal(self, table: Table, rows: Sequence[Row], error: Exception) -> Exception:
        """The error with the row that it is about, if it is about one."""
        for row in rows:
            if not all(is_storable(value) for value in row if isinstance(value, str)):
                return InvalidArgument(
                    f"row {name_of(table, row)} of {table.name} has a character that PostgreSQL does not store (NUL)",
                    argument="SOURCE",
                    hint="Update or delete what it is about, then run the same command again.",
                )
        if isinstance(error, psycopg.IntegrityError):
            return broken_rule(table, rows, error.diag.message_detail or str(error))
        if not isinstance(error, psycopg.Error) or is_passing(error):
            return error
        line = _LINE.search(error.diag.context or "")
        if line is None:
            return error
        explanation = explain(error, self._url)
        row = rows[int(line[1]) - 1]
        return type(explanation)(
            f"{explanation.message}, at row {name_of(table, row)} of {table.name}", hint=explanation.hint
        )


@contextlib.contextmanager
def write_copy(url: PalaceUrl, origin: Origin, zone: Zone) -> Iterator[PostgresCopy]:
    """The copy at an address: a new one, or an unfinished one of the same palace.

    `zone` is the one in which days are words of what happened in them.

    Raises:
        Conflict: there is a palace, or an unfinished copy of another one.
        Busy: another process works on it, or the server cannot be reached.
        PalaceError: it cannot be written.
    """
    steps = load_steps()
    with contextlib.ExitStack() as stack, explained(url):
        connection = stack.enter_context(contextlib.closing(connect(url)))
        version = version_of(connection)
        is_begun = version == marked(len(steps))
        if not is_begun:
            verify_version(version, len(steps))
            if version:
                _begin(connection, "SELECT 1")
                verify_unwritten(connection, str(url), origin)
            connection.close()
            connection = stack.enter_context(contextlib.closing(connect_migrated(url, steps, clock.now())))
        holder = stack.enter_context(contextlib.closing(connect(url)))
        copy = PostgresCopy(url, connection, holder, zone)
        if not is_begun:
            copy.mark(origin, len(steps))
        copy.hold(len(steps))
        if is_begun:
            with copy.transaction() as tx:
                copy.claim(tx, origin)
        yield copy


@contextlib.contextmanager
def explained(url: PalaceUrl) -> Iterator[None]:
    """Errors of PostgreSQL about the palace are raised as those of the palace."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, url) from error
