"""The writer thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy, Cancelled, Conflict, DeadlineExceeded, PalaceError, PalaceMissing
from mempalace_mcp.runtime.writer import GROUP_LIMIT, WriterThread
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.support import Child, add_wing, fresh_database, soon, wings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture
def writer(database: Database) -> Iterator[WriterThread]:
    writer = WriterThread(database)
    yield writer
    writer.close()


class Gate:
    """A unit that keeps the writer busy until it is opened."""

    def __init__(self, writer: WriterThread) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()
        self.outcome = writer.submit(self._work, soon())
        self._entered.wait()

    def open(self) -> None:
        self._opened.set()

    def _work(self, _transaction: Transaction) -> None:
        self._entered.set()
        self._opened.wait()


def test_write_returns_what_the_unit_returns(writer: WriterThread, database: Database) -> None:
    assert writer.write(add_wing("Paris"), soon()) == 1
    assert wings(database) == ["Paris"]


def test_the_error_of_a_unit_reaches_its_caller(writer: WriterThread, database: Database) -> None:
    def work(transaction: Transaction) -> None:
        add_wing("Paris")(transaction)
        raise Conflict("no")

    with pytest.raises(Conflict):
        writer.write(work, soon())
    with pytest.raises(TimeoutError):
        writer.write(lambda _: (_ for _ in ()).throw(TimeoutError("of the unit")), soon())
    assert wings(database) == []


def test_what_waits_is_committed_together_in_order(writer: WriterThread, database: Database) -> None:
    gate = Gate(writer)
    outcomes = [writer.submit(add_wing(f"{number:03}"), soon()) for number in range(GROUP_LIMIT + 6)]
    assert writer.statistics().waiting == GROUP_LIMIT + 6
    assert writer.statistics().committing == 1
    before = database.statistics().commits
    gate.open()
    assert [outcome.result() for outcome in outcomes] == list(range(1, GROUP_LIMIT + 7))
    assert wings(database) == [f"{number:03}" for number in range(GROUP_LIMIT + 6)]
    assert database.statistics().commits == before + 3
    assert database.statistics().largest_group == GROUP_LIMIT
    statistics = writer.statistics()
    assert statistics.largest_group == GROUP_LIMIT
    assert statistics.units == GROUP_LIMIT + 7
    assert statistics.groups == 3
    assert 0 < statistics.wait_max <= statistics.wait_total


def test_nobody_is_answered_before_the_commit(writer: WriterThread, database: Database) -> None:
    gate, entered, leave = Gate(writer), threading.Event(), threading.Event()

    def linger(_transaction: Transaction) -> None:
        entered.set()
        leave.wait()

    done, unfinished = writer.submit(add_wing("Paris"), soon()), writer.submit(linger, soon())
    gate.open()
    entered.wait()  # in the transaction that has filed Paris
    seen, answered = wings(database), done.done()
    leave.set()
    assert (seen, answered) == ([], False)
    unfinished.result()
    assert (wings(database), done.result()) == (["Paris"], 1)


def test_many_threads(writer: WriterThread, database: Database) -> None:
    def write(name: str) -> None:
        for number in range(25):
            writer.write(add_wing(f"{name}{number}"), soon())
            assert f"{name}{number}" in wings(database)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wings(database)) == 200
    assert database.integrity() == []


def test_those_who_ask_in_turn_are_committed_together(database: Database) -> None:
    with contextlib.closing(WriterThread(database, return_seconds=20)) as writer:
        entered, opened = threading.Event(), threading.Event()

        def linger(_transaction: Transaction) -> None:
            entered.set()
            opened.wait()

        def ask_in_turn(name: str) -> None:
            for number in range(5):
                writer.write(add_wing(f"{name}{number}"), soon())

        def ask_first_of_all() -> None:
            writer.write(linger, soon())
            ask_in_turn("a")

        threads = [threading.Thread(target=ask_first_of_all)]
        threads += [threading.Thread(target=ask_in_turn, args=(name,)) for name in "bcd"]
        threads[0].start()
        entered.wait()
        for waiting, thread in enumerate(threads[1:], start=1):
            thread.start()
            while writer.statistics().waiting < waiting:
                assert thread.is_alive()
        opened.set()
        for thread in threads:
            thread.join()
        statistics = writer.statistics()
        assert (statistics.units, statistics.groups, statistics.largest_group) == (1 + 4 * 5, 1 + 5, 4)
        assert len(wings(database)) == 20


def test_nobody_is_waited_for_who_does_not_come_back(writer: WriterThread, database: Database) -> None:
    gate = Gate(writer)
    waiting = [writer.submit(add_wing(name), soon()) for name in "abc"]
    gate.open()
    assert [each.result() for each in waiting] == [1, 2, 3]
    assert writer.write(add_wing("alone"), soon()) == 4


def test_a_full_queue_refuses(database: Database) -> None:
    with contextlib.closing(WriterThread(database, queue_limit=3)) as writer, contextlib.ExitStack() as stack:
        gate = Gate(writer)
        stack.callback(gate.open)
        outcomes = [writer.submit(add_wing(name), soon()) for name in "abc"]
        with pytest.raises(Busy) as caught:
            writer.submit(add_wing("d"), soon())
        assert caught.value.retry_after > 0
        assert writer.statistics().refused == 1
        assert outcomes[1].cancel()
        late = writer.submit(add_wing("e"), soon())
        gate.open()
        assert (outcomes[0].result(), outcomes[2].result(), late.result()) == (1, 2, 3)
        assert wings(database) == ["a", "c", "e"]


def test_given_up_before_it_began(writer: WriterThread, database: Database) -> None:
    gate = Gate(writer)
    future, deadline = writer.submit(add_wing("future"), soon()), soon()
    cancelled = writer.submit(add_wing("deadline"), deadline)
    assert future.cancel()
    deadline.cancel()
    with pytest.raises(DeadlineExceeded):
        writer.write(add_wing("late"), Deadline(0.05))
    with pytest.raises(DeadlineExceeded):
        writer.write(add_wing("too late"), Deadline(0))
    gate.open()
    assert writer.write(add_wing("fine"), soon()) == 1
    assert wings(database) == ["fine"]
    assert isinstance(cancelled.exception(), Cancelled)
    with pytest.raises(CancelledError):
        future.result()


def test_what_has_begun_is_waited_for_beyond_its_deadline(writer: WriterThread, database: Database) -> None:
    """Otherwise the caller would hear that nothing was written, and something was."""
    begun, over = threading.Event(), threading.Event()
    deadline = Deadline(0.2)

    def work(transaction: Transaction) -> int:
        begun.set()
        over.wait()
        return add_wing("slow")(transaction)

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(writer.write(work, deadline)))
    thread.start()
    begun.wait()
    while deadline.remaining:
        assert thread.is_alive()
    over.set()
    thread.join()
    assert results == [1]
    assert wings(database) == ["slow"]


def test_the_lock_held_past_the_deadline_names_its_holder(writer: WriterThread, database: Database) -> None:
    with Child("hold_lock", database.directory) as holder:
        assert holder.line() == "held"
        with pytest.raises(DeadlineExceeded, match=f"process {holder.pid}") as caught:
            writer.write(add_wing("late"), Deadline(0.1))
        assert caught.value.retryable
        patient = writer.submit(add_wing("patient"), soon())
        with pytest.raises(DeadlineExceeded, match=f"process {holder.pid}"):
            writer.write(add_wing("late too"), Deadline(0.1))
        assert writer.statistics().alive
        holder.go()
        assert patient.result() == 1
        assert wings(database) == ["patient"]
        holder.rest()


def test_vanished_files_do_not_end_the_thread(writer: WriterThread, database: Database) -> None:
    database.write(add_wing("Paris"), soon())
    database.backup(database.directory / "copy.db")
    for file in database.directory.glob("palace.db*"):
        file.unlink()
    with pytest.raises(PalaceMissing):
        writer.write(add_wing("lost"), soon())
    (database.directory / "copy.db").rename(database.path)
    database.reopen()
    assert writer.write(add_wing("Rome"), soon()) == 2
    assert wings(database) == ["Paris", "Rome"]


def test_an_unforeseen_error_reaches_the_callers_and_the_thread_lives_on(tmp_path: Path) -> None:
    with fresh_database(tmp_path, now=BrokenClock()) as database:
        writer = WriterThread(database)
        with pytest.raises(ZeroDivisionError):
            writer.write(add_wing("stamped"), soon())
        assert writer.submit(lambda _: "unstamped", soon()).result() == "unstamped"
        unsuitable: Any = object()
        with pytest.raises(AttributeError):
            writer.submit(lambda _: None, unsuitable).result()
        assert writer.statistics().alive
        assert writer.submit(lambda _: "alive", soon()).result() == "alive"
        writer.close()


def test_a_caller_who_is_interrupted_while_waking_the_thread_leaves_it_to_others(database: Database) -> None:
    lines, interrupted = 0, True
    while interrupted:
        writer = WriterThread(database)
        writer.write(lambda _: None, soon())
        let_wait(writer)
        woken = threading.Event()
        interrupted = submit_interrupted(writer, woken, lines)
        woken.wait(0.2)
        let_wait(writer)
        assert writer.submit(lambda _: "served", soon()).result(10) == "served", f"interrupted after {lines} lines"
        writer.close(timeout=10)
        assert not writer.statistics().alive, f"interrupted after {lines} lines"
        lines += 1
    assert lines > 5


def let_wait(writer: WriterThread) -> None:
    """Return once the thread has nothing to do, or has not noticed that it has."""
    while writer.statistics().committing:
        os.sched_yield()


def submit_interrupted(writer: WriterThread, woken: threading.Event, lines: int) -> bool:
    """Submit a unit that sets the event, but be interrupted after so many lines of `notify`; False if it has fewer."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is threading.Condition.notify.__code__ and event == "line":
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        writer.submit(lambda _: woken.set(), soon())
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


