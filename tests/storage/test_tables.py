"""The list of tables says what is in the schemas: all of it, in both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from mempalace_mcp.storage.postgres.migrations import connect_migrated, load_steps
from mempalace_mcp.storage.sqlite.migrations import load_migrations, migrate
from mempalace_mcp.storage.tables import OF_ONE_DATABASE, TABLES, Table
from tests.postgres_server import fresh_schema

LISTED = {table.name: table for table in TABLES}
Schema = dict[str, dict[str, bool]]
"""The columns of each table, and whether the database reckons them by itself."""


@pytest.fixture
def sqlite() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, load_migrations())
        yield connection


def names_in_sqlite(connection: sqlite3.Connection) -> list[str]:
    """Without what belongs to SQLite, and to its full-text index."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    names = [name for (name,) in rows if not name.startswith("sqlite_")]
    inner = {f"passages_{part}" for part in ("data", "idx", "content", "docsize", "config")}
    return [name for name in names if name not in inner]


def schema_of_sqlite(connection: sqlite3.Connection) -> Schema:
    schema: Schema = {}
    for name in names_in_sqlite(connection):
        rows = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
        schema[name] = {column: hidden in (2, 3) for column, hidden in rows}
    return schema


@dataclass(frozen=True)
class InPostgres:
    """The schema, the primary keys by table, and the tables that are numbered."""

    schema: Schema
    keys: dict[str, list[str]]
    numbered: set[str]


@pytest.fixture(scope="module")
def postgres() -> InPostgres:
    with fresh_schema() as url, closing(connect_migrated(url, load_steps(), 0)) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, is_generated = 'ALWAYS', is_identity = 'YES'"
            " FROM information_schema.columns WHERE table_schema = ? ORDER BY ordinal_position",
            (url.schema,),
        ).fetchall()
        keys = connection.execute(
            "SELECT t.relname::text, a.attname::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
            " JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = ?"
            " CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)"
            " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number WHERE i.indisprimary ORDER BY 1, place",
            (url.schema,),
        ).fetchall()
    schema: Schema = {}
    for table, column, generated, _ in rows:
        schema.setdefault(table, {})[column] = generated
    by_table: dict[str, list[str]] = {}
    for table, column in keys:
        by_table.setdefault(table, []).append(column)
    return InPostgres(schema, by_table, {table for table, _, _, numbered in rows if numbered})


def assert_listed(schema: Schema) -> None:
    assert set(LISTED) <= set(schema)
    for name, columns in schema.items():
        if name in OF_ONE_DATABASE:
            continue
        table = LISTED[name]
        known = {column for column in columns if f"{name}.{column}" not in OF_ONE_DATABASE}
        assert known == {*table.columns, *table.counted}, name
        assert {column for column, generated in columns.items() if generated} <= set(table.counted), name


def test_every_column_of_sqlite_is_listed(sqlite: sqlite3.Connection) -> None:
    assert_listed(schema_of_sqlite(sqlite))


def test_every_column_of_postgres_is_listed(postgres: InPostgres) -> None:
    assert_listed(postgres.schema)


def test_a_column_that_nobody_lists_is_noticed(sqlite: sqlite3.Connection) -> None:
    sqlite.execute("ALTER TABLE diary ADD COLUMN mood TEXT")
    with pytest.raises(AssertionError, match="mood"):
        assert_listed(schema_of_sqlite(sqlite))


def test_nothing_is_listed_that_is_in_neither(sqlite: sqlite3.Connection, postgres: InPostgres) -> None:
    both = [schema_of_sqlite(sqlite), postgres.schema]
    there = {f"{name}.{column}" for schema in both for name, columns in schema.items() for column in columns}
    assert all(name in there or any(name in schema for schema in both) for name in OF_ONE_DATABASE)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_keys_and_numbers_are_those_of_the_schemas(
    table: Table, sqlite: sqlite3.Connection, postgres: InPostgres
) -> None:
    rows = sqlite.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table.name,)).fetchall()
    assert [name for (name,) in rows] == list(table.key)
    assert postgres.keys[table.name] == list(table.key)
    assert (table.name in postgres.numbered) is table.numbered
    (sql,) = sqlite.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()
    assert table.numbered or "AUTOINCREMENT" not in sql


def test_each_table_stands_behind_those_that_it_refers_to(sqlite: sqlite3.Connection) -> None:
    order = list(LISTED)
    for table in TABLES:
        rows = sqlite.execute('SELECT DISTINCT "table" FROM pragma_foreign_key_list(?)', (table.name,)).fetchall()
        assert all(order.index(other) < order.index(table.name) for (other,) in rows), table.name
