"""What is known of a palace's server: asked once, or by a process that serves the palace, again and again."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from mempalace_mcp.core.errors import ConfigurationError, PalaceError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.database import FileStatistics, ServerStatistics
from mempalace_mcp.storage.postgres.connection import PostgresConnection
from mempalace_mcp.storage.postgres.migrations import load_steps, verify_versions, version_of
from mempalace_mcp.storage.postgres.turns import Desk

T = TypeVar("T")

_MUST_BE_ON = ("fsync", "full_page_writes")
"""What else may be off is switched on in each transaction that writes."""

_QUESTIONS = """
SELECT to_regclass('{schema}.schema_steps') IS NOT NULL,
       current_setting('server_version'),
       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       (SELECT coalesce(string_agg(name, ' '), '') FROM pg_settings WHERE name IN ({settings}) AND setting = 'off'),
       (SELECT coalesce(string_agg(c.relname, ' '), '') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND n.nspname = '{schema}'),
       (SELECT sum(numbackends)::integer FROM pg_stat_database),
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
       (SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::double precision FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()),
       (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '{schema}' AND c.relkind = 'r')
"""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the server says, whether it holds the palace, and the palace's size in bytes."""

    server: ServerStatistics
    is_there: bool
    bytes: int | None


def inspect(connection: PostgresConnection, url: PalaceUrl) -> Inspection:
    """Ask the server, within a transaction.

    Raises:
        psycopg.Error: it does not answer.
    """
    settings = ", ".join(f"'{name}'" for name in _MUST_BE_ON)
    found = connection.script(_QUESTIONS.format(schema=url.schema, settings=settings))
    assert found is not None
    there, version, vector, unsafe, invalid, connections, limit, oldest, size = found
    return Inspection(
        ServerStatistics(
            address=str(url),
            reachable=True,
            version=version,
            vector_version=vector,
            unsafe=tuple(unsafe.split()),
            invalid_indexes=tuple(invalid.split()),
            connections=connections,
            connection_limit=limit,
            oldest_transaction=oldest,
        ),
        there,
        size,
    )


class ServerWatch:
    """Asks the server on a connection of its own, so that it hears of it also while all others are in use."""

    def __init__(self, url: PalaceUrl) -> None:
        self._url = url
        self._desk = Desk(url)
        self.server = ServerStatistics(str(url), reachable=True)

    def look(self) -> FileStatistics:
        """Ask now. A connection that was lost is made anew: the server may just have restarted."""
        try:
            found = self._desk.do(lambda connection: inspect(connection, self._url))
        except PalaceError as error:
            self.server = ServerStatistics(str(self._url), reachable=False, failure=error.message)
            return FileStatistics(available=False, database_bytes=None, log_bytes=None)
        self.server = found.server
        return FileStatistics(available=found.is_there, database_bytes=found.bytes, log_bytes=None)

    def close(self) -> None:
        """Close the connection."""
        self._desk.close()


@dataclass(frozen=True, slots=True)
class Examination(Inspection):
    """What the doctor wants to know beside that. `schema` is 0 without a palace.

    `misfit` says what is too old, `forbidden` what the user may not do, `doubt` why it is not certain that nobody else
    reads or answers. `is_pooled`: does a pooler stand between?
    """

    schema: int
    newest_schema: int
    misfit: ConfigurationError | None
    forbidden: str | None
    doubt: str | None
    is_pooled: bool


def examine(url: PalaceUrl) -> Examination:
    """Ask the server all that the doctor wants to know.

    Raises:
        PalaceError: the server cannot be asked.
    """
    return ask(url, lambda connection: _examine(connection, url))


def _examine(connection: PostgresConnection, url: PalaceUrl) -> Examination:
    found = inspect(connection, url)
    schema, newest = version_of(connection), len(load_steps())
    forbidden = _forbidden(connection, url) if found.is_there else _forbidden_to_make(connection)
    # A pooler tells clients numbers of its own for the processes of the server.
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return Examination(
        found.server,
        found.is_there,
        found.bytes,
        schema,
        newest,
        _misfit(connection, url, found.server.vector_version),
        forbidden,
        _doubt(connection),
        process != connection.driver.info.backend_pid,
    )


def _misfit(connection: PostgresConnection, url: PalaceUrl, vector: str | None) -> ConfigurationError | None:
    try:
        verify_versions(connection, url, vector)
    except ConfigurationError as error:
        return error
    return None


def _doubt(connection: PostgresConnection) -> str | None:
    driver = connection.driver
    mode = next((each.val for each in driver.pgconn.info if each.keyword == b"sslmode"), None)
    return doubt_of(driver.info.host, (mode or b"prefer").decode(), is_encrypted=bool(driver.pgconn.ssl_in_use))


def doubt_of(host: str, mode: str, *, is_encrypted: bool) -> str | None:
    """Why it is not certain that the server is the right one and nobody listens; None if it is, or on this machine."""
    if not host or host.startswith(("/", "@")) or host == "localhost" or _is_loopback(host):
        return None
    if not is_encrypted:
        return "is not encrypted"
    return None if mode in ("verify-full", "verify-ca") else "is encrypted, but whoever answers is trusted"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _forbidden(connection: PostgresConnection, url: PalaceUrl) -> str | None:
    row = connection.execute(
        "SELECT count(*), min(c.relname::text) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r' AND NOT ("
        " has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')"
        " AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))",
        (url.schema,),
    ).fetchone()
    if not row or not row[0]:
        return None
    return f"read and write {row[0]} tables of the schema {url.schema}, {row[1]} for example"


def _forbidden_to_make(connection: PostgresConnection) -> str | None:
    row = connection.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()
    return None if row and row[0] else "make a schema in this database"


def ask(url: PalaceUrl, question: Callable[[PostgresConnection], T]) -> T:
    """The answer of the server, on a connection of its own, within a transaction.

    Raises:
        PalaceError: the server cannot be asked.
    """
    with closing(Desk(url)) as desk:
        return desk.do(question)


def is_there(url: PalaceUrl) -> bool:
    """Is there a palace at the address?

    Raises:
        PalaceError: the server cannot be asked.
    """
    return ask(url, lambda connection: inspect(connection, url)).is_there
