"""The schema and its steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import PalaceCorrupt, SchemaTooNew
from mempalace_mcp.storage.sqlite.connection import SqliteConnection, open_writer
from mempalace_mcp.storage.sqlite.migrations import Migration, load_migrations, migrate, schema_version, verify_schema

FIRST = Migration(1, "0001_first.sql", "CREATE TABLE state (seq INTEGER); INSERT INTO state VALUES (7);")
SECOND = Migration(
    2, "0002_second.sql", "ALTER TABLE state ADD COLUMN name TEXT; UPDATE state SET name = 'new' -- no end"
)
BROKEN = Migration(2, "0002_broken.sql", "DELETE FROM state; CREATE TABLE more (a); INSERT INTO nowhere VALUES (1);")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[SqliteConnection]:
    (tmp_path / "file.db").touch()
    connection = open_writer(tmp_path / "file.db")
    yield connection
    connection.close()


def tables(connection: SqliteConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_steps_are_numbered_from_one() -> None:
    steps = load_migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0].name == "0001_drawers.sql"
    assert all(step.name.startswith(f"{step.number:04}_") for step in steps)


def test_all_steps_apply_to_an_empty_file(connection: SqliteConnection) -> None:
    steps = load_migrations()
    migrate(connection, steps)
    assert schema_version(connection) == len(steps)
    assert {"state", "drawers", "chunks", "vectors", "receipts"} <= tables(connection)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_each_step_is_applied_once(connection: SqliteConnection) -> None:
    migrate(connection, [FIRST])
    migrate(connection, [FIRST])
    assert connection.execute("SELECT * FROM state").fetchall() == [(7,)]
    migrate(connection, [FIRST, SECOND])
    assert connection.execute("SELECT * FROM state").fetchall() == [(7, "new")]
    assert schema_version(connection) == 2


def test_a_step_that_fails_leaves_nothing_of_itself(connection: SqliteConnection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, [FIRST, BROKEN])
    assert not connection.in_transaction
    assert schema_version(connection) == 1
    assert tables(connection) == {"state"}
    assert connection.execute("SELECT * FROM state").fetchall() == [(7,)]
    migrate(connection, [FIRST, SECOND])
    assert schema_version(connection) == 2


def test_a_newer_schema_is_refused(connection: SqliteConnection) -> None:
    migrate(connection, [FIRST, SECOND])
    with pytest.raises(SchemaTooNew, match="schema 2") as caught:
        migrate(connection, [FIRST])
    assert caught.value.hint
    with pytest.raises(SchemaTooNew):
        verify_schema(connection, 1)
    verify_schema(connection, 2)


def test_tables_of_others_are_left_alone(connection: SqliteConnection) -> None:
    connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(PalaceCorrupt):
        migrate(connection, [FIRST])
    assert tables(connection) == {"theirs"}
