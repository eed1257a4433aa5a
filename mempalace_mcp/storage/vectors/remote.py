"""A Chroma session in a child process, which neither stalls nor kills this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.storage.vectors.candidates import Candidates
from mempalace_mcp.storage.vectors.channel import Channel, Frame, Kind
from mempalace_mcp.storage.vectors.truth import Integers, Vectors

CALL_SECONDS = 60.0
"""How long the child may take for anything but a query."""
HANG_SECONDS = 5.0
"""How long a query may stay unanswered before the child counts as hung."""
_REAP_SECONDS = 5.0
_TOLERANCE = 1e-4
_PROGRAM = "mempalace_mcp.storage.vectors.child"


class RemoteSession:
    """The parent's side of one child and its one `ChromaSession`. Not thread-safe.

    Any failure ends the session: the child is killed and reaped before the error is raised. A query that is merely
    slow is none: it gives None, and its answer is dropped when it comes.
    """

    def __init__(self, directory: Path) -> None:
        """Start the child and open the directory there.

        Raises:
            StorageError: Chroma cannot open it.
            OSError: the child cannot be started.
        """
        self._process, self._channel, self._lifeline = _start(directory)
        self._asked_at: float | None = time.monotonic()
        with self._ending_on_failure():
            self._receive(CALL_SECONDS)

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._process.pid

    def query(self, vector: Vectors, count: int, position: int, seconds: float) -> Candidates | None:
        """The `count` nearest rows, None if the answer takes longer than `seconds`; `position` is how far the
        collection follows the log.

        Raises:
            StorageError: the session failed and is over.
        """
        with self._ending_on_failure():
            if self._asked_at is not None and self._receive_or_hang(0.0) is None:
                return None
            self._send(Frame(Kind.QUERY, np.array([count], np.int64), vector[np.newaxis]), seconds)
            answer = self._receive_or_hang(seconds)
            if answer is None:
                return None
            chunks, cosines = answer.integers, answer.vectors.ravel()
            if len(chunks) != len(cosines):
                raise ValueError("the answer does not fit the question")
        floor = float(cosines.min()) if len(chunks) >= count else -np.inf
        return Candidates(chunks, cosines, np.zeros_like(chunks), np.full_like(chunks, position), floor)

    def upsert(self, chunks: Integers, vectors: Vectors, seconds: float = CALL_SECONDS) -> None:
        """Add rows, or replace their vectors.

        Raises:
            StorageError: the session failed, or took longer than `seconds`, and is over.
        """
        self._call(Frame(Kind.UPSERT, chunks, vectors), seconds)

    def delete(self, chunks: Integers) -> None:
        """Mark rows as deleted; Chroma keeps their vectors on disk.

        Raises:
            StorageError: the session failed and is over.
        """
        self._call(Frame(Kind.DELETE, chunks))

    def chunks(self) -> Integers:
        """The chunks of all rows, ascending.

        Raises:
            StorageError: the session failed and is over.
        """
        return self._call(Frame(Kind.CHUNKS)).integers

    def vectors(self, chunks: Sequence[int]) -> dict[int, Vectors]:
        """The vectors of those of the chunks that there are.

        Raises:
            StorageError: the session failed and is over.
        """
        answer = self._call(Frame(Kind.VECTORS, np.array(chunks, np.int64)))
        return dict(zip(answer.integers.tolist(), answer.vectors, strict=False))

    def close(self) -> None:
        """Close Chroma, then the child.

        Raises:
            StorageError: Chroma could not be closed; the child is gone all the same.
        """
        self._call(Frame(Kind.CLOSE))
        self.kill()

    def kill(self) -> None:
        """End the child at once and reap it. Idempotent."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: reaped when the next child is started
            self._process.wait(_REAP_SECONDS)
        self._channel.close()
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)

    def _call(self, request: Frame, seconds: float = CALL_SECONDS) -> Frame:
        with self._ending_on_failure():
            if self._asked_at is not None:
                self._receive(seconds)
            self._send(request, seconds)
            return self._receive(seconds)

    def _send(self, request: Frame, seconds: float) -> None:
        self._asked_at = time.monotonic()
        self._channel.send(request, seconds)

    def _receive_or_hang(self, seconds: float) -> Frame | None:
        """The answer to the last request, None as long as there is hope for it."""
        assert self._asked_at is not None
        try:
            return self._receive(seconds)
        except TimeoutError:
            if time.monotonic() - self._asked_at > HANG_SECONDS:
                raise
            return None

    def _receive(self, seconds: float) -> Frame:
        answer = self._channel.receive(seconds)
        if answer.kind is not Kind.ANSWER:
            raise StorageError(f"Chroma failed: {answer.text}")
        self._asked_at = None
        return answer

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            status = self._process.returncode
            raise StorageError(f"Chroma's process failed: {error} (exit status {status})") from error
        except BaseException:  # an interrupt between question and answer too
            self.kill()
            raise


def agrees(held: Vectors | None, vector: Vectors) -> bool:
    """Is the vector that Chroma holds the one of SQLite, but for rounding?"""
    return held is not None and held.shape == vector.shape and bool(np.allclose(held, vector, atol=_TOLERANCE))


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], Channel, int | None]:
    """Start the child: its process, the connection, and the writing end of its lifeline.

    It gets a process group of its own, so that what is typed at a terminal does not reach it, but no session of its
    own: Linux balances sessions against each other and would disregard its niceness.
    """
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM, str(directory.absolute()), str(reading)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reading,),
            process_group=0,
            cwd="/",
            env=_environment(),
        )
    except BaseException:  # nobody would close them
        ours.close()
        os.close(writing)
        raise
    finally:
        theirs.close()
        os.close(reading)
    return process, Channel(ours), writing


def _environment() -> dict[str, str]:
    """This process's, so that the same packages are found, with one thread for each computation."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
