"""Receipts behind the writer thread: many callers at once, groups that break apart, and the clearing of old ones."""

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
from mempalace_mcp.core.errors import Conflict, NotFound, PalaceError, StorageError
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import IdempotencyStatistics, IdempotentWriter, Transaction, Work
from tests.palace.support import opened
from tests.storage.receipt_support import keyed, receipts
from tests.storage.support import add_wing, fresh_database, soon, wings

THREADS = 16


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture
def writer(database: Database) -> Iterator[WriterThread]:
    writer = WriterThread(database)
    yield writer
    writer.close()


@contextmanager
def held(writer: WriterThread) -> Iterator[None]:
    """Everything written inside the block waits and is committed as one group at its end."""
    entered, opened = threading.Event(), threading.Event()

    def work(_: Transaction) -> None:
        entered.set()
        opened.wait()

    outcome = writer.submit(work, soon())
    entered.wait()
    try:
        yield
    finally:
        opened.set()
        outcome.result()


def together(writer: WriterThread, calls: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    """Make the calls, each from a thread of its own, so that they are one group; how each of them ended."""
    with ThreadPoolExecutor(max(1, len(calls))) as threads:
        with held(writer):
            futures = []
            for number, call in enumerate(calls, start=1):
                futures.append(threads.submit(call))
                while writer.statistics().waiting < number:
                    assert not futures[-1].done(), futures[-1].exception()
        wait(futures)
    return futures


def rogue(tx: Transaction) -> None:
    """A unit that takes the transaction away from its neighbours."""
    add_wing("rogue")(tx)
    tx.connection.execute("ROLLBACK")


def refusing(tx: Transaction) -> None:
    """A unit that has written when it refuses."""
    add_wing("refused")(tx)
    raise NotFound("nothing")


def test_sixteen_at_once_are_one(writer: WriterThread, database: Database) -> None:
    once = IdempotentWriter(writer)
    ended = together(writer, [lambda: once.write(add_wing("Paris"), keyed("a"))] * THREADS)
    assert [each.result() for each in ended] == [1] * THREADS
    assert wings(database) == ["Paris"]
    assert once.statistics() == IdempotencyStatistics(recorded=1, replayed=THREADS - 1)
    assert database.statistics().largest_group == THREADS


def test_sixteen_refusals_at_once_are_one(writer: WriterThread, database: Database) -> None:
    once = IdempotentWriter(writer)
    ended = together(writer, [lambda: once.write(refusing, keyed("a"))] * THREADS)
    assert {(type(each.exception()), str(each.exception())) for each in ended} == {(NotFound, "nothing")}
    assert len({id(each.exception()) for each in ended}) == THREADS
    assert wings(database) == []
    assert receipts(database) == [("tests", "a/0")]


@pytest.mark.parametrize("neighbour", [rogue, refusing], ids=lambda neighbour: str(neighbour.__name__))
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_neighbour_that_fails(writer: WriterThread, database: Database, neighbour: Work[None], position: int) -> None:
    once = IdempotentWriter(writer)
    calls: list[Callable[[], Any]] = [
        lambda: once.write(add_wing("Paris"), keyed("a")),
        lambda: once.write(add_wing("Paris"), keyed("a")),
    ]
    calls.insert(position, lambda: once.write(neighbour, soon()))
    ended = together(writer, calls)
    assert isinstance(ended.pop(position).exception(), StorageError if neighbour is rogue else NotFound)
    assert [each.result() for each in ended] == [1, 1]
    assert wings(database) == ["Paris"]
    assert receipts(database) == [("tests", "a/0")]


def test_two_requests_under_one_key_at_once(writer: WriterThread, database: Database) -> None:
    once = IdempotentWriter(writer)
    digests = [b"one" if number % 2 else b"other" for number in range(THREADS)]
    calls = [partial(once.write, add_wing(digest.decode()), keyed("a", digest)) for digest in digests]
    ended = together(writer, calls)
    assert [isinstance(each.exception(), Conflict) for each in ended] == [digest != digests[0] for digest in digests]
    assert wings(database) == [digests[0].decode()]


def test_a_brief_call_that_runs_again_has_the_same_key(writer: WriterThread, database: Database) -> None:
    once, deadline = IdempotentWriter(writer), keyed("a")
    brief = writer.run(lambda: once.write(add_wing("Paris"), deadline), deadline)
    ended = together(writer, [lambda: asyncio.run(_awaited(brief)), lambda: once.write(rogue, soon())])
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
    with fresh_database(tmp_path_factory.mktemp("palace")) as database:
        writer = WriterThread(database)
        once = IdempotentWriter(writer)
        for number, group in enumerate(groups):
            attempts = [
                partial(
                    _write_briefly if is_brief else _write,
                    writer,
                    once,
                    _act(f"{number}.{place}", act),
                    keyed(key) if has_key else soon(),
                )
                for place, (key, act, has_key, is_brief) in enumerate(group)
            ]
            for place, ended in enumerate(together(writer, attempts)):
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
        writer.close()


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


def _write(writer: WriterThread, once: IdempotentWriter, work: Work[str], deadline: Deadline) -> str:
    return once.write(work, deadline)


def _write_briefly(writer: WriterThread, once: IdempotentWriter, work: Work[str], deadline: Deadline) -> str:
    return asyncio.run(writer.run(lambda: once.write(work, deadline), deadline))


def _told(ended: Future[Any]) -> str:
    error = ended.exception()
    return str(ended.result()) if error is None else type(error).__name__


def test_the_running_process_clears_receipts(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.kg_add("Ada", "works at", "Acme", deadline=keyed("young"))
        surplus = 1500
        app.writer.write(
            lambda tx: tx.connection.execute(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
                " INSERT INTO receipts SELECT 'bulk', n, x'00', 'null', n FROM numbers",
                (surplus,),
            ),
            Deadline(),
        )
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
