"""What is known of a palace's server: asked once, or by a process that serves the palace, again and again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.database import FileStatistics, ServerStatistics
from mempalace_mcp.storage.postgres.connection import PostgresConnection
from mempalace_mcp.storage.postgres.turns import Desk

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


def is_there(url: PalaceUrl) -> bool:
    """Is there a palace at the address?

    Raises:
        PalaceError: the server cannot be asked.
    """
    with closing(Desk(url)) as desk:
        return desk.do(lambda connection: inspect(connection, url)).is_there
