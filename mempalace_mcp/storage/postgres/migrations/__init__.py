"""The schema, as numbered SQL files; the table `schema_steps` tells which of them a palace has seen."""

from __future__ import annotations

import secrets
from importlib import resources

import psycopg

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import ConfigurationError, PalaceCorrupt, PalaceMissing
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage import schema_mark
from mempalace_mcp.storage.postgres.connection import IDLE_SECONDS, READ_SECONDS, PostgresConnection, connect

OLDEST_SERVER = 16
OLDEST_VECTOR = (0, 8, 4)
"""Before it, vacuum beside insertions could damage an index of pgvector (its issues 988 and 993)."""
_LOCK = 0x70616C616365  # "palace"


def load_steps() -> tuple[str, ...]:
    """The SQL of the steps shipped with this version, in order, without a gap."""
    files = sorted(
        (file for file in resources.files(__package__).iterdir() if file.name.endswith(".sql")), key=lambda it: it.name
    )
    if [int(file.name[:4]) for file in files] != list(range(1, len(files) + 1)):
        raise RuntimeError(f"migrations must be numbered without a gap: {[file.name for file in files]}")
    return tuple(file.read_text("utf-8") for file in files)


def verify_version(version: int, newest: int) -> None:
    """Return if this version of the program knows the schema.

    Raises:
        SchemaTooNew: a newer version has written the palace.
        StorageError: it is a copy that is not finished.
    """
    schema_mark.verify_version(version, newest, hint="Upgrade mempalace-mcp on every machine that serves this palace.")


def connect_migrated(
    url: PalaceUrl, steps: tuple[str, ...], now: Instant, *, create: bool = True
) -> PostgresConnection:
    """A connection to a palace that has the newest schema. With `create` it is made if it is not there.

    Raises:
        PalaceMissing: it is not there.
        ConfigurationError, SchemaTooNew, PalaceCorrupt, psycopg.Error: as `verify_server` and `migrate`.
    """
    connection = connect(url)
    try:
        connection.expect(READ_SECONDS)
        verify_server(connection, url)
        if not connection.has_vector:  # it was just made, and connections learn its types when they are made
            connection.close()
            connection = connect(url)
        if not create and version_of(connection) == 0:
            raise PalaceMissing(f"there is no palace at {url}", hint="Restore the schema, then reconnect.")
        migrate(connection, steps, url, now)
    except BaseException:  # nothing may stay open
        connection.close()
        raise
    return connection


def migrate(connection: PostgresConnection, steps: tuple[str, ...], url: PalaceUrl, now: Instant) -> None:
    """Make the schema if it is not there, and bring it to the newest version; each step in its own transaction.

    Servers that come at once take turns. What is up to date is not written to.

    Raises:
        SchemaTooNew: a newer version has written the palace.
        PalaceCorrupt: the schema belongs to another program.
        psycopg.Error: the server refuses, for example because the user has no rights.
    """
    if version_of(connection) == len(steps):
        return
    connection.expect(None)  # a step takes as long as it takes
    while True:
        connection.script(
            f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000};"
            f"SELECT pg_advisory_xact_lock({_LOCK})"
        )
        try:
            version = version_of(connection)
            verify_version(version, len(steps))
            if version == len(steps):
                return
            if version == 0:
                _verify_empty(connection, url)
                _make_schema(connection, url)
            connection.script(f"SET LOCAL search_path = {connection.path};\n{steps[version]}")
            if version == 0:
                _begin_palace(connection, now)
            connection.execute("INSERT INTO schema_steps (number, applied_at) VALUES (?, ?)", (version + 1, now))
            connection.script("COMMIT")
        finally:
            if connection.in_transaction:
                connection.script("ROLLBACK")


def version_of(connection: PostgresConnection) -> int:
    """The step that the schema has reached; 0 without a palace."""
    there = connection.execute("SELECT to_regclass(?) IS NOT NULL", (f"{connection.schema}.schema_steps",)).fetchone()
    if not (there and there[0]):
        return 0
    row = connection.execute(f"SELECT coalesce(max(number), 0) FROM {connection.schema}.schema_steps").fetchone()
    return int(row[0]) if row else 0


def _begin_palace(connection: PostgresConnection, now: Instant) -> None:
    connection.script("CREATE TABLE schema_steps (number integer PRIMARY KEY, applied_at bigint NOT NULL)")
    connection.execute(
        "INSERT INTO state (id, palace_id, created_at, seq, recorded_at) VALUES (1, ?, ?, 0, ?)",
        (secrets.token_hex(16), now, now),
    )


def _make_schema(connection: PostgresConnection, url: PalaceUrl) -> None:
    # IF NOT EXISTS would ask for a right that the owner of a schema need not have.
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (url.schema,)).fetchall():
        connection.script(f"CREATE SCHEMA {connection.schema}")


def _verify_empty(connection: PostgresConnection, url: PalaceUrl) -> None:
    row = connection.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ?",
        (connection.schema,),
    ).fetchone()
    if row and row[0]:
        raise PalaceCorrupt(
            f"the schema {connection.schema} at {url} belongs to another program",
            hint="Give the palace a schema of its own with ?schema=NAME.",
        )


def verify_server(connection: PostgresConnection, url: PalaceUrl) -> None:
    """Verify the versions of PostgreSQL and pgvector; make the extension where the user may.

    Raises:
        ConfigurationError: one is too old, or the extension cannot be made.
    """
    found = vector_version(connection)
    verify_versions(connection, url, found)
    if found is None:
        verify_versions(connection, url, _make_extension(connection, url))


def verify_versions(connection: PostgresConnection, url: PalaceUrl, vector: str | None) -> None:
    """Return if PostgreSQL and pgvector, of the version `vector` if it is there, are new enough.

    Raises:
        ConfigurationError: one is too old.
    """
    version = connection.driver.info.server_version // 10_000
    if version < OLDEST_SERVER:
        raise ConfigurationError(
            f"{url} is PostgreSQL {version}, and a palace needs {OLDEST_SERVER} or newer",
            argument="PALACE_URL",
            hint="Upgrade the server.",
        )
    if vector is not None and tuple(map(int, vector.split(".")[:3])) < OLDEST_VECTOR:
        needed = ".".join(map(str, OLDEST_VECTOR))
        raise ConfigurationError(
            f"{url} has pgvector {vector}, and a palace needs {needed} or newer",
            argument="PALACE_URL",
            hint="Install it, then run ALTER EXTENSION vector UPDATE as an administrator of the database.",
        )


def vector_version(connection: PostgresConnection) -> str | None:
    """The version of pgvector in this database; None if it is not there."""
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return str(row[0]) if row else None


def _make_extension(connection: PostgresConnection, url: PalaceUrl) -> str:
    try:
        connection.script(f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK})")
        connection.script("CREATE EXTENSION IF NOT EXISTS vector; COMMIT")
        found = vector_version(connection)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"{url} does not have the extension vector, and this user cannot make it ({error.diag.message_primary})",
            argument="PALACE_URL",
            hint="Install pgvector on the server, then run CREATE EXTENSION vector there as an administrator.",
        ) from error
    assert found is not None
    return found
