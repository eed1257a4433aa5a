"""Writes that are done once, however often they are asked for: their records, alone and in groups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage import transactions as module
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.transactions import IdempotencyStatistics, IdempotentWriter, Transaction, Work, prune
from tests.palace.support import opened
from tests.storage.support import Child, add_wing, fresh_database, fresh_store, keyed, receipts, small_disk, soon, wings

pytestmark = pytest.mark.usefixtures("each_store")

NOW = 1_000 * DAY
THREADS = 16


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PalaceDatabase]:
    with fresh_store(tmp_path) as database:
        yield database


@pytest.fixture
def writer(database: PalaceDatabase) -> IdempotentWriter:
    return IdempotentWriter(database)


@pytest.fixture
def thread(database: PalaceDatabase) -> Iterator[WriterThread]:
    thread = WriterThread(database)
    yield thread
    thread.close()


def refusing(name: str, error: BaseException) -> Callable[[Transaction], Any]:
    """A unit that has written and drawn its stamp when it refuses."""

    def work(tx: Transaction) -> None:
        add_wing(name)(tx)
        raise error

    return work


def never(tx: Transaction) -> Any:
    """A unit that must not run."""
    raise AssertionError("done again")


def seq(database: PalaceDatabase) -> int:
    with database.read() as connection:
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])


def test_a_repetition_is_answered_and_not_done(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert writer.write(never, keyed("a")) == 1
    assert wings(database) == ["Paris"]
    assert seq(database) == 1
    assert writer.statistics() == IdempotencyStatistics(recorded=1, replayed=2)


def test_a_receipt_is_committed_with_its_write(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    before = database.statistics().commits
    writer.write(add_wing("Paris"), keyed("a"))
    assert database.statistics().commits == before + 1
    assert len(receipts(database)) == 1


def test_values_come_back_as_they_were(writer: IdempotentWriter) -> None:
    value = [Filed("d_1", created=True), (None, {"Filed": [1.0, "ü"]})]
    assert writer.write(lambda _: value, keyed("a")) is value
    assert writer.write(never, keyed("a")) == value


def test_without_a_key_nothing_is_remembered(writer: IdempotentWriter, database: PalaceDatabase) -> None:
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
def test_a_refusal_is_final(writer: IdempotentWriter, database: PalaceDatabase, error: PalaceError) -> None:
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
    writer: IdempotentWriter, database: PalaceDatabase, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        writer.write(refusing("half done", error), keyed("a"))
    assert receipts(database) == []
    assert writer.write(add_wing("Paris"), keyed("a")) == 1
    assert wings(database) == ["Paris"]


def test_a_call_whose_time_is_over_is_not_remembered(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    with pytest.raises(DeadlineExceeded):
        writer.write(add_wing("Paris"), keyed("a", seconds=0))
    assert writer.write(add_wing("Paris"), keyed("a")) == 1


def test_a_fault_of_the_database_is_not_remembered(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    writer.write(add_wing("Paris"), soon())
    with pytest.raises(PalaceError, match=r"(?i)unique"):
        writer.write(add_wing("PARIS"), keyed("a"))
    assert receipts(database) == []


def test_another_request_under_the_key_is_a_conflict(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    with pytest.raises(Conflict) as caught:
        writer.write(add_wing("Rome"), keyed("a", digest=b"of another one  "))
    assert caught.value.argument == "_meta.idempotencyKey"
    assert caught.value.hint
    assert writer.write(never, keyed("a")) == 1
    assert wings(database) == ["Paris"]


def test_a_refusal_stands_for_its_request_too(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    with pytest.raises(NotFound):
        writer.write(refusing("x", NotFound("nothing")), keyed("a"))
    with pytest.raises(Conflict):
        writer.write(add_wing("Rome"), keyed("a", digest=b"of another one  "))
    assert wings(database) == []


def test_keys_of_different_scopes_are_different(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    assert writer.write(add_wing("Paris"), keyed("a", scope="one")) == 1
    assert writer.write(add_wing("Rome"), keyed("a", scope="other")) == 2


def test_several_writes_of_one_call_are_told_apart(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    call = keyed("a")
    assert [writer.write(add_wing(name), call) for name in ("first", "second")] == [1, 2]
    assert writer.write(add_wing("of a key that looks like it"), keyed("a/1")) == 3
    again = keyed("a")
    assert [writer.write(never, again) for _ in range(2)] == [1, 2]
    assert writer.write(add_wing("third, where the first time had ended"), again) == 4
    assert writer.statistics() == IdempotencyStatistics(recorded=4, replayed=2)


def test_a_write_tried_again_within_its_call_is_the_same_write(
    writer: IdempotentWriter, database: PalaceDatabase
) -> None:
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


def test_a_result_that_cannot_be_kept_is_no_result(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    def work(tx: Transaction) -> object:
        add_wing("Paris")(tx)
        return object()

    with pytest.raises(TypeError):
        writer.write(work, keyed("a"))
    assert wings(database) == []
    assert receipts(database) == []


def test_an_answer_of_another_version_is_not_a_reason_to_do_it_again(
    writer: IdempotentWriter, database: PalaceDatabase
) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    database.write(lambda tx: tx.connection.execute("UPDATE receipts SET answer = '{\"Vanished\":{}}'"), soon())
    with pytest.raises(StorageError, match="settled before"):
        writer.write(never, keyed("a"))
    assert wings(database) == ["Paris"]


@pytest.mark.parametrize("ending", ["returns", "refuses"])
def test_nothing_follows_when_the_database_has_ended_the_transaction(
    writer: IdempotentWriter, database: PalaceDatabase, ending: str
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


def test_a_refusal_in_the_middle_of_a_statement(writer: IdempotentWriter, database: PalaceDatabase) -> None:
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


def insert_receipts(database: PalaceDatabase, count: int, recorded_at: int, step: int = 1) -> None:
    """So many receipts, each `step` microseconds later than the one before."""
    database.write(
        lambda tx: tx.connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
            " INSERT INTO receipts (scope, key, digest, answer, recorded_at)"
            " SELECT 'bulk', substr(CAST(n + 100000000 AS text), 2), ?, 'null', ? + n * ? FROM numbers",
            (count, b"\0", recorded_at, step),
        ),
        soon(),
    )


def pruned(database: PalaceDatabase, now: int, limit: int = 1000) -> int:
    return database.write(lambda tx: prune(tx, now, limit), soon())


def test_receipts_are_kept_for_a_day(database: PalaceDatabase) -> None:
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


def test_the_oldest_go_when_there_are_too_many(database: PalaceDatabase) -> None:
    insert_receipts(database, module.KEPT_AT_MOST + 25, NOW)
    assert pruned(database, NOW, limit=10) == 10
    assert receipts(database)[0] == ("bulk", "00000010")
    assert pruned(database, NOW) == 15
    assert pruned(database, NOW) == 0
    assert len(receipts(database)) == module.KEPT_AT_MOST
    assert receipts(database)[0] == ("bulk", "00000025")


def test_pruning_nothing_leaves_no_mark(database: PalaceDatabase) -> None:
    insert_receipts(database, 10, NOW)
    before = database.statistics().log_bytes
    assert pruned(database, NOW) == 0
    assert database.statistics().log_bytes == before
    assert seq(database) == 0


def test_a_receipt_that_is_gone_no_longer_protects(writer: IdempotentWriter, database: PalaceDatabase) -> None:
    writer.write(add_wing("Paris"), keyed("a"))
    assert pruned(database, NOW * 100) == 1
    assert writer.write(add_wing("Rome"), keyed("a")) == 2


def test_a_deadline_without_a_key_is_as_it_was() -> None:
    deadline = Deadline(5)
    assert (deadline.idempotency_key, deadline.writes, deadline.seconds) == (None, 0, 5)


@contextmanager
def held(thread: WriterThread) -> Iterator[None]:
    """Everything written inside the block waits and is committed as one group at its end."""
    entered, opened = threading.Event(), threading.Event()

    def work(_: Transaction) -> None:
        entered.set()
        opened.wait()

    outcome = thread.submit(work, soon())
    entered.wait()
    try:
        yield
    finally:
        opened.set()
        outcome.result()


def together(thread: WriterThread, calls: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    """Make the calls, each from a thread of its own, so that they are one group; how each of them ended."""
    with ThreadPoolExecutor(max(1, len(calls))) as threads:
        with held(thread):
            futures = []
            for number, call in enumerate(calls, start=1):
                futures.append(threads.submit(call))
                while thread.statistics().waiting < number:
                    assert not futures[-1].done(), futures[-1].exception()
        wait(futures)
    return futures


def rogue(tx: Transaction) -> None:
    """A unit that takes the transaction away from its neighbours."""
    add_wing("rogue")(tx)
    tx.connection.execute("ROLLBACK")


def test_sixteen_at_once_are_one(thread: WriterThread, database: PalaceDatabase) -> None:
    once = IdempotentWriter(thread)
    ended = together(thread, [lambda: once.write(add_wing("Paris"), keyed("a"))] * THREADS)
    assert [each.result() for each in ended] == [1] * THREADS
    assert wings(database) == ["Paris"]
    assert once.statistics() == IdempotencyStatistics(recorded=1, replayed=THREADS - 1)
    assert database.statistics().largest_group == THREADS


def test_sixteen_refusals_at_once_are_one(thread: WriterThread, database: PalaceDatabase) -> None:
    once = IdempotentWriter(thread)
    ended = together(thread, [lambda: once.write(refusing("refused", NotFound("nothing")), keyed("a"))] * THREADS)
    assert {(type(each.exception()), str(each.exception())) for each in ended} == {(NotFound, "nothing")}
    assert len({id(each.exception()) for each in ended}) == THREADS
    assert wings(database) == []
    assert receipts(database) == [("tests", "a/0")]


@pytest.mark.parametrize("neighbour", [rogue, refusing("refused", NotFound("nothing"))], ids=["rogue", "refusing"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_neighbour_that_fails(
    thread: WriterThread, database: PalaceDatabase, neighbour: Work[None], position: int
) -> None:
    once = IdempotentWriter(thread)
    calls: list[Callable[[], Any]] = [
        lambda: once.write(add_wing("Paris"), keyed("a")),
        lambda: once.write(add_wing("Paris"), keyed("a")),
    ]
    calls.insert(position, lambda: once.write(neighbour, soon()))
    ended = together(thread, calls)
    assert isinstance(ended.pop(position).exception(), StorageError if neighbour is rogue else NotFound)
    assert [each.result() for each in ended] == [1, 1]
    assert wings(database) == ["Paris"]
    assert receipts(database) == [("tests", "a/0")]


def test_two_requests_under_one_key_at_once(thread: WriterThread, database: PalaceDatabase) -> None:
    once = IdempotentWriter(thread)
    digests = [b"one" if number % 2 else b"other" for number in range(THREADS)]
    calls = [partial(once.write, add_wing(digest.decode()), keyed("a", digest)) for digest in digests]
    ended = together(thread, calls)
    assert [isinstance(each.exception(), Conflict) for each in ended] == [digest != digests[0] for digest in digests]
    assert wings(database) == [digests[0].decode()]


def test_a_brief_call_that_runs_again_has_the_same_key(thread: WriterThread, database: PalaceDatabase) -> None:
    once, deadline = IdempotentWriter(thread), keyed("a")
    brief = thread.run(lambda: once.write(add_wing("Paris"), deadline), deadline)
    ended = together(thread, [lambda: asyncio.run(_awaited(brief)), lambda: once.write(rogue, soon())])
    assert isinstance(ended[1].exception(), StorageError)
    assert ended[0].result() == once.write(add_wing("Rome"), keyed("a")) == 1
    assert wings(database) == ["Paris"]
    assert receipts(database) == [("tests", "a/0")]


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


Call = tuple[str, str, bool, bool]
calls = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["write", "refuse", "end", "fail"]), st.booleans(), st.booleans()
)


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.lists(calls, max_size=6), max_size=4))
def test_one_key_has_one_effect_and_one_answer(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Call]]
) -> None:
    """Whatever keys meet in a group, and whatever their neighbours do: as if each had been asked for once, in order.

    A key that once had an answer keeps it; failures that say nothing about the call leave the key free.
    """
    effects: list[str] = []
    answers: dict[str, str] = {}
    with fresh_store(tmp_path_factory.mktemp("palace")) as database:
        thread = WriterThread(database)
        once = IdempotentWriter(thread)
        for number, group in enumerate(groups):
            attempts = [
                partial(
                    _write_briefly if is_brief else _write,
                    thread,
                    once,
                    _act(f"{number}.{place}", act),
                    keyed(key) if has_key else soon(),
                )
                for place, (key, act, has_key, is_brief) in enumerate(group)
            ]
            for place, ended in enumerate(together(thread, attempts)):
                key, act, has_key, _ = group[place]
                told = _told(ended)
                if has_key and key in answers:
                    assert told == answers[key]
                    continue
                assert told == {"write": f"{number}.{place}", "refuse": "NotFound"}.get(act, told)
                effects += [told] if act == "write" else []
                answers |= {key: told} if has_key and act in ("write", "refuse") else {}
        assert wings(database) == effects
        assert len(receipts(database)) == len(answers)
        thread.close()


def _act(name: str, act: str) -> Work[str]:
    def work(tx: Transaction) -> str:
        add_wing(name)(tx)
        if act == "refuse":
            raise NotFound(name)
        if act == "end":
            tx.connection.execute("ROLLBACK")
        if act == "fail":
            raise ZeroDivisionError
        return name

    return work


def _write(thread: WriterThread, once: IdempotentWriter, work: Work[str], deadline: Deadline) -> str:
    return once.write(work, deadline)


def _write_briefly(thread: WriterThread, once: IdempotentWriter, work: Work[str], deadline: Deadline) -> str:
    return asyncio.run(thread.run(lambda: once.write(work, deadline), deadline))


def _told(ended: Future[Any]) -> str:
    error = ended.exception()
    return str(ended.result()) if error is None else type(error).__name__


def test_the_running_process_clears_receipts(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.kg_add("Ada", "works at", "Acme", deadline=keyed("young"))
        surplus = 1500
        insert_receipts(app.database, surplus, recorded_at=1)
        app.start()
        while not app.indexer.wait_until_idle(0.1):
            pass
        assert receipts(app.database) == [("tests", "young/0")]
        assert app.indexer.statistics().pruned == surplus


def test_the_health_tells_of_receipts(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        for _ in range(3):
            app.palace.kg_add("Ada", "works at", "Acme", deadline=keyed("a"))
        assert app.health.snapshot().components["receipts"] == IdempotencyStatistics(recorded=1, replayed=2)


def test_a_closed_palace_leaves_no_receipt(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.writer.close()
        with pytest.raises(PalaceError, match="closed"):
            app.palace.kg_add("Ada", "works at", "Acme", deadline=keyed("a"))
        assert receipts(app.database) == []
