"""The way out of a session whose client does not read."""

from __future__ import annotations

import logging

import anyio
import pytest
from anyio.abc import TaskGroup

from mempalace_mcp.server.flow import LOST_BYTES, ROOM_BYTES, Outbox

LARGE = b"x" * (ROOM_BYTES // 2)


class Client:
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
    client = Client()
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
    outbox = Outbox(Client().take)
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
    client = Client()
    outbox = Outbox(client.take)
    async with anyio.create_task_group() as tasks:
        await send(outbox, tasks, b"first", b"second")
        tasks.cancel_scope.cancel()
        client.reads.set()
    assert client.taken == [b"first", b"second"]
