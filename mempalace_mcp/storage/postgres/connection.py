"""Connections to PostgreSQL: opening, the dialect, and how portable SQL and its values are translated."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import psycopg
from psycopg import Connection as Driver
from psycopg import sql as driver_sql
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format, TransactionStatus
from psycopg.types.numeric import NumericBinaryLoader

from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.connection import Cursor, Dialect, Parameters

CONNECT_SECONDS = 5
READ_SECONDS = 45
"""Statements of readers are ended after that: it is what a tool call has."""
ANSWER_SECONDS = 5
"""So much later than it must be an answer may come. Then the connection is given up."""
IDLE_SECONDS = 10
"""A server that is stopped, or cut off, inside a transaction keeps the palace's lock no longer than this."""
REST_SECONDS = 600
"""One that reads keeps dead rows from being removed, in all palaces."""
PREPARED_AFTER = 3
_OF_PSYCOPG = logging.getLogger("psycopg")

_WITHOUT_ROWS = ("INSERT ", "UPDATE ", "DELETE ", "SAVEPOINT ", "RELEASE ", "ROLLBACK TO ")

_CONNECTION_DEFAULTS = {
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
    "client_encoding": "utf8",
}
"""Without them a dead network is noticed after two hours. Parameters in the address win."""


@lru_cache(maxsize=1024)
def _gives_no_rows(sql: str) -> bool:
    return sql.lstrip().startswith(_WITHOUT_ROWS) and "RETURNING" not in sql


class PostgresDialect(Dialect):
    """SQL as PostgreSQL reads it."""

    ordered_join = "JOIN"

    def array(self, values: Sequence[Any], /) -> list[Any]:
        """The values as an array. Texts that cannot be stored equal none that is: they are left out."""
        return [value for value in values if not isinstance(value, str) or is_storable(value)]

    def listed(self, parameter: str, alias: str, kind: type[int] | type[str] = int, /) -> str:
        """A call of `unnest`, with the columns named."""
        cast = "text" if kind is str else "bigint"
        return f"unnest({parameter}::{cast}[]) WITH ORDINALITY AS {alias} (value, key)"

    def position(self, text: str, part: str, /) -> str:
        """A call of `strpos`."""
        return f"strpos({text}, {part})"

    def same(self, column: str, parameter: str, /) -> str:
        """IS NOT DISTINCT FROM."""
        return f"{column} IS NOT DISTINCT FROM {parameter}"

    def by_index(self, name: str, /) -> str:
        """Nothing: the planner has statistics."""
        return ""

    def vector(self, embedding: bytes, /) -> Vector:
        """The value of pgvector's type."""
        return Vector(embedding)


class Vector(bytes):
    """A vector as little-endian float32, which is stored as pgvector's type."""


