"""Parts of a unit of work, which are whole or not at all, alone and in a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction, Unit
from tests.storage.support import add_wing, fresh_database, soon, traced, wings

Run = Callable[[Callable[[Transaction], Any]], Any]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture(params=["alone", "in a group"])
def run(request: pytest.FixtureRequest, database: Database) -> Run:
    """Runs a unit of work, alone or between two others that change nothing."""

    def run(work: Callable[[Transaction], Any]) -> Any:
        others = [Unit(lambda tx: None, soon()) for _ in range(0 if request.param == "alone" else 2)]
        unit: Unit[Any] = Unit(work, soon())
        database.write_group([*others[:1], unit, *others[1:]])
        return unit.outcome.result()

    return run


def refuse(tx: Transaction, *names: str) -> None:
    """A part that writes, if names are given, and then refuses."""
    with suppress(NotFound), tx.savepoint():
        for name in names:
            add_wing(name)(tx)
        raise NotFound("nothing")


def test_a_part_leaves_alone_what_is_older(run: Run, database: Database) -> None:
    def work(tx: Transaction) -> None:
        refuse(tx, "undone")
        add_wing("first")(tx)
        refuse(tx, "undone")
        with tx.savepoint():
            add_wing("second")(tx)
        refuse(tx, "undone")

    run(work)
    assert wings(database) == ["first", "second"]


def test_a_part_at_the_beginning_of_another_is_taken_back_alone(run: Run, database: Database) -> None:
    def work(tx: Transaction) -> None:
        with tx.savepoint():
            refuse(tx, "undone")
            add_wing("kept")(tx)

    run(work)
    assert wings(database) == ["kept"]


def test_a_part_takes_back_the_one_at_its_beginning(run: Run, database: Database) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            with tx.savepoint():
                add_wing("inner")(tx)
            add_wing("outer")(tx)
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        with pytest.raises(NotFound):
            fail(tx)

    run(work)
    assert wings(database) == []


def test_a_part_may_follow_one_that_took_back_others_inside_it(run: Run, database: Database) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            add_wing("outer")(tx)
            with tx.savepoint():
                pass
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        with pytest.raises(NotFound):
            fail(tx)
        refuse(tx, "undone")
        add_wing("kept")(tx)

    run(work)
    assert wings(database) == ["kept"]


def test_a_unit_that_fails_after_a_part_leaves_nothing(run: Run, database: Database) -> None:
    def work(tx: Transaction) -> None:
        refuse(tx, "undone")
        with tx.savepoint():
            add_wing("part")(tx)
        raise NotFound("nothing")

    with pytest.raises(NotFound):
        run(work)
    assert wings(database) == []


def test_parts_that_begin_at_one_place_have_one_savepoint(run: Run) -> None:
    """Each statement costs more than what it does: several changes of the thread that runs."""

    def work(tx: Transaction) -> list[str]:
        with traced(tx.connection) as statements:
            refuse(tx)
            refuse(tx, "undone")
            with tx.savepoint(), tx.savepoint():
                add_wing("kept")(tx)
        return statements

    statements = run(work)
    begun = [statement for statement in statements if statement.startswith("SAVEPOINT")]
    assert len(begun) <= 1
