"""The executor, and the queue in which clients take turns."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from mempalace_mcp.core.errors import Busy, Conflict, PalaceError
from mempalace_mcp.runtime.executor import Executor, FairQueue

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    executor = Executor(2, waiting_limit=3)
    yield executor
    assert executor.close(20)


class Work:
    """A function that runs until it is told to end."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self._end.wait()
        return "done"

    def end(self) -> None:
        self._end.set()


@pytest.fixture
def new_work() -> Iterator[Callable[[], Work]]:
    """Makes functions that run until they are told to end, or the test is over."""
    made: list[Work] = []

    def new() -> Work:
        made.append(Work())
        return made[-1]

    yield new
    for work in made:
        work.end()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def test_runs_in_a_thread_of_its_own_with_arguments_and_context(executor: Executor) -> None:
    USER.set("Ada")

    def work(number: int, *, word: str) -> tuple[int, str, str, bool]:
        return number, word, USER.get(), threading.current_thread() is threading.main_thread()

    assert await executor.run(object(), work, 7, word="seven") == (7, "seven", "Ada", False)


async def test_errors_reach_the_caller(executor: Executor) -> None:
    def work() -> None:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await executor.run(object(), work)
    assert executor.statistics().running == 0


async def test_counts_what_runs_and_what_waits(executor: Executor, new_work: Callable[[], Work]) -> None:
    work = new_work()
    tasks = [asyncio.create_task(executor.run(object(), work)) for _ in range(5)]
    await until(lambda: executor.statistics().running == 2)
    statistics = executor.statistics()
    assert (statistics.threads, statistics.waiting, statistics.waiting_limit) == (2, 3, 3)
    assert statistics.oldest_running > 0
    work.end()
    assert await asyncio.gather(*tasks) == ["done"] * 5
    await until(lambda: executor.statistics().running == 0)
    statistics = executor.statistics()
    assert (statistics.waiting, statistics.oldest_running) == (0, 0.0)


async def test_a_full_line_refuses(executor: Executor, new_work: Callable[[], Work]) -> None:
    work = new_work()
    tasks = [asyncio.create_task(executor.run(object(), work)) for _ in range(5)]
    await until(lambda: executor.statistics().waiting == 3)
    with pytest.raises(Busy) as caught:
        await executor.run(object(), work)
    assert caught.value.retryable
    assert executor.statistics().refused == 1
    work.end()
    await asyncio.gather(*tasks)
    assert await executor.run(object(), lambda: "again") == "again"


async def test_a_cancelled_call_that_runs_keeps_its_thread_and_one_in_line_leaves_it(
    executor: Executor, new_work: Callable[[], Work]
) -> None:
    work, skipped = new_work(), new_work()
    running = [asyncio.create_task(executor.run(object(), work)) for _ in range(2)]
    await until(lambda: executor.statistics().running == 2)
    waiting = [asyncio.create_task(executor.run(object(), skipped)) for _ in range(3)]
    await until(lambda: executor.statistics().waiting == 3)
    for task in [*running, *waiting]:
        task.cancel()
    outcomes = await asyncio.gather(*running, *waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    statistics = executor.statistics()
    assert (statistics.running, statistics.waiting) == (2, 0)
    later = [asyncio.create_task(executor.run(object(), lambda: "later")) for _ in range(3)]
    await until(lambda: executor.statistics().waiting == 3)
    work.end()
    skipped.end()
    assert await asyncio.gather(*later) == ["later"] * 3
    await until(lambda: executor.statistics().running == 0)
    assert skipped.calls == 0


async def test_no_place_is_lost_whenever_calls_are_cancelled(executor: Executor) -> None:
    dice = random.Random(5)
    outcomes: list[object] = []
    before = threading.active_count()
    for _ in range(100):
        tasks = [asyncio.create_task(executor.run(object(), time.monotonic)) for _ in range(5)]
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        for task in dice.sample(tasks, 2):
            task.cancel()
        outcomes += await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: executor.statistics().running == executor.statistics().waiting == 0)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError, float}
    assert executor.statistics().refused == 0
    assert threading.active_count() <= before + 2


