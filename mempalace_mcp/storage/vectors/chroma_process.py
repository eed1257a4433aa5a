"""Chroma in a child process, so that its pauses and crashes do not affect this one: the parent's side, and messages.

Messages have framing of their own. `multiprocessing.connection` has no timeout for sending, nor for the rest of a
message that has begun: a child that stops in the middle of one would stop this process too.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.storage.vectors.exact import Candidates
from mempalace_mcp.storage.vectors.log import Integers, Vectors

CALL_SECONDS = 60.0
"""How long the child may take for anything but a query."""
HANG_SECONDS = 5.0
"""How long a query may be without a reply before the child counts as hung."""
_REAP_SECONDS = 5.0
_TOLERANCE = 1e-4
_PROGRAM = "mempalace_mcp.storage.vectors.chroma_worker"
_HEADER = struct.Struct("=4s5I")  # a multiple of 8 bytes, so that the numbers behind it are aligned
_MAGIC = b"pala"
_LARGEST = 512 * 1024 * 1024
_PIECE = 1 << 20
_SHORTEST_TIMEOUT = 0.001  # 0 would make the socket non-blocking


class Kind(IntEnum):
    """The kind of a message: two of replies, the others of requests."""

    REPLY = 0
    FAILURE = 1
    QUERY = 2
    UPSERT = 3
    DELETE = 4
    CHUNKS = 5
    VECTORS = 6
    CLOSE = 7


@dataclass(frozen=True, slots=True)
class ChromaMessage:
    """A request or reply. The meaning of its parts depends on the kind."""

    kind: Kind
    integers: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    text: str = ""

    def encode(self) -> bytes:
        """The message in bytes: magic, kind, four lengths, then the parts as they are in memory."""
        text = self.text.encode("utf-8", "replace")
        header = _HEADER.pack(_MAGIC, self.kind, len(self.integers), *self.vectors.shape, len(text))
        integers, vectors = np.asarray(self.integers, np.int64), np.asarray(self.vectors, np.float32)
        return b"".join((header, integers.tobytes(), vectors.tobytes(), text))


class Channel:
    """One end of a connection. Part of a message is kept until the rest arrives. Not thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._arrived = bytearray()

    def send(self, message: ChromaMessage, seconds: float | None = None) -> None:
        """Send a whole message.

        Raises:
            OSError: the other end is closed, or (`TimeoutError`) did not read it in time; nothing more can be sent.
        """
        self._socket.settimeout(None if seconds is None else max(seconds, _SHORTEST_TIMEOUT))
        self._socket.sendall(message.encode())

    def receive(self, seconds: float | None = None) -> ChromaMessage:
        """The next message. One that has arrived is returned even if `seconds` is 0.

        Raises:
            TimeoutError: it did not arrive in time; `receive` may be called again.
            EOFError: the other end is closed.
            ValueError: the bytes that arrived are no message.
            OSError: the connection failed.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        self._await(_HEADER.size, limit)
        magic, kind, count, rows, columns, length = _HEADER.unpack_from(self._arrived)
        size = _HEADER.size + 8 * count + 4 * rows * columns + length
        if magic != _MAGIC or size > _LARGEST:
            raise ValueError("the bytes that arrived are no message")
        self._await(size, limit)
        content = bytes(self._arrived[:size])
        del self._arrived[:size]
        return ChromaMessage(
            Kind(kind),
            np.frombuffer(content, np.int64, count, _HEADER.size),
            np.frombuffer(content, np.float32, rows * columns, _HEADER.size + 8 * count).reshape(rows, columns),
            content[size - length :].decode("utf-8"),
        )

    def close(self) -> None:
        """Close this end; the other one gets an `EOFError`. Idempotent."""
        self._socket.close()

    def _await(self, size: int, limit: float | None) -> None:
        """Read until `size` bytes have arrived."""
        while len(self._arrived) < size:
            self._socket.settimeout(None if limit is None else max(limit - time.monotonic(), _SHORTEST_TIMEOUT))
            piece = self._socket.recv(min(size - len(self._arrived), _PIECE))
            if not piece:
                raise EOFError("the other end is closed")
            self._arrived += piece


class ChromaProcess:
    """The parent's side of one child and its one `ChromaSession`. Not thread-safe.

    Any failure ends the session: the child is killed and reaped before the error is raised. A slow query is no failure:
    it returns None, and its reply is dropped when it arrives.
    """

    def __init__(self, directory: Path) -> None:
        """Start the child and open the directory there.

        Raises:
            StorageError: Chroma cannot open it.
            OSError: the child cannot be started.
        """
        self._process, self._channel, self._parent_death_pipe = _start(directory)
        self._requested_at: float | None = time.monotonic()
        with self._ending_on_failure():
            self._receive(CALL_SECONDS)

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._process.pid

    def query(self, vector: Vectors, count: int, position: int, seconds: float) -> Candidates | None:
        """The `count` nearest rows, or None if the reply takes longer than `seconds`.

        `position` is how far the collection follows the log.

        Raises:
            StorageError: the session failed and is over.
        """
        with self._ending_on_failure():
            if self._requested_at is not None and self._receive_unless_slow(0.0) is None:
                return None
            self._send(ChromaMessage(Kind.QUERY, np.array([count], np.int64), vector[np.newaxis]), seconds)
            reply = self._receive_unless_slow(seconds)
            if reply is None:
                return None
            chunks, cosines = reply.integers, reply.vectors.ravel()
            if len(chunks) != len(cosines):
                raise ValueError("the reply has not as many cosines as chunks")
        floor = float(cosines.min()) if len(chunks) >= count else -np.inf
        return Candidates(chunks, cosines, np.zeros_like(chunks), np.full_like(chunks, position), floor)

    def upsert(self, chunks: Integers, vectors: Vectors, seconds: float = CALL_SECONDS) -> None:
        """Add rows, or replace their vectors.

        Raises:
            StorageError: the session failed, or took longer than `seconds`, and is over.
        """
        self._call(ChromaMessage(Kind.UPSERT, chunks, vectors), seconds)

    def delete(self, chunks: Integers) -> None:
        """Mark rows as deleted; Chroma keeps their vectors on disk.

        Raises:
            StorageError: the session failed and is over.
        """
        self._call(ChromaMessage(Kind.DELETE, chunks))

    def chunks(self) -> Integers:
        """The chunks of all rows, ascending.

        Raises:
            StorageError: the session failed and is over.
        """
        return self._call(ChromaMessage(Kind.CHUNKS)).integers

    def vectors(self, chunks: Sequence[int]) -> dict[int, Vectors]:
        """The vectors of those of the chunks that it holds.

        Raises:
            StorageError: the session failed and is over.
        """
        reply = self._call(ChromaMessage(Kind.VECTORS, np.array(chunks, np.int64)))
        return dict(zip(reply.integers.tolist(), reply.vectors, strict=False))

    def close(self) -> None:
        """Close Chroma, then the child.

        Raises:
            StorageError: Chroma could not be closed; the child is gone all the same.
        """
        self._call(ChromaMessage(Kind.CLOSE))
        self.kill()

    def kill(self) -> None:
        """End the child at once and reap it. Idempotent."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: reaped when the next child is started
            self._process.wait(_REAP_SECONDS)
        self._channel.close()
        pipe, self._parent_death_pipe = self._parent_death_pipe, None
        if pipe is not None:
            os.close(pipe)

    def _call(self, request: ChromaMessage, seconds: float = CALL_SECONDS) -> ChromaMessage:
        with self._ending_on_failure():
            if self._requested_at is not None:
                self._receive(seconds)
            self._send(request, seconds)
            return self._receive(seconds)

    def _send(self, request: ChromaMessage, seconds: float) -> None:
        self._requested_at = time.monotonic()
        self._channel.send(request, seconds)

    def _receive_unless_slow(self, seconds: float) -> ChromaMessage | None:
        """The reply to the last request, or None while the child does not count as hung."""
        assert self._requested_at is not None
        try:
            return self._receive(seconds)
        except TimeoutError:
            if time.monotonic() - self._requested_at > HANG_SECONDS:
                raise
            return None

    def _receive(self, seconds: float) -> ChromaMessage:
        reply = self._channel.receive(seconds)
        if reply.kind is not Kind.REPLY:
            raise StorageError(f"Chroma failed: {reply.text}")
        self._requested_at = None
        return reply

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            status = self._process.returncode
            raise StorageError(f"Chroma's process failed: {error} (exit status {status})") from error
        except BaseException:  # also an interrupt between request and reply
            self.kill()
            raise


def agrees(held: Vectors | None, vector: Vectors) -> bool:
    """Is the vector that Chroma holds, if any, that of SQLite, but for rounding?"""
    return held is not None and held.shape == vector.shape and bool(np.allclose(held, vector, atol=_TOLERANCE))


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], Channel, int | None]:
    """Start the child; returns its process, the channel, and the writing end of its parent-death pipe."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM, str(directory.absolute()), str(reading)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reading,),
            process_group=0,  # no signals of the terminal; no session of its own, for which Linux ignores niceness
            cwd="/",
            env=_environment(),
        )
    except BaseException:  # the caller gets nothing to close
        ours.close()
        os.close(writing)
        raise
    finally:
        theirs.close()
        os.close(reading)
    return process, Channel(ours), writing


def _environment() -> dict[str, str]:
    """The environment of this process, with its path of packages, and one thread for each computation."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
