"""Units of work committed together."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    PalaceError,
    SchemaTooNew,
    StorageError,
)
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Stamp, Transaction, Unit
from tests.storage.support import Child, add_wing, fresh_database, soon, wings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as database:
        yield database


def unit(work: Any) -> Unit[Any]:
    return Unit(work, soon())


def failing(name: str, error: BaseException) -> Unit[Any]:
    """A unit that writes, draws its stamp, and then refuses."""

    def work(transaction: Transaction) -> None:
        add_wing(name)(transaction)
        assert transaction.stamp
        raise error

    return unit(work)


def last_state(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        return connection.execute("SELECT seq, recorded_at FROM state").fetchone()  # type: ignore[no-any-return]


def test_a_group_is_one_commit(database: Database) -> None:
    units = [unit(add_wing(name)) for name in "abc"]
    before = database.statistics()
    database.write_group(units)
    after = database.statistics()
    assert [each.outcome.result() for each in units] == [1, 2, 3]
    assert wings(database) == ["a", "b", "c"]
    assert after.commits == before.commits + 1
    assert after.groups == before.groups + 1
    assert after.largest_group == 3


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_that_fails_does_not_harm_the_others(database: Database, position: int) -> None:
    error = Conflict("no")
    units = [unit(add_wing("a")), unit(add_wing("b"))]
    units.insert(position, failing("refused", error))
    database.write_group(units)
    assert units[position].outcome.exception() is error
    assert wings(database) == ["a", "b"]
    assert sorted(each.outcome.result() for each in units if each.outcome.exception() is None) == [1, 2]
    assert last_state(database)[0] == 2


def test_the_stamp_of_a_failed_unit_does_not_leak(tmp_path: Path) -> None:
    with fresh_database(tmp_path, now=lambda: 1_000) as database:
        founded = last_state(database)
        stamped = [unit(lambda transaction: transaction.stamp) for _ in range(2)]
        database.write_group([stamped[0], failing("refused", Conflict("no")), stamped[1]])
        stamps: list[Stamp] = [each.outcome.result() for each in stamped]
        assert [stamp.seq for stamp in stamps] == [1, 2]
        assert [stamp.instant for stamp in stamps] == [founded[1] + 1, founded[1] + 2]
        assert last_state(database) == (2, founded[1] + 2)


def test_a_unit_that_changes_nothing_leaves_the_stamp_of_the_one_before(database: Database) -> None:
    idle, last = unit(lambda transaction: None), unit(add_wing("b"))
    database.write_group([unit(add_wing("a")), idle, last, unit(lambda transaction: None)])
    assert last.outcome.result() == 2
    assert last_state(database)[0] == 2


def test_the_state_is_written_once_for_a_group(database: Database) -> None:
    """Each statement costs more than what it does: several changes of the thread that runs."""
    statements: list[str] = []
    listening = unit(lambda transaction: transaction.connection.set_trace_callback(statements.append))
    silent = unit(lambda transaction: transaction.connection.set_trace_callback(None))
    database.write_group([listening, *[unit(add_wing(name)) for name in "abc"]])
    database.write_group([silent])
    assert sum("state" in statement for statement in statements) == 2, "read and written"


def test_a_group_of_failures_leaves_nothing(database: Database) -> None:
    units = [failing(name, Conflict(name)) for name in "abc"]
    before = database.statistics().commits
    database.write_group(units)
    assert [str(each.outcome.exception()) for each in units] == ["a", "b", "c"]
    assert wings(database) == []
    assert last_state(database)[0] == 0
    assert database.statistics().commits == before


def test_errors_of_sqlite_in_a_group_stay_with_their_unit(database: Database) -> None:
    units = [unit(add_wing("a")), unit(add_wing("A")), unit(add_wing("b"))]
    database.write_group(units)
    assert type(units[1].outcome.exception()) is PalaceError
    assert wings(database) == ["a", "b"]


def test_what_is_not_an_error_of_ours_reaches_its_caller_as_it_is(database: Database) -> None:
    errors = [ZeroDivisionError("bug"), KeyboardInterrupt(), SystemExit(3)]
    units = [failing(str(number), error) for number, error in enumerate(errors)] + [unit(add_wing("fine"))]
    database.write_group(units)
    assert [each.outcome.exception() for each in units[:3]] == errors
    assert wings(database) == ["fine"]


def test_units_given_up_before_are_skipped(database: Database) -> None:
    cancelled, expired, given_up = (unit(add_wing(name)) for name in "xyz")
    cancelled.deadline.cancel()
    expired = Unit(add_wing("expired"), Deadline(0))
    given_up.outcome.cancel()
    fine = unit(add_wing("fine"))
    database.write_group([cancelled, expired, given_up, fine])
    assert isinstance(cancelled.outcome.exception(), Cancelled)
    assert isinstance(expired.outcome.exception(), DeadlineExceeded)
    with pytest.raises(CancelledError):
        given_up.outcome.result()
    assert fine.outcome.result() == 1
    assert wings(database) == ["fine"]


def test_a_unit_that_ends_the_transaction_breaks_the_group_but_not_the_others(database: Database) -> None:
    rogue = unit(lambda transaction: transaction.connection.execute("ROLLBACK"))
    before, after = unit(add_wing("before")), unit(add_wing("after"))
    database.write_group([before, rogue, after])
    assert isinstance(rogue.outcome.exception(), StorageError)
    assert (before.outcome.result(), after.outcome.result()) == (1, 2)
    assert wings(database) == ["before", "after"]


def test_a_unit_that_hides_a_lost_transaction_is_found_out(database: Database) -> None:
    """As when a full disk has rolled back and the unit took the error for its own."""

    def work(transaction: Transaction) -> str:
        add_wing("half")(transaction)
        transaction.connection.execute("ROLLBACK")
        return "all is well"

    rogue, fine = unit(work), unit(add_wing("fine"))
    database.write_group([rogue, fine])
    assert isinstance(rogue.outcome.exception(), StorageError)
    assert fine.outcome.result() == 1
    assert wings(database) == ["fine"]


def test_a_commit_that_fails_is_repeated_alone(database: Database) -> None:
    def owing(transaction: Transaction) -> None:
        transaction.connection.execute("PRAGMA defer_foreign_keys = ON")
        transaction.connection.execute("INSERT INTO rooms (wing, key, name) VALUES (404, 'r', 'r')")

    units = [unit(add_wing("a")), unit(owing), unit(add_wing("b"))]
    database.write_group(units)
    assert "FOREIGN KEY" in str(units[1].outcome.exception())
    assert (units[0].outcome.result(), units[2].outcome.result()) == (1, 2)
    assert wings(database) == ["a", "b"]
    assert database.integrity() == []


def test_a_newer_schema_refuses_all(database: Database) -> None:
    database.write(lambda transaction: transaction.connection.execute("PRAGMA user_version = 999"), soon())
    units = [unit(add_wing(name)) for name in "ab"]
    database.write_group(units)
    assert all(isinstance(each.outcome.exception(), SchemaTooNew) for each in units)


def test_a_foreign_transaction_costs_only_those_whose_time_is_over(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("hold_transaction", tmp_path) as foreign:
        assert foreign.line() == "held"
        short = Unit(add_wing("short"), Deadline(0.1))
        short.outcome.add_done_callback(lambda _: foreign.go())
        patient = unit(add_wing("patient"))
        database.write_group([short, patient])
        foreign.rest()
        assert isinstance(short.outcome.exception(), DeadlineExceeded)
        assert patient.outcome.exception() is None
        assert wings(database) == ["foreign", "patient"]


Step = tuple[str, int]
steps = st.lists(st.tuples(st.sampled_from(["write", "raise", "end", "twice"]), st.integers(0, 3)), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(steps, max_size=4))
def test_exactly_the_acknowledged_is_stored(tmp_path_factory: pytest.TempPathFactory, groups: list[list[Step]]) -> None:
    """Whatever the units of a group do, what is stored is what was acknowledged, in order, numbered without a gap."""
    acknowledged: list[str] = []
    seqs: list[int] = []
    with fresh_database(tmp_path_factory.mktemp("palace")) as database:
        for group_number, group in enumerate(groups):
            units = {f"{group_number}.{n}": unit(_act(f"{group_number}.{n}", step)) for n, step in enumerate(group)}
            if units:
                database.write_group(list(units.values()))
            for name, each in units.items():
                if each.outcome.exception() is None:
                    acknowledged.append(name)
                    seqs.append(each.outcome.result())
        assert wings(database) == acknowledged
        assert seqs == list(range(1, len(seqs) + 1))
        assert database.integrity() == []


def _act(name: str, step: Step) -> Any:
    kind, extra = step

    def work(transaction: Transaction) -> int:
        seq = add_wing(name)(transaction)
        for number in range(extra):
            transaction.connection.execute("INSERT INTO receipts VALUES (?, ?, x'00', '', 0)", (name, str(number)))
        if kind == "raise":
            raise InvalidArgument("no")
        if kind == "end":
            transaction.connection.execute("ROLLBACK")
        if kind == "twice":
            add_wing(name)(transaction)
        return seq

    return work
