"""Writing to a reader that may be slow, without waiting for it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable

import pytest

from mempalace_mcp.daemon.write_buffer import WriteBuffer
from tests.server.clients import PATIENCE


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there do not tell")
def test_bytes_reach_a_slow_reader_in_their_order_and_nobody_waits_for_it() -> None:
    source, sink = os.pipe()
    room = threading.Event()
    out = WriteBuffer(sink, lambda data: os.write(sink, data), 100_000, room.set)
    parts = [bytes([number]) * 50_000 for number in range(10)]
    for part in parts:
        out.put(part)
    assert not out.has_room
    assert not out.drain(0)
    got = b""
    while len(got) < 500_000:
        got += os.read(source, 65_536)
    assert got == b"".join(parts)
    assert out.drain(PATIENCE)
    assert room.wait(PATIENCE)
    assert (out.has_room, out.pending) == (True, 0)
    out.put(b"again")
    assert os.read(source, 100) == b"again"
    os.close(source)
    with pytest.raises(BrokenPipeError):
        out.put(b"to nobody")
    os.close(sink)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there do not tell")
def test_a_reader_that_goes_while_much_waits_for_it_is_told_of() -> None:
    source, sink = os.pipe()
    lost = threading.Event()
    out = WriteBuffer(sink, lambda data: os.write(sink, data), 1000, on_lost=lost.set)
    out.put(b"x" * 1_000_000)
    waiting = threading.Thread(target=out.wait_below, args=(1000,))
    waiting.start()
    os.close(source)
    assert lost.wait(PATIENCE)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    with pytest.raises(BrokenPipeError):
        out.put(b"more")
    os.close(sink)


def pipe(size: int) -> tuple[int, int]:
    """A pipe of so many bytes."""
    import fcntl

    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, size)
    return source, sink


def socket_pair(size: int) -> tuple[int, int]:
    """Two ends of a local socket with so large a buffer for what is sent."""
    receiver, sender = socket.socketpair()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    return receiver.detach(), sender.detach()


def tcp_pair(size: int) -> tuple[int, int]:
    """Two ends of a connection on loopback, of which the receiving one takes little."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    return receiver.detach(), sender.detach()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every piece is small")
@pytest.mark.parametrize("kind", [pipe, socket_pair, tcp_pair])
@pytest.mark.parametrize("size", [4096, 65_536, 1 << 20])
@pytest.mark.parametrize("piece", [700, 4097, 30_000, 300_000])
def test_nobody_waits_for_a_reader_that_never_reads_whatever_the_descriptor_takes(
    kind: Callable[[int], tuple[int, int]], size: int, piece: int
) -> None:
    source, sink = kind(size)
    written: list[int] = []

    def write(data: memoryview) -> int:
        written.append(threading.get_ident())
        return os.write(sink, data)

    out = WriteBuffer(sink, write, 1)
    while not out.pending:
        out.put(b"x" * piece)  # a write that waits here would wait for ever
    assert threading.get_ident() in written
    os.close(source)
    assert out.drain(PATIENCE)
    os.close(sink)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every piece is small")
@pytest.mark.parametrize("kind", [pipe, socket_pair])
def test_an_answer_of_usual_length_is_written_in_one_piece(kind: Callable[[int], tuple[int, int]]) -> None:
    source, sink = kind(1 << 16)
    pieces: list[int] = []

    def write(data: memoryview) -> int:
        pieces.append(len(data))
        return os.write(sink, data)

    out = WriteBuffer(sink, write, 1 << 20)
    for length in (1, 5000, 20_000):
        out.put(b"x" * length)
        assert len(os.read(source, 1 << 16)) == length
    assert pieces == [1, 5000, 20_000]
    os.close(source)
    os.close(sink)