def is_storable(text: str) -> bool:
    """Is it without lone surrogates and NUL?"""
    return not _UNSTORABLE.search(text)


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_PARTS = re.compile(
    r"""
      '(?:[^']|'')*'                        # a literal
    | "(?:[^"]|"")*"                        # a quoted name
    | ::                                    # a cast
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)     # a named parameter
    | (?P<place>\?)
    | (?P<percent>%)
    """,
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def translated(sql: str) -> str:
    """Portable SQL with psycopg's placeholders: `?` becomes `%s`, `:name` becomes `%(name)s`."""

    def replace(match: re.Match[str]) -> str:
        if match["name"]:
            return f"%({match['name']})s"
        if match["place"]:
            return "%s"
        return match[0].replace("%", "%%")

    return _PARTS.sub(replace, sql)


class PatientDriver(Driver[Any]):
    """A connection that is given up when the server does not answer in time.

    The system notices a dead network by itself, but not a pooler, a balancer or a firewall that swallows what is sent.
    """

    patience: float | None = None
    """Seconds until each answer, if there is a limit."""

    def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        """Wait until the generator of psycopg has ended; what it returns.

        Raises:
            psycopg.OperationalError: the server has not answered.
        """
        return super().wait(gen if self.patience is None else self._limited(gen, self.patience), *arguments, **options)

    def _limited(self, gen: PQGen[Any], patience: float) -> PQGen[Any]:
        end = time.monotonic() + patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > end:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer for {patience:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as stop:
            return stop.value


class Later:
    """A statement that gives no rows and is sent with the next one that does, or when it is asked for something."""

    def __init__(self, connection: PostgresConnection, sql: bytes, parameters: Parameters) -> None:
        self.sql = sql
        self.parameters = parameters
        self.done: psycopg.Cursor[Any] | None = None
        self._connection = connection

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""
        return self._cursor.rowcount

    def fetchone(self) -> Any:
        """None."""
        return self._cursor.fetchone()

    def fetchmany(self, size: int = 0, /) -> list[Any]:
        """Nothing."""
        return self._cursor.fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Nothing."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __next__(self) -> Any:
        return next(self._cursor)

    @property
    def _cursor(self) -> psycopg.Cursor[Any]:
        if self.done is None:
            self._connection.send()
        if self.done is None:
            raise psycopg.OperationalError("the transaction ended before this statement was sent")
        return self.done


class PostgresConnection:
    """A connection that runs portable SQL. It commits each statement unless a transaction was begun."""

    dialect = PostgresDialect()

    def __init__(self, driver: PatientDriver, schema: str, path: str, has_vector: bool) -> None:
        """`path` is the list of schemas in which names are looked up, written as SQL."""
        self.driver = driver
        self.schema = schema
        self.path = path
        self.has_vector = has_vector
        """Was the extension there when the connection was made?"""
        self.suspect = False
        """Must it be closed? After an error within a pipeline psycopg takes statements for prepared that are not."""
        self.defers = False
        """May statements that give no rows wait for the next one? Their errors are raised by that then."""
        self._waiting: list[Later] = []
        self._changes = 0

    def expect(self, seconds: float | None) -> None:
        """From now on the server has so many seconds for a statement, or as many as it takes.

        More are waited, as an answer has a way to go.
        """
        self.driver.patience = None if seconds is None else seconds + ANSWER_SECONDS

    @property
    def in_transaction(self) -> bool:
        """False once the transaction has ended, or the connection is lost."""
        return self.driver.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    @property
    def changed(self) -> int:
        """A counter that grows with every statement that may change something."""
        return self._changes

    @property
    def broken(self) -> bool:
        """Is there no connection any more?"""
        return self.driver.broken or self.driver.closed

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        """Run a statement on a new cursor, which is returned. All rows are in memory then."""
        self._count(sql)
        statement = Later(self, translated(sql).encode(), parameters)
        if self.defers and _gives_no_rows(sql):
            self._waiting.append(statement)
            return statement
        return self.send(statement)

    def send(self, *last: Later) -> psycopg.Cursor[Any]:
        """Send what waits, and these statements, in one round trip; the cursor of the last one."""
        statements, self._waiting = [*self._waiting, *last], []
        try:
            with self.driver.pipeline() if len(statements) > 1 else nullcontext():
                for each in statements:
                    each.done = self.driver.execute(each.sql, each.parameters, binary=True)
        except psycopg.Error:
            self.suspect = True
            raise
        done = statements[-1].done
        assert done is not None
        return done

    def commit(self, *last: str) -> None:
        """Run these statements and commit, with all that waits, in one round trip."""
        self.send(*(Later(self, sql.encode(), ()) for sql in (*last, "COMMIT")))

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> psycopg.Cursor[Any]:
        """Run a statement with each of the parameters, in one round trip."""
        self._count(sql)
        if self._waiting:
            self.send()
        cursor = self.driver.cursor()
        try:
            cursor.executemany(translated(sql).encode(), list(parameters))
        except psycopg.Error:
            self.suspect = True
            raise
        return cursor

    def script(self, sql: str) -> tuple[Any, ...] | None:
        """Run several statements without parameters in one round trip; the first row of the last that gives rows."""
        row = None
        try:
            cursor = self.driver.execute(sql.encode(), prepare=False)
            while True:
                if cursor.description is not None:
                    row = cursor.fetchone()
                if not cursor.nextset():
                    return row
        except psycopg.Error:
            self.suspect = True
            raise

    def close_cursors(self) -> None:
        """Nothing: a cursor holds its rows, not its snapshot."""

    def reset(self) -> bool:
        """End the transaction if there is one; False if the connection cannot be used again."""
        self._waiting.clear()
        if self.broken or self.suspect:
            return False
        self.expect(0)
        try:
            if self.in_transaction:
                self.driver.execute(b"ROLLBACK")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """Close it. Idempotent."""
        self.driver.close()

    def _count(self, sql: str) -> None:
        if not sql.startswith("SELECT"):
            self._changes += 1


def connect(url: PalaceUrl) -> PostgresConnection:
    """A connection to the primary. The schema need not be there yet, the extension must.

    Raises:
        psycopg.Error: it cannot be had.
    """
    # psycopg reports errors that it survives; they are counted and explained where they matter.
    _OF_PSYCOPG.setLevel(logging.ERROR)
    name = f"mempalace-mcp {socket.gethostname()}:{os.getpid()}"
    options: dict[str, Any] = {**_CONNECTION_DEFAULTS, "application_name": name, **conninfo_to_dict(url.conninfo)}
    driver = PatientDriver.connect(
        make_conninfo(**options), autocommit=True, prepare_threshold=PREPARED_AFTER if url.prepares else None
    )
    driver.patience = ANSWER_SECONDS
    try:
        extension = driver.execute(
            "SELECT quote_ident(n.nspname), t.oid FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'vector' WHERE e.extname = 'vector'"
        ).fetchone()
        places = [_quoted(url.schema)] if extension is None else [_quoted(url.schema), extension[0]]
        _adapt(driver, None if extension is None else extension[1])
    except BaseException:  # nothing may stay open
        driver.close()
        raise
    driver.patience = None
    return PostgresConnection(driver, url.schema, ", ".join(places), extension is not None)


def _quoted(name: str) -> str:
    return driver_sql.Identifier(name).as_string()


def _adapt(driver: PatientDriver, vector: int | None) -> None:
    """Teach the connection which values of Python and PostgreSQL stand for each other.

    `vector` is the number of pgvector's type, which each database gives anew.
    """
    driver.adapters.register_loader("numeric", _NumberLoader)
    driver.adapters.register_dumper(bool, _FlagDumper)
    if vector is not None:
        driver.adapters.register_loader(vector, _VectorLoader)
        driver.adapters.register_dumper(Vector, type("_VectorDumper", (_VectorDumper,), {"oid": vector}))


class _NumberLoader(NumericBinaryLoader):
    """Sums of integers are numbers of any length there; here they are integers."""

    def load(self, data: Buffer) -> Any:
        number = super().load(data)
        return int(number) if number == number.to_integral_value() else float(number)


class _FlagDumper(Dumper):
    """Truth as 0 or 1: the columns for it are integers."""

    oid = psycopg.adapters.types["int4"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


_VECTOR_HEAD = np.dtype(">u2")


class _VectorDumper(Dumper):
    """pgvector's binary form: the dimension and a zero, each two bytes, then float32; the highest byte comes first."""

    format = Format.BINARY

    def dump(self, obj: Vector) -> bytes:
        numbers = np.frombuffer(obj, "<f4")
        return np.array([numbers.size, 0], _VECTOR_HEAD).tobytes() + numbers.astype(">f4").tobytes()


class _VectorLoader(Loader):
    """The reverse of `_VectorDumper`."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return np.frombuffer(data, ">f4", offset=4).astype("<f4").tobytes()
