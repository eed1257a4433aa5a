"""Statements of a write that are sent with a later one: what they did, and what happens when one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mempalace_mcp.core.errors import Conflict, PalaceError
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.transactions import Stamp, Transaction, Unit, Work
from tests.storage.support import add_wing, soon, wings


def fails_late(tx: Transaction) -> None:
    """The last statement is refused by the database, when this has ended."""
    add_wing("half")(tx)
    add_wing("HALF")(tx)  # the key is the same


def fails_early(tx: Transaction) -> None:
    """A statement is refused, and noticed by a later one."""
    fails_late(tx)
    tx.connection.execute("SELECT count(*) FROM wings").fetchone()


def is_refused(tx: Transaction) -> None:
    """The unit refuses itself, with a statement that was not sent."""
    add_wing("refused")(tx)
    raise Conflict("it contradicts what is stored")


def seq(database: PostgresDatabase) -> int:
    with database.read() as connection:
        return Stamp.last(connection).seq


@pytest.mark.parametrize("work", [fails_late, fails_early, is_refused])
def test_alone(database: PostgresDatabase, work: Work[None]) -> None:
    database.write(add_wing("before"), soon())
    with pytest.raises(PalaceError):
        database.write(work, soon())
    assert wings(database) == ["before"]
    assert seq(database) == 1
    database.write(add_wing("after"), soon())
    assert wings(database) == ["before", "after"]
    assert seq(database) == 2


@pytest.mark.parametrize("work", [fails_late, fails_early, is_refused])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_in_a_group(database: PostgresDatabase, work: Work[None], place: int) -> None:
    others = [Unit(add_wing(name), soon()) for name in "abc"]
    bad = Unit(work, soon())
    group: list[Unit[Any]] = [*others]
    group.insert(place, bad)
    database.write_group(group)
    assert sorted(unit.outcome.result() for unit in others) == [1, 2, 3]
    with pytest.raises(PalaceError):
        bad.outcome.result()
    assert wings(database) == ["a", "b", "c"]
    assert seq(database) == 3


def test_what_is_written_is_seen_at_once(database: PostgresDatabase) -> None:
    def work(tx: Transaction) -> list[object]:
        add_wing("one")(tx)
        seen: list[object] = [tx.connection.execute("SELECT count(*) FROM wings").fetchone()[0]]
        renamed = tx.connection.execute("UPDATE wings SET name = 'two'")
        added = tx.connection.execute("INSERT INTO wings (key, name) VALUES ('three', 'three')")
        removed = tx.connection.execute("DELETE FROM wings WHERE key = 'three'")
        nothing = tx.connection.execute("DELETE FROM wings WHERE key = 'four'")
        tx.connection.executemany("INSERT INTO wings (key, name) VALUES (?, ?)", [("x", "x"), ("y", "y")])
        return [*seen, *(each.rowcount for each in (nothing, removed, added, renamed))]

    assert database.write(work, soon()) == [1, 0, 1, 1, 1]
    assert wings(database) == ["two", "x", "y"]


def test_savepoints_within_a_unit(database: PostgresDatabase) -> None:
    def attempt(tx: Transaction, work: Callable[[Transaction], object]) -> None:
        with tx.savepoint():
            work(tx)

    def work(tx: Transaction) -> None:
        add_wing("kept")(tx)
        with pytest.raises(Conflict):
            attempt(tx, is_refused)
        attempt(tx, add_wing("kept too"))

    database.write(work, soon())
    assert wings(database) == ["kept", "kept too"]


def test_a_change_of_nothing_but_the_mark(database: PostgresDatabase) -> None:
    database.write(lambda tx: tx.mark_changed(), soon())
    assert seq(database) == 1
    database.write(lambda tx: None, soon())
    assert seq(database) == 1
