"""The schema, as numbered SQL files; `user_version` tells how many of them a palace has seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.storage.schema_mark import verify_version


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str


def load_migrations() -> tuple[Migration, ...]:
    """The steps shipped with this version, in order, without a gap."""
    files = sorted((file for file in resources.files(__package__).iterdir() if file.name.endswith(".sql")), key=_name)
    steps = tuple(Migration(int(_name(file)[:4]), _name(file), file.read_text("utf-8")) for file in files)
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise RuntimeError(f"migrations must be numbered without a gap: {[step.name for step in steps]}")
    return steps


def schema_version(connection: sqlite3.Connection) -> int:
    """How many steps the palace has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def verify_schema(connection: sqlite3.Connection, newest: int) -> None:
    """Return if this version of the program knows the schema.

    Raises:
        SchemaTooNew: a newer version has written the palace.
        StorageError: it is a copy that is not finished.
    """
    verify_version(
        schema_version(connection),
        newest,
        hint="Upgrade mempalace-mcp, and restart the servers that still run the old version.",
    )


def migrate(connection: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Bring the palace to the newest schema, each step in a transaction of its own with its number.

    Must be called with the write lock held.

    Raises:
        SchemaTooNew: a newer version has written the palace.
        PalaceCorrupt: the file is a database, but no palace.
    """
    verify_schema(connection, len(steps))
    version = schema_version(connection)
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise PalaceCorrupt(
            "the database belongs to another program", hint="Give the palace a directory of its own with --palace."
        )
    for step in steps[version:]:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{step.sql}\n;PRAGMA user_version = {step.number};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _name(file: resources.abc.Traversable) -> str:
    return file.name