class BrokenClock:
    """Works once, for the founding of the palace."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self) -> int:
        self._calls += 1
        return 1 // (self._calls == 1)


def test_closing_drains_the_queue(database: Database) -> None:
    writer = WriterThread(database)
    gate = Gate(writer)
    outcomes: list[Future[int]] = [writer.submit(add_wing(str(number)), soon()) for number in range(100)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    gate.open()
    closing.join()
    assert [outcome.result() for outcome in outcomes] == list(range(1, 101))
    assert not writer.statistics().alive
    with pytest.raises(PalaceError, match="closed"):
        writer.write(add_wing("late"), soon())
    writer.close()


def test_closing_refuses_what_it_cannot_drain(database: Database) -> None:
    writer = WriterThread(database)
    gate = Gate(writer)
    left = writer.submit(add_wing("left"), soon())
    writer.close(timeout=0.05)
    assert isinstance(left.exception(), Busy)
    gate.open()
    gate.outcome.result()
    writer.close()
    assert wings(database) == []


async def test_a_brief_call_runs_in_the_transaction_of_its_writes(writer: WriterThread, database: Database) -> None:
    def call() -> tuple[str, list[str]]:
        for name in ("Paris", "Rome"):
            writer.write(add_wing(name), soon())
        return threading.current_thread().name, wings(database)

    before = database.statistics().commits
    assert await writer.run(call, soon()) == ("writer", [])
    assert wings(database) == ["Paris", "Rome"]
    assert database.statistics().commits == before + 1


async def test_a_brief_call_is_answered_when_all_that_waits_with_it_is_durable(
    writer: WriterThread, database: Database
) -> None:
    gate, entered, leave = Gate(writer), threading.Event(), threading.Event()

    def linger(_transaction: Transaction) -> None:
        entered.set()
        leave.wait()

    brief = asyncio.create_task(writer.run(lambda: writer.write(add_wing("Paris"), soon()), soon()))
    while writer.statistics().waiting < 1:
        await asyncio.sleep(0)
    unfinished = writer.submit(linger, soon())
    gate.open()
    await asyncio.to_thread(entered.wait)
    seen, answered = wings(database), brief.done()
    leave.set()
    assert (seen, answered) == ([], False)
    assert (await brief, wings(database), unfinished.result()) == (1, ["Paris"], None)


async def test_what_follows_a_commit_sees_its_writes(writer: WriterThread, database: Database) -> None:
    seen: list[list[str]] = []

    def call() -> None:
        writer.write(add_wing("Paris"), soon())
        writer.after_commit(lambda: seen.append(wings(database)))
        seen.append(wings(database))

    await writer.run(call, soon())
    await writer.run(lambda: None, soon())  # the writer answers a call before it does what follows
    assert seen == [[], ["Paris"]]
    writer.after_commit(lambda: seen.append(["at once"]))
    assert seen[2:] == [["at once"]]


async def test_a_brief_call_that_refuses_leaves_whole_writes(writer: WriterThread, database: Database) -> None:
    def refuse(transaction: Transaction) -> None:
        add_wing("half")(transaction)
        raise Conflict("of the write")

    def call() -> None:
        writer.write(add_wing("whole"), soon())
        with pytest.raises(Conflict):
            writer.write(refuse, soon())
        raise Conflict("of the call")

    with pytest.raises(Conflict, match="of the call"):
        await writer.run(call, soon())
    assert wings(database) == ["whole"]


async def test_a_brief_call_that_fails_leaves_nothing(writer: WriterThread, database: Database) -> None:
    def call() -> None:
        writer.write(add_wing("lost"), soon())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.run(call, soon())
    assert wings(database) == []
    assert await writer.run(lambda: writer.write(add_wing("Paris"), soon()), soon()) == 1


async def test_a_brief_call_given_up_before_it_began(writer: WriterThread, database: Database) -> None:
    gate = Gate(writer)
    cancelled = asyncio.create_task(writer.run(lambda: writer.write(add_wing("cancelled"), soon()), soon()))
    with pytest.raises(DeadlineExceeded):
        await writer.run(lambda: writer.write(add_wing("late"), soon()), Deadline(0.05))
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.open()
    assert await writer.run(lambda: writer.write(add_wing("fine"), soon()), soon()) == 1
    assert wings(database) == ["fine"]


async def test_a_brief_call_that_has_begun_is_waited_for_beyond_its_deadline(
    writer: WriterThread, database: Database
) -> None:
    begun, over, deadline = threading.Event(), threading.Event(), Deadline(0.2)

    def call() -> int:
        begun.set()
        over.wait()
        return writer.write(add_wing("slow"), deadline)

    task = asyncio.create_task(writer.run(call, deadline))
    await asyncio.to_thread(begun.wait)
    while deadline.remaining:
        await asyncio.sleep(0)
    assert not task.done()
    over.set()
    assert await task == 1
    assert wings(database) == ["slow"]


async def test_a_brief_call_whose_loop_has_ended_does_no_harm(writer: WriterThread, database: Database) -> None:
    begun, over = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        over.wait()
        writer.write(add_wing("done"), soon())

    async def begin() -> None:
        task = asyncio.create_task(writer.run(call, soon()))
        await asyncio.to_thread(begun.wait)
        task.cancel()

    await asyncio.to_thread(asyncio.run, begin())
    over.set()
    assert await writer.run(lambda: writer.write(add_wing("next"), soon()), soon()) == 2
    assert wings(database) == ["done", "next"]


def test_there_is_room_for_brief_calls_while_one_group_takes_all(writer: WriterThread) -> None:
    gate = Gate(writer)
    waiting = [writer.submit(lambda _: None, soon()) for _ in range(GROUP_LIMIT - 1)]
    assert writer.has_room
    waiting.append(writer.submit(lambda _: None, soon()))
    assert not writer.has_room
    gate.open()
    assert [each.result() for each in waiting] == [None] * GROUP_LIMIT
    assert writer.has_room
