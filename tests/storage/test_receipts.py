"""Writes that are done once, however often they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import DAY, SECOND
from mempalace_mcp.core.errors import (
    Busy,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    EmbedderUnavailable,
    InvalidArgument,
    NotFound,
    PalaceError,
    SchemaTooNew,
    StorageError,
    StorageFull,
)
from mempalace_mcp.core.model import Filed
from mempalace_mcp.storage import transactions as module
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import IdempotencyStatistics, IdempotentWriter, Transaction, prune
from tests.storage.receipt_support import keyed, receipts
from tests.storage.support import Child, add_wing, fresh_database, small_disk, soon, wings

NOW = 1_000 * DAY


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture
def writer(database: Database) -> IdempotentWriter:
    return IdempotentWriter(database)


def refusing(name: str, error: BaseException) -> Callable[[Transaction], Any]:
    """A unit that has written and drawn its stamp when it refuses."""

    def work(tx: Transaction) -> None:
        add_wing(name)(tx)
        raise error

    return work


def never(tx: Transaction) -> Any:
    """A unit that must not run."""
    raise AssertionError("done again")


def seq(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])


def test_a_repetition_is_answered_and_not_done(writer: IdempotentWriter, database: Database) -> None:
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert writer.write(never, keyed("a")) == 1
    assert wings(database) == ["Paris"]
    assert seq(database) == 1
    assert writer.statistics() == IdempotencyStatistics(recorded=1, replayed=2)


def test_a_receipt_is_committed_with_its_write(writer: IdempotentWriter, database: Database) -> None:
    before = database.statistics().commits
    writer.write(add_wing("Paris"), keyed("a"))
    assert database.statistics().commits == before + 1
    assert len(receipts(database)) == 1


def test_values_come_back_as_they_were(writer: IdempotentWriter) -> None:
    value = [Filed("d_1", created=True), (None, {"Filed": [1.0, "ü"]})]
    assert writer.write(lambda _: value, keyed("a")) is value
    assert writer.write(never, keyed("a")) == value


def test_without_a_key_nothing_is_remembered(writer: IdempotentWriter, database: Database) -> None:
    writer.write(add_wing("Paris"), soon())
    assert writer.write(add_wing("Rome"), soon()) == 2
    assert receipts(database) == []
    assert writer.statistics() == IdempotencyStatistics(recorded=0, replayed=0)


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no fact", argument="object", hint="Look."),
        InvalidArgument("wrong", argument="items[2].content"),
        Conflict("it has ended"),
        PalaceError("otherwise"),
    ],
)
def test_a_refusal_is_final(writer: IdempotentWriter, database: Database, error: PalaceError) -> None:
    """Also when the call could succeed by now: its caller may have been told that it did not."""
    writer.write(add_wing("before"), soon())
    with pytest.raises(type(error)) as first:
        writer.write(refusing("half done", error), keyed("a"))
    assert first.value is error
    for _ in range(2):
        with pytest.raises(type(error)) as again:
            writer.write(add_wing("too late"), keyed("a"))
        assert type(again.value) is type(error)
        assert again.value.as_dict() == error.as_dict()
    assert wings(database) == ["before"]
    assert writer.write(add_wing("after"), soon()) == 2
    assert receipts(database) == [("tests", "a/0")]
    assert writer.statistics() == IdempotencyStatistics(recorded=1, replayed=2)


@pytest.mark.parametrize(
    "error",
    [
        Busy("later"),
        DeadlineExceeded("too late"),
        Cancelled("given up"),
        EmbedderUnavailable("loading"),
        StorageFull("full"),
        SchemaTooNew("old"),
        ZeroDivisionError("bug"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_says_nothing_about_the_call_is_not_remembered(
    writer: IdempotentWriter, database: Database, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        writer.write(refusing("half done", error), keyed("a"))
    assert receipts(database) == []
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert wings(database) == ["Paris"]


def test_a_call_whose_time_is_over_is_not_remembered(writer: IdempotentWriter, database: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        writer.write(add_wing("Paris"), keyed("a", seconds=0))
    assert writer.write(add_wing("Paris"), keyed("a")) == 1


def test_a_fault_of_sqlite_is_not_remembered(writer: IdempotentWriter, database: Database) -> None:
    writer.write(add_wing("Paris"), soon())
    with pytest.raises(PalaceError, match="UNIQUE"):
        writer.write(add_wing("PARIS"), keyed("a"))
    assert receipts(database) == []


def test_another_request_under_the_key_is_a_conflict(writer: IdempotentWriter, database: Database) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    with pytest.raises(Conflict) as caught:
        writer.write(add_wing("Rome"), keyed("a", digest=b"of another one  "))
    assert caught.value.argument == "_meta.idempotencyKey"
    assert caught.value.hint
    assert writer.write(never, keyed("a")) == 1
    assert wings(database) == ["Paris"]


def test_a_refusal_stands_for_its_request_too(writer: IdempotentWriter, database: Database) -> None:
    with pytest.raises(NotFound):
        writer.write(refusing("x", NotFound("nothing")), keyed("a"))
    with pytest.raises(Conflict):
        writer.write(add_wing("Rome"), keyed("a", digest=b"of another one  "))
    assert wings(database) == []


def test_keys_of_different_scopes_are_different(writer: IdempotentWriter, database: Database) -> None:
    assert writer.write(add_wing("Paris"), keyed("a", scope="one")) == 1
    assert writer.write(add_wing("Rome"), keyed("a", scope="other")) == 2


def test_several_writes_of_one_call_are_told_apart(writer: IdempotentWriter, database: Database) -> None:
    call = keyed("a")
    assert [writer.write(add_wing(name), call) for name in ("first", "second")] == [1, 2]
    assert writer.write(add_wing("of a key that looks like it"), keyed("a/1")) == 3
    again = keyed("a")
    assert [writer.write(never, again) for _ in range(2)] == [1, 2]
    assert writer.write(add_wing("third, where the first time had ended"), again) == 4
    assert writer.statistics() == IdempotencyStatistics(recorded=4, replayed=2)


def test_a_write_tried_again_within_its_call_is_the_same_write(writer: IdempotentWriter, database: Database) -> None:
    call = keyed("a")
    with pytest.raises(Busy):
        writer.write(refusing("first", Busy("later")), call)
    assert writer.write(add_wing("first"), call) == 1
    with pytest.raises(NotFound):
        writer.write(refusing("second", NotFound("nothing")), call)
    assert writer.write(add_wing("third"), call) == 2
    again = keyed("a")
    assert writer.write(never, again) == 1
    with pytest.raises(NotFound):
        writer.write(never, again)
    assert writer.write(never, again) == 2


def test_a_result_that_cannot_be_kept_is_no_result(writer: IdempotentWriter, database: Database) -> None:
    def work(tx: Transaction) -> object:
        add_wing("Paris")(tx)
        return object()

    with pytest.raises(TypeError):
        writer.write(work, keyed("a"))
    assert wings(database) == []
    assert receipts(database) == []


def test_an_answer_of_another_version_is_not_a_reason_to_do_it_again(
    writer: IdempotentWriter, database: Database
) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    database.write(lambda tx: tx.connection.execute("UPDATE receipts SET answer = '{\"Vanished\":{}}'"), soon())
    with pytest.raises(StorageError, match="settled before"):
        writer.write(never, keyed("a"))
    assert wings(database) == ["Paris"]


@pytest.mark.parametrize("ending", ["returns", "refuses"])
def test_nothing_follows_when_sqlite_has_ended_the_transaction(
    writer: IdempotentWriter, database: Database, ending: str
) -> None:
    """As a full disk makes it do. A receipt would be durable by itself then."""

    def work(tx: Transaction) -> str:
        add_wing("half")(tx)
        tx.connection.execute("ROLLBACK")
        if ending == "refuses":
            raise NotFound("nothing")
        return "all is well"

    with pytest.raises(StorageError, match="ended early"):
        writer.write(work, keyed("a"))
    assert receipts(database) == []
    assert writer.write(add_wing("whole"), keyed("a")) == 1


def test_a_refusal_in_the_middle_of_a_statement(writer: IdempotentWriter, database: Database) -> None:
    database.write(lambda tx: [add_wing(name)(tx) for name in ("one", "two", "three")], soon())

    def work(tx: Transaction) -> None:
        updated = tx.connection.execute("UPDATE wings SET name = 'lost' RETURNING id")  # the traceback holds it open
        raise NotFound(f"in the middle of {next(updated)}")

    for _ in range(2):
        with pytest.raises(NotFound):
            writer.write(work, keyed("a"))
    assert wings(database) == ["one", "two", "three"]
    assert receipts(database) == [("tests", "a/0")]
    assert database.integrity() == []


def test_a_savepoint_takes_back_what_is_older_than_one_inside_it(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            add_wing("outer")(tx)
            with tx.savepoint():
                add_wing("inner")(tx)
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        add_wing("kept")(tx)
        with pytest.raises(NotFound):
            fail(tx)

    database.write(work, soon())
    assert wings(database) == ["kept"]


def test_a_savepoint_gives_its_stamp_back(database: Database) -> None:
    def work(tx: Transaction) -> list[int]:
        with pytest.raises(NotFound), tx.savepoint():
            refusing("undone", NotFound("nothing"))(tx)
        before = tx.stamp.seq
        with pytest.raises(NotFound), tx.savepoint():
            refusing("undone", NotFound("nothing"))(tx)
        with tx.savepoint():
            add_wing("done")(tx)
        return [before, tx.stamp.seq]

    assert database.write(work, soon()) == [1, 1]
    assert wings(database) == ["done"]
    assert seq(database) == 1


def test_receipts_outlive_the_process(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        IdempotentWriter(database).write(add_wing("Paris"), keyed("a"))
    with fresh_database(tmp_path) as database:
        assert IdempotentWriter(database).write(never, keyed("a")) == 1


def test_killed_between_commit_and_answer(tmp_path: Path) -> None:
    with Child("stop_after_commit", tmp_path, "a", "Paris") as process:
        assert process.line() == "committed"
        process.kill()
    with fresh_database(tmp_path) as database:
        assert wings(database) == ["Paris"]
        assert IdempotentWriter(database).write(never, keyed("a")) == 1


def test_killed_between_work_and_receipt(tmp_path: Path) -> None:
    with Child("stop_before_receipt", tmp_path, "a", "Paris") as process:
        assert process.line() == "inside"
        process.kill()
    with fresh_database(tmp_path) as database:
        assert wings(database) == []
        assert IdempotentWriter(database).write(add_wing("Paris"), keyed("a")) == 1
        assert wings(database) == ["Paris"]


def exhaust(writer: IdempotentWriter, call: Deadline) -> None:
    """Write until there is no space left."""
    for number in range(10_000):
        writer.write(add_wing(f"{number} {'x' * 4000}"), call)


def test_a_full_disk_leaves_no_receipt(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, fresh_database(disk.path / "palace") as database:
        writer = IdempotentWriter(database)
        writer.write(add_wing("before"), keyed("a"))
        disk.fill()
        filling = keyed("filling")
        with pytest.raises(StorageFull):
            exhaust(writer, filling)
        stored = filling.writes
        with pytest.raises(StorageFull):
            writer.write(refusing("x" * 100_000, NotFound("nothing")), keyed("refused"))
        assert len(receipts(database)) == len(wings(database)) == stored + 1
        disk.empty()
        assert writer.write(never, keyed("a")) == 1
        assert writer.write(add_wing("x" * 4000), filling) == stored + 2
        assert len(wings(database)) == stored + 2
        assert database.integrity() == []


def insert_receipts(database: Database, count: int, recorded_at: int, step: int = 1) -> None:
    """So many receipts, each `step` microseconds later than the one before."""
    database.write(
        lambda tx: tx.connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
            " INSERT INTO receipts SELECT 'bulk', printf('%08d', n), x'00', 'null', ? + n * ? FROM numbers",
            (count, recorded_at, step),
        ),
        soon(),
    )


def pruned(database: Database, now: int, limit: int = 1000) -> int:
    return database.write(lambda tx: prune(tx, now, limit), soon())


def test_receipts_are_kept_for_a_day(database: Database) -> None:
    for hour in range(4):
        IdempotentWriter(database, now=lambda hour=hour: NOW + hour * 3600 * SECOND).write(  # type: ignore[misc]
            lambda _: None, keyed(str(hour))
        )
    assert pruned(database, NOW + DAY) == 0
    assert pruned(database, NOW + DAY + 1) == 1
    assert receipts(database) == [("tests", f"{hour}/0") for hour in (1, 2, 3)]
    assert pruned(database, NOW + DAY + 2 * 3600 * SECOND) == 1
    assert pruned(database, NOW + 2 * DAY, limit=1) == 1
    assert receipts(database) == [("tests", "3/0")]
    assert pruned(database, NOW + 2 * DAY) == 1
    assert pruned(database, NOW + 2 * DAY) == 0


def test_the_oldest_go_when_there_are_too_many(database: Database) -> None:
    insert_receipts(database, module.KEPT_AT_MOST + 25, NOW)
    assert pruned(database, NOW, limit=10) == 10
    assert receipts(database)[0] == ("bulk", "00000010")
    assert pruned(database, NOW) == 15
    assert pruned(database, NOW) == 0
    assert len(receipts(database)) == module.KEPT_AT_MOST
    assert receipts(database)[0] == ("bulk", "00000025")


def test_pruning_nothing_leaves_no_mark(database: Database) -> None:
    insert_receipts(database, 10, NOW)
    before = database.statistics().log_bytes
    assert pruned(database, NOW) == 0
    assert database.statistics().log_bytes == before
    assert seq(database) == 0


def test_a_receipt_that_is_gone_no_longer_protects(writer: IdempotentWriter, database: Database) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    assert pruned(database, NOW * 100) == 1
    assert writer.write(add_wing("Rome"), keyed("a")) == 2


def test_a_deadline_without_a_key_is_as_it_was() -> None:
    deadline = Deadline(5)
    assert (deadline.idempotency_key, deadline.writes, deadline.seconds) == (None, 0, 5)
