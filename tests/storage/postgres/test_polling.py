"""What a process knows of the palace without asking for it, and what the palace knows of its last commits."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import pytest

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import DataVersion
from mempalace_mcp.storage.postgres.database import FORGET_AFTER, REMEMBERED, PostgresDatabase
from mempalace_mcp.storage.tokens import Token, TokenStore
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.support import add_wing, soon

WAIT_SECONDS = 30.0


def names(connection: Connection) -> list[str]:
    """The tokens that are valid."""
    return [token.name for token in TokenStore().load(connection).tokens]


def wait_for(database: PostgresDatabase, expected: list[str], seen: DataVersion | None = None) -> DataVersion | None:
    """Wait until a process that asks for nothing but what is new knows of these tokens; the version of that."""
    end, known = time.monotonic() + WAIT_SECONDS, None
    while known != expected:
        assert time.monotonic() < end, f"the change is not noticed: {known}"
        answer = database.read_if_changed(seen, names)
        if answer is None:
            time.sleep(0.01)
        else:
            seen, known = answer
    return seen


def raw(sql: str) -> Callable[[Transaction], object]:
    return lambda tx: tx.connection.execute(sql).rowcount


def test_every_change_of_tokens_is_noticed(database: PostgresDatabase) -> None:
    store = TokenStore()

    def add(name: str) -> Callable[[Transaction], object]:
        return lambda tx: store.add(tx, Token(name, bytes(31) + bytes([len(name)]), "read"))

    version = wait_for(database, [])
    changes: list[tuple[Callable[[Transaction], object], list[str]]] = [
        (add("a"), ["a"]),
        (add("be"), ["a", "be"]),
        (raw("DELETE FROM access_tokens WHERE name = 'a'"), ["be"]),  # no row that is left says so
        (lambda tx: store.revoke(tx, "be"), []),
        (add("be"), ["be"]),
        (lambda tx: store.clear(tx), []),
    ]
    for change, expected in changes:
        database.write(change, soon())
        version = wait_for(database, expected, version)


def test_an_error_that_lasts_is_as_long_at_each_call(database: PostgresDatabase) -> None:
    wait_for(database, [])
    database.write(raw("ALTER TABLE schema_steps RENAME TO hidden"), soon())
    lengths: list[int] = []
    end = time.monotonic() + WAIT_SECONDS
    while len(lengths) < 5:
        assert time.monotonic() < end
        try:
            database.read_if_changed(None, names)
        except PalaceError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
        else:
            time.sleep(0.01)
    assert len(set(lengths)) == 1


@pytest.mark.parametrize(
    ("age", "at", "kept"),
    [
        (REMEMBERED + 5, "now() - interval '2 hours'", False),
        (REMEMBERED + 5, "now()", True),
        (5, "now() - interval '2 hours'", True),
    ],
)
def test_old_commits_are_forgotten_when_nobody_can_ask_any_more(
    database: PostgresDatabase, age: int, at: str, kept: bool
) -> None:
    for number in range(FORGET_AFTER - 1):
        database.write(add_wing(f"wing {number}"), soon())
    name = "00000000-0000-0000-0000-000000000001"
    insert = f"INSERT INTO commits SELECT seq - {age}, '{name}', {at} FROM state"
    database.write(raw(insert), soon())
    database.write(add_wing("the last one"), soon())
    with database.read() as connection:
        rows = connection.execute("SELECT count(*) FROM commits WHERE name = ?", (name,)).fetchone()
        assert rows == (int(kept),)
        assert connection.execute("SELECT count(*) FROM commits").fetchone() == (FORGET_AFTER + 1 + kept,)
