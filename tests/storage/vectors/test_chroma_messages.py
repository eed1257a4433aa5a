"""Messages between two processes arrive as they were sent, in whatever pieces."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.storage.vectors.chroma_process import Channel, ChromaMessage, Kind
from tests.storage.vectors.support import unit_vectors

MESSAGE = ChromaMessage(Kind.UPSERT, np.arange(5), unit_vectors(5, 1), "text")


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the bare socket at its other end."""
    near, far = socket.socketpair()
    channel = Channel(near)
    yield channel, far
    channel.close()
    far.close()


def same(one: ChromaMessage, other: ChromaMessage) -> bool:
    return (
        (one.kind, one.text) == (other.kind, other.text)
        and np.array_equal(one.integers, other.integers)
        and one.vectors.shape == other.vectors.shape
        and one.vectors.tobytes() == other.vectors.tobytes()
    )


@given(
    kind=st.sampled_from(Kind),
    integers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9),
    shape=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    text=st.text(),
)
def test_messages_arrive_as_they_were_sent(kind: Kind, integers: list[int], shape: tuple[int, int], text: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        message = ChromaMessage(kind, np.array(integers, np.int64), np.full(shape, np.nan, np.float32), text)
        for _ in range(2):
            Channel(near).send(message, 5)
        receiving = Channel(far)
        assert same(receiving.receive(5), message)
        assert same(receiving.receive(5), message)


def test_part_of_a_message_waits_for_the_rest(ends: tuple[Channel, socket.socket]) -> None:
    channel, far = ends
    content = MESSAGE.encode()
    for start in range(0, len(content), 7):
        with pytest.raises(TimeoutError):
            channel.receive(0)
        far.sendall(content[start : start + 7])
    assert same(channel.receive(0), MESSAGE)


@pytest.mark.parametrize(
    "content",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"pala" + b"\xff" * 20, b"pala" + b"\x63" + bytes(19)],
    ids=["another protocol", "too long", "no such kind"],
)
def test_bytes_that_are_no_message_are_refused(ends: tuple[Channel, socket.socket], content: bytes) -> None:
    channel, far = ends
    far.sendall(content)
    with pytest.raises(ValueError, match=r"no message|Kind"):
        channel.receive(5)


def test_a_closed_end_is_an_error(ends: tuple[Channel, socket.socket]) -> None:
    channel, far = ends
    far.sendall(MESSAGE.encode()[:-1])
    far.close()
    with pytest.raises(EOFError):
        channel.receive(5)
    with pytest.raises(OSError, match="pipe"):
        channel.send(MESSAGE, 5)