async def test_an_error_that_nobody_waits_for_any_more_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    executor, begun, end = Executor(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait()
        raise Conflict("too late")

    task = asyncio.create_task(executor.run(object(), work))
    await until(begun.is_set)
    task.cancel()
    assert await asyncio.gather(task, return_exceptions=True)
    end.set()
    await executor.run(object(), lambda: None)
    del task
    gc.collect()
    assert not caplog.records
    assert executor.close(20)


async def test_an_error_is_freed_without_the_garbage_collector(executor: Executor) -> None:
    def work() -> None:
        raise Conflict("refused")

    async def fail() -> weakref.ref[Conflict]:
        try:
            await executor.run(object(), work)
        except Conflict as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        error = await fail()
        async with asyncio.timeout(20):
            await until(lambda: error() is None)
    finally:
        gc.enable()


async def test_closing_waits_for_what_runs_and_refuses_what_waits(new_work: Callable[[], Work]) -> None:
    executor, work, waiting = Executor(1), new_work(), new_work()
    first = asyncio.create_task(executor.run(object(), work))
    second = asyncio.create_task(executor.run(object(), waiting))
    await until(lambda: executor.statistics().waiting == 1)
    assert not executor.close(0.01)
    work.end()
    assert await first == "done"
    with pytest.raises(PalaceError, match="closed"):
        await second
    assert waiting.calls == 0
    with pytest.raises(PalaceError, match="closed"):
        await executor.run(object(), work)
    assert executor.close(20)


async def test_a_loop_that_ends_before_the_work_does_no_harm(new_work: Callable[[], Work]) -> None:
    executor, work = Executor(1), new_work()

    def short_life() -> None:
        async def start() -> None:
            task = asyncio.create_task(executor.run(object(), work))
            await until(lambda: executor.statistics().running == 1)
            task.cancel()

        asyncio.run(start())

    await asyncio.to_thread(short_life)
    work.end()
    assert executor.close(20)


async def test_one_client_leaves_threads_for_others(new_work: Callable[[], Work]) -> None:
    executor, work = Executor(16), new_work()
    flood = [asyncio.create_task(executor.run("flood", work)) for _ in range(50)]
    await until(lambda: executor.statistics().running >= 4)
    assert await executor.run("other", lambda: "served") == "served"
    assert executor.statistics().running == 4
    second = [asyncio.create_task(executor.run("second flood", work)) for _ in range(50)]
    await until(lambda: executor.statistics().running >= 7)
    assert await executor.run("other", lambda: "served") == "served"
    assert executor.statistics().running == 7
    work.end()
    assert await asyncio.gather(*flood, *second) == ["done"] * 100
    assert executor.close(20)


async def test_clients_take_turns(new_work: Callable[[], Work]) -> None:
    executor, work = Executor(1), new_work()
    order: list[str] = []
    gate = asyncio.create_task(executor.run("gate", work))
    await until(lambda: executor.statistics().running == 1)
    tasks = [asyncio.create_task(executor.run(client, order.append, client)) for client in "aaaabcc"]
    await until(lambda: executor.statistics().waiting == 7)
    work.end()
    await asyncio.gather(gate, *tasks)
    assert "".join(order) == "abcacaa"
    assert executor.close(20)


async def test_one_client_leaves_places_for_others(new_work: Callable[[], Work]) -> None:
    executor, work = Executor(1, waiting_limit=7), new_work()
    tasks = [asyncio.create_task(executor.run("flood", work)) for _ in range(4)]
    await until(lambda: executor.statistics().waiting == 3)
    with pytest.raises(Busy, match="3 of them yours") as caught:
        await executor.run("flood", work)
    assert caught.value.as_dict()["retry_after"] >= 1
    tasks += [asyncio.create_task(executor.run("other", work)) for _ in range(2)]
    await until(lambda: executor.statistics().waiting == 5)
    with pytest.raises(Busy, match="2 of them yours"):
        await executor.run("other", work)
    tasks.append(asyncio.create_task(executor.run("third", work)))
    await until(lambda: executor.statistics().waiting == 6)
    tasks[2].cancel()
    await until(lambda: executor.statistics().waiting == 5)
    tasks.append(asyncio.create_task(executor.run("third", work)))
    work.end()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome != "done"] == [outcomes[2]]
    assert executor.close(20)


async def test_a_system_without_threads_refuses_calls_and_is_recovered_from() -> None:
    executor = Executor(threads=2)
    before = threading.stack_size(1 << 46)  # no system has so much for a thread
    try:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await executor.run("a", time.sleep, 0)
    finally:
        threading.stack_size(before)
    assert await executor.run("a", lambda: 1) == 1
    assert executor.close(timeout=5)
    assert executor.statistics().running == 0


def drained(queue: FairQueue[str]) -> str:
    taken = ""
    while (item := queue.take(lambda client: True)) is not None:
        taken += item
    return taken


def queue_of(items: str) -> FairQueue[str]:
    """A queue in which letters are clients and the items are letters, too."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.add(item.lower(), item)
    return queue


def test_clients_take_turns_in_the_order_of_their_arrival() -> None:
    assert drained(queue_of("aAabBc")) == "abcABa"


def test_whoever_was_served_stands_behind_whoever_was_not() -> None:
    queue = queue_of("aa")
    assert queue.take(lambda client: True) == "a"
    queue.add("b", "b")
    assert drained(queue) == "ab"
    queue.add("c", "c")
    assert drained(queue) == "c"


def test_a_client_who_may_not_is_passed_over_and_keeps_its_turn() -> None:
    queue = queue_of("aabb")
    assert queue.first() == "a"
    assert queue.take(lambda client: client != "a") == "b"
    assert queue.take(lambda client: False) is None
    assert drained(queue) == "aba"


def test_counts_and_removes() -> None:
    queue = queue_of("aAb")
    assert (len(queue), queue.count("a"), queue.count("b"), queue.count("c")) == (3, 2, 1, 0)
    queue.remove("a", "a")
    queue.remove("a", "a")
    queue.remove("c", "c")
    assert (len(queue), queue.count("a")) == (2, 1)
    assert queue.clear() == ["A", "b"]
    assert (len(queue), queue.count("a"), queue.first(), drained(queue)) == (0, 0, None, "")
