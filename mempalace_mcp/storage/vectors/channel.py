"""Messages between a process and its child over a socket: whole numbers, vectors and a text in one frame."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mempalace_mcp.storage.vectors.truth import Integers, Vectors

_HEADER = struct.Struct("=4s5I")  # a multiple of 8 bytes, so that the numbers behind it are aligned
_MAGIC = b"pala"
_LARGEST = 512 * 1024 * 1024
_PIECE = 1 << 20
_MOMENT = 0.001


class Kind(IntEnum):
    """What a frame asks for, or that it answers."""

    ANSWER = 0
    FAILURE = 1
    QUERY = 2
    UPSERT = 3
    DELETE = 4
    CHUNKS = 5
    VECTORS = 6
    CLOSE = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. What each part means depends on the kind."""

    kind: Kind
    integers: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    text: str = ""

    def encode(self) -> bytes:
        """The frame as it is sent: magic, kind, four lengths, then the parts as they lie in memory."""
        text = self.text.encode("utf-8", "replace")
        header = _HEADER.pack(_MAGIC, self.kind, len(self.integers), *self.vectors.shape, len(text))
        integers, vectors = np.asarray(self.integers, np.int64), np.asarray(self.vectors, np.float32)
        return b"".join((header, integers.tobytes(), vectors.tobytes(), text))


class Channel:
    """One end of a connection. What has arrived in part is kept until the rest comes. Not thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._arrived = bytearray()

    def send(self, frame: Frame, seconds: float | None = None) -> None:
        """Send a frame whole.

        Raises:
            OSError: the other end is gone, or (`TimeoutError`) did not take it in time; nothing more can be sent.
        """
        self._socket.settimeout(None if seconds is None else max(seconds, _MOMENT))
        self._socket.sendall(frame.encode())

    def receive(self, seconds: float | None = None) -> Frame:
        """The next frame. What is there already is found even when no time is left.

        Raises:
            TimeoutError: it did not come in time; it may be waited for again.
            EOFError: the other end is closed.
            ValueError: what came is no frame.
            OSError: the connection failed.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        self._await(_HEADER.size, limit)
        magic, kind, count, rows, columns, length = _HEADER.unpack_from(self._arrived)
        size = _HEADER.size + 8 * count + 4 * rows * columns + length
        if magic != _MAGIC or size > _LARGEST:
            raise ValueError("what came is no frame")
        self._await(size, limit)
        content = bytes(self._arrived[:size])
        del self._arrived[:size]
        return Frame(
            Kind(kind),
            np.frombuffer(content, np.int64, count, _HEADER.size),
            np.frombuffer(content, np.float32, rows * columns, _HEADER.size + 8 * count).reshape(rows, columns),
            content[size - length :].decode("utf-8"),
        )

    def close(self) -> None:
        """Close this end; the other one sees it. Idempotent."""
        self._socket.close()

    def _await(self, size: int, limit: float | None) -> None:
        """Read until so many bytes have arrived."""
        while len(self._arrived) < size:
            self._socket.settimeout(None if limit is None else max(limit - time.monotonic(), _MOMENT))
            piece = self._socket.recv(min(size - len(self._arrived), _PIECE))
            if not piece:
                raise EOFError("the other end is closed")
            self._arrived += piece
