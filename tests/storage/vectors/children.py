"""What other processes do to a palace: `python children.py ROLE DIRECTORY`. Each says a line when it is ready."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.vectors.chroma_process import ChromaProcess
from mempalace_mcp.storage.vectors.exact import BLOCK_ROWS, MappedMatrix
from tests.storage.vectors.support import (
    advance_all,
    chroma_directory,
    differences,
    index_of,
    unit_vectors,
    verify_answers,
)


def say(text: object) -> None:
    print(text, flush=True)


def fill(directory: Path) -> None:
    """Move rows into Chroma, one batch at a time, then wait."""
    database, index = Database(directory), index_of(directory)
    say("ready")
    while index.advance(database.read, 20):
        pass
    say("done")
    sys.stdin.read()


def hold(directory: Path) -> None:
    """Fill Chroma and keep it until stdin is closed."""
    database, index = Database(directory), index_of(directory)
    advance_all(index, database)
    say(index.statistics().chroma_state)
    sys.stdin.read()
    index.close()
    database.close()


def read_chroma(directory: Path) -> None:
    """Open the palace's Chroma directory behind its back, and only look."""
    import chromadb

    client = chromadb.PersistentClient(path=str(chroma_directory(directory)))
    (vector,) = unit_vectors(1, 5)
    client.get_collection("chunks", embedding_function=None).query(query_embeddings=[vector.tolist()], n_results=3)
    say("read")


def write_chroma(directory: Path) -> None:
    """Open the palace's Chroma directory behind its back, and write."""
    import chromadb

    client = chromadb.PersistentClient(path=str(chroma_directory(directory)))
    collection = client.get_collection("chunks", embedding_function=None)
    collection.upsert(ids=["1", "2", "3"], embeddings=unit_vectors(3, 77).tolist())
    say("written")


def fill_disk(directory: Path) -> None:
    """Move rows into Chroma until its files must not grow any more; the next process may again."""
    database, index = Database(directory), index_of(directory)
    index.advance(database.read, 20)
    largest = max(path.stat().st_size for path in chroma_directory(directory).rglob("*") if path.is_file())
    psutil.Process(index.statistics().process).rlimit(psutil.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    advance_all(index, database)
    verify_answers(index, database)
    say(index.statistics().chroma_state)
    with database.read() as connection:
        index.reconnect(connection)
    advance_all(index, database)
    verify_answers(index, database)
    say(f"{index.statistics().chroma_state} {differences(index, database)}")
    index.close()
    database.close()


def fill_blocks(directory: Path) -> None:
    """Let the file of a matrix run out of room, at its first, second and third block."""
    vectors = unit_vectors(BLOCK_ROWS * 2 + 100, 5, 8)
    for room in (0, 4096, BLOCK_ROWS * 8 * 4, 2 * BLOCK_ROWS * 8 * 4):
        limit_files(room)
        blocks = MappedMatrix(directory, 8)
        for start in range(0, len(vectors), 1000):
            blocks.extend(start, vectors[start : start + 1000])
        same = all(
            (view[: len(part)] == part).all()
            for view, part in zip(
                blocks.views, (vectors[i : i + BLOCK_ROWS] for i in range(0, len(vectors), BLOCK_ROWS)), strict=True
            )
        )
        say(f"{same} {blocks.bytes_mapped} {blocks.bytes_memory}")
        blocks.close()


def add_twice(directory: Path) -> None:
    """Give Chroma rows, and others after a line at stdin."""
    session = ChromaProcess(directory)
    session.upsert(np.arange(100), unit_vectors(100, 1))
    say("ready")
    sys.stdin.readline()
    session.upsert(np.arange(100, 200), unit_vectors(100, 2))


def limit_files(size: int) -> None:
    """From now on no file of this process may grow beyond a size in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


ROLES: dict[str, Callable[[Path], None]] = {
    role.__name__: role for role in (fill, hold, read_chroma, write_chroma, fill_disk, fill_blocks, add_twice)
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Path(sys.argv[2]))
