"""The flow of a session: its requests at work, and the way out to a client that does not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from mempalace_mcp.server.flow import CLOSED, LOST_BYTES, ROOM_BYTES, Outbox, RequestTasks
from mempalace_mcp.server.jsonrpc import Error, Result

NEVER, DONE = Result.of({"never": True}), Result.of({"done": True})


class Client:
    """What it hears, by the requests' ids; while `deaf` it hears nothing."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Result | Error | None]] = []
        self.failures = 0
        self._hears = anyio.Event()
        self._hears.set()
        self._told = anyio.Event()
        self.tasks = RequestTasks(self._note_failure)

    def ask(self, number: int, work: Callable[[], Awaitable[Result | Error]]) -> None:
        self.tasks.start(number, work, partial(self._hear, number))

    def turn_deaf(self) -> None:
        self._hears = anyio.Event()

    def listen(self) -> None:
        self._hears.set()

    async def until_told(self, count: int) -> None:
        while len(self.heard) < count:
            self._told = anyio.Event()
            await self._told.wait()

    async def _hear(self, number: int, answer: Result | Error | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "whoever finishes is no longer to be cancelled"
        await self._hears.wait()
        self.heard.append((number, answer))
        self._told.set()

    def _note_failure(self) -> None:
        self.failures += 1
        self._told.set()


class Task:
    """Work that lasts until it is cancelled."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.undone = False

    async def __call__(self) -> Result:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.undone = True
        return NEVER


async def quick() -> Result:
    return DONE


async def test_every_request_is_answered_with_what_its_work_forms() -> None:
    client = Client()
    for number in range(5):
        client.ask(number, quick)
    await client.until_told(5)
    assert client.heard == [(number, DONE) for number in range(5)]
    await client.tasks.end()
    assert client.failures == 0


async def test_what_the_client_cancels_ends_unanswered_and_never_begins_if_it_has_not() -> None:
    client, begun, unbegun = Client(), Task(), Task()
    client.ask(1, begun)
    await begun.begun.wait()
    client.ask(2, unbegun)
    assert client.tasks.cancel(2)
    assert client.tasks.cancel(1)
    assert client.tasks.cancel(1), "twice is no harm"
    await client.until_told(2)
    assert sorted(client.heard) == [(1, None), (2, None)]
    assert begun.undone
    assert not unbegun.begun.is_set()
    assert not client.tasks.cancel(1)


async def test_the_end_of_the_session_answers_what_is_at_work_and_not_what_the_client_has_cancelled() -> None:
    client, begun, unbegun, cancelled = Client(), Task(), Task(), Task()
    client.ask(1, begun)
    client.ask(2, cancelled)
    await begun.begun.wait()
    client.ask(3, unbegun)
    client.tasks.cancel(2)
    await client.tasks.end()
    assert sorted(client.heard, key=lambda told: told[0]) == [(1, CLOSED), (2, None), (3, CLOSED)]
    assert begun.undone
    assert cancelled.undone
    assert not unbegun.begun.is_set()


async def test_an_answer_on_its_way_is_disturbed_by_nothing() -> None:
    client = Client()
    client.turn_deaf()
    client.ask(1, quick)
    await anyio.wait_all_tasks_blocked()
    assert not client.tasks.cancel(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.tasks.end)
        await anyio.wait_all_tasks_blocked()
        client.listen()
    assert client.heard == [(1, DONE)]


async def test_of_two_requests_with_one_id_the_later_one_is_cancelled() -> None:
    client, first, second = Client(), Task(), Task()
    client.ask(7, first)
    client.ask(7, second)
    await second.begun.wait()
    assert client.tasks.cancel(7)
    await client.until_told(1)
    assert second.undone
    assert not first.undone
    await client.tasks.end()


async def test_work_that_cleans_up_while_the_session_ends_is_waited_for() -> None:
    client = Client()
    cleaned = anyio.Event()

    async def untidy() -> Result:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            cleaned.set()
        return NEVER

    client.ask(1, untidy)
    await anyio.wait_all_tasks_blocked()
    await client.tasks.end()
    assert cleaned.is_set()
    assert client.heard == [(1, CLOSED)]


async def test_work_that_fails_is_answered_and_ends_the_session() -> None:
    client = Client()

    async def broken() -> Result:
        raise ZeroDivisionError

    client.ask(1, broken)
    while not client.failures:
        await anyio.lowlevel.checkpoint()
    assert client.heard == [(1, CLOSED)]
    with pytest.raises(ZeroDivisionError):
        await client.tasks.end()


LARGE = b"x" * (ROOM_BYTES // 2)


class SlowReader:
    """Reads when it is told to."""

    def __init__(self) -> None:
        self.reads = anyio.Event()
        self.taken: list[bytes] = []

    async def take(self, message: bytes) -> None:
        await self.reads.wait()
        self.taken.append(message)


async def send(outbox: Outbox, tasks: TaskGroup, *messages: bytes) -> None:
    """Begin to send them, in order."""
    for message in messages:
        tasks.start_soon(outbox.send, message)
    await anyio.wait_all_tasks_blocked()


async def test_there_is_room_as_long_as_little_is_unread() -> None:
    client = SlowReader()
    outbox, found = Outbox(client.take), anyio.Event()

    async def look() -> None:
        await outbox.wait_for_room()
        found.set()

    async with anyio.create_task_group() as tasks:
        await send(outbox, tasks, LARGE, LARGE)
        await outbox.wait_for_room()
        await send(outbox, tasks, b"more")
        tasks.start_soon(look)
        await anyio.wait_all_tasks_blocked()
        assert not found.is_set()
        client.reads.set()
        await found.wait()
    assert client.taken == [LARGE, LARGE, b"more"]
    assert not outbox.broken.is_set()


async def test_a_client_that_leaves_too_much_unread_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    outbox = Outbox(SlowReader().take)
    async with anyio.create_task_group() as tasks:
        await send(outbox, tasks, *[LARGE] * (LOST_BYTES // len(LARGE)))
        assert not outbox.broken.is_set()
        with pytest.raises(anyio.BrokenResourceError):
            await outbox.send(b"one more")
        assert outbox.broken.is_set()
        assert "unread: its session is closed" in caplog.text
        outbox.abort()
        await outbox.wait_for_room()
    with pytest.raises(anyio.ClosedResourceError):
        await outbox.send(b"after the end")


async def test_no_half_message_stays_behind_when_its_sender_is_cancelled() -> None:
    client = SlowReader()
    outbox = Outbox(client.take)
    async with anyio.create_task_group() as tasks:
        await send(outbox, tasks, b"first", b"second")
        tasks.cancel_scope.cancel()
        client.reads.set()
    assert client.taken == [b"first", b"second"]
