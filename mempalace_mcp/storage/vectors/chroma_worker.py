"""The process that runs Chroma: `python -m mempalace_mcp.storage.vectors.chroma_worker DIRECTORY DESCRIPTOR`.

It replies to the requests that arrive at the socket at standard input, one after the other. It ends when its parent
closes the socket, and after the first failure, which it reports. DESCRIPTOR is the reading end of the parent-death
pipe; only the parent has the writing end. When that closes, however the parent died, the kernel kills this process,
even if it is stopped or executes Chroma's native code. (`PR_SET_PDEATHSIG` would end it with the *thread* of the parent
that started it.)
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.core.loading import loading
from mempalace_mcp.storage.vectors.lean_import import leave_out

with loading():
    leave_out()
    import chromadb
    import numpy as np
    from chromadb.config import Settings
    from numpy.typing import NDArray

    from mempalace_mcp.storage.vectors.chroma_process import Channel, ChromaMessage, Kind
    from mempalace_mcp.storage.vectors.log import Integers, Vectors

NICENESS = 5
_UMASK = 0o077
_LONGEST_TEXT = 1000

_COLLECTION = "chunks"
_PAGE = 10_000


class ChromaSession:
    """A `PersistentClient` with its collection. Holds ids and vectors, never a text. Not thread-safe.

    Every method raises what Chroma raises, which includes panics that are no `Exception`.
    """

    def __init__(self, directory: Path) -> None:
        settings = Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(path=str(directory), settings=settings)
        self._collection: Any = self._client.get_or_create_collection(
            _COLLECTION, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def query(self, vector: Vectors, count: int) -> tuple[Integers, NDArray[np.float32]]:
        """The `count` nearest rows and their cosines."""
        result = self._collection.query(query_embeddings=vector[np.newaxis], n_results=count, include=["distances"])
        return np.array(result["ids"][0], np.int64), 1 - np.array(result["distances"][0], np.float32)

    def upsert(self, chunks: Integers, vectors: Vectors) -> None:
        """Add rows, or replace their vectors."""
        self._collection.upsert(ids=_names(chunks), embeddings=vectors)

    def delete(self, chunks: Integers) -> None:
        """Mark rows as deleted; Chroma keeps their vectors on disk."""
        self._collection.delete(ids=_names(chunks))

    def chunks(self) -> Integers:
        """The chunks of all rows, ascending."""
        pages: list[Integers] = []
        while not pages or len(pages[-1]) == _PAGE:
            result = self._collection.get(include=[], limit=_PAGE, offset=_PAGE * len(pages))
            pages.append(np.array(result["ids"], np.int64))
        return np.sort(np.concatenate(pages))

    def vectors(self, chunks: Integers) -> tuple[Integers, Vectors]:
        """Those of the chunks that it holds, and their vectors."""
        if len(chunks) == 0:
            return chunks, np.empty((0, 0), np.float32)
        result = self._collection.get(ids=_names(chunks), include=["embeddings"])
        found = np.array(result["ids"], np.int64)
        return found, np.asarray(result["embeddings"], np.float32).reshape(len(found), -1)

    def close(self) -> None:
        """Close the client, exactly once, and drop the collection, which would keep the rest alive."""
        client, self._client, self._collection = self._client, None, None
        client.close()


def _names(chunks: Integers) -> list[str]:
    return [str(chunk) for chunk in chunks.tolist()]


def main(directory: Path, parent_death_pipe: int) -> None:
    """Serve until the parent closes the connection or something fails; does not return."""
    os.umask(_UMASK)
    _leave_signals_to_parent()
    platform.end_when_closed(parent_death_pipe)
    _lower_priority()
    channel = Channel(socket.socket(fileno=sys.stdin.fileno()))
    try:
        _serve(channel, directory)
    except EOFError:
        pass
    except BaseException as error:  # noqa: BLE001 - a panic in Chroma's native code is no Exception
        with suppress(OSError):
            channel.send(ChromaMessage(Kind.FAILURE, text=f"{type(error).__name__}: {error}"[:_LONGEST_TEXT]))
    os._exit(0)  # so that Chroma's destructors do not write


def _serve(channel: Channel, directory: Path) -> None:
    session = ChromaSession(directory)
    channel.send(ChromaMessage(Kind.REPLY))
    while True:
        channel.send(_reply(session, channel.receive()))


def _reply(session: ChromaSession, request: ChromaMessage) -> ChromaMessage:
    match request.kind:
        case Kind.QUERY:
            chunks, cosines = session.query(request.vectors[0], int(request.integers[0]))
            return ChromaMessage(Kind.REPLY, chunks, cosines[np.newaxis])
        case Kind.UPSERT:
            session.upsert(request.integers, request.vectors)
        case Kind.DELETE:
            session.delete(request.integers)
        case Kind.CHUNKS:
            return ChromaMessage(Kind.REPLY, session.chunks())
        case Kind.VECTORS:
            return ChromaMessage(Kind.REPLY, *session.vectors(request.integers))
        case Kind.CLOSE:
            session.close()
        case _:
            raise ValueError(f"{request.kind.name} is not a request")
    return ChromaMessage(Kind.REPLY)


def _leave_signals_to_parent() -> None:
    """Ignore signals that a service manager sends to all processes: the parent still has to close Chroma's files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _lower_priority() -> None:
    """Let processes go first that a client waits for."""
    with suppress(OSError):
        os.nice(NICENESS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
