"""Connections as the daemon's transport reads and writes them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from mempalace_mcp.daemon.daemon_session import SocketStream
from mempalace_mcp.runtime.event_loop import run_loop

LARGE = b"x" * (8 * 1024 * 1024)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[SocketStream, socket.socket]]:
    """A wire, and what is at its other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with far:
        async with await SocketStream.on(near) as wire:
            yield wire, far


async def test_what_arrives_is_received_to_its_end(ends: tuple[SocketStream, socket.socket]) -> None:
    wire, far = ends
    far.send(b"one")
    assert await wire.receive() == b"one"
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(far, LARGE))
    received = 0
    while received < len(LARGE):
        received += len(await wire.receive())
    await sending
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(anyio.EndOfStream):
        await wire.receive()
    await wire.send(b"answered all the same")
    assert far.recv(100) == b"answered all the same"


async def test_sending_waits_until_the_other_side_has_room(ends: tuple[SocketStream, socket.socket]) -> None:
    wire, far = ends
    sending = asyncio.create_task(wire.send(LARGE))
    received, loop = 0, asyncio.get_running_loop()
    while received < len(LARGE):
        assert not sending.done() or received > len(LARGE) // 2
        received += len(await loop.sock_recv(far, 65536))
    await sending


async def test_what_is_sent_has_left_this_process() -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with far:
        async with await SocketStream.on(near) as wire:
            with anyio.move_on_after(0.05) as waiting:
                await wire.send(LARGE[:32768])
            assert waiting.cancelled_caught


async def test_one_that_is_gone_is_told_of_by_sending(ends: tuple[SocketStream, socket.socket]) -> None:
    wire, far = ends
    far.close()
    with pytest.raises(anyio.BrokenResourceError):
        await _send_for_ever(wire)


async def test_one_that_goes_in_the_middle_of_a_message(ends: tuple[SocketStream, socket.socket]) -> None:
    wire, far = ends
    sending = asyncio.create_task(wire.send(LARGE))
    await asyncio.get_running_loop().sock_recv(far, 10)
    far.close()
    with pytest.raises(anyio.BrokenResourceError):
        await sending


@pytest.mark.parametrize("run", [run_loop, lambda serve: asyncio.run(serve())], ids=["uvloop", "asyncio"])
def test_what_was_sent_is_there_after_closing(run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    near, far = socket.socketpair()

    async def say_farewell() -> None:
        async with await SocketStream.on(near) as wire:
            await wire.send(b"farewell")
        for _ in range(3):  # while it closes, and when it is closed
            with pytest.raises(anyio.BrokenResourceError):
                await wire.send(b"too late")
            await asyncio.sleep(0)

    with far:
        run(say_farewell)
        assert (far.recv(100), far.recv(100)) == (b"farewell", b"")


async def test_closing_does_not_wait_for_one_who_reads_nothing() -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    with far:
        with anyio.move_on_after(0.05):
            async with await SocketStream.on(near) as wire:
                await wire.send(LARGE)
        loop, received = asyncio.get_running_loop(), 0
        while data := await loop.sock_recv(far, 65536):
            received += len(data)
        assert received < len(LARGE)


async def test_a_connection_that_is_none_is_an_error_and_closed() -> None:
    datagrams, other = socket.socketpair(type=socket.SOCK_DGRAM)
    with other:
        with pytest.raises(ValueError, match="Stream"):
            await SocketStream.on(datagrams)
        assert datagrams.fileno() == -1


async def _send_for_ever(wire: SocketStream) -> None:
    while True:
        await wire.send(b"to nobody")
