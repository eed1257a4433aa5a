"""One opened Chroma client on one directory; the only module that knows Chroma's interface.

Imported by the child process alone: Chroma takes half a second and 40 MB, and its faults take the process along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from numpy.typing import NDArray

from mempalace_mcp.storage.vectors.truth import Integers, Vectors

_COLLECTION = "chunks"
_PAGE = 10_000


class ChromaSession:
    """A `PersistentClient` with its collection. Holds ids and vectors, never a text. Not thread-safe.

    Everything here may raise whatever Chroma raises, which includes panics that are no `Exception`.
    """

    def __init__(self, directory: Path) -> None:
        settings = Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(path=str(directory), settings=settings)
        self._collection: Any = self._client.get_or_create_collection(
            _COLLECTION, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def query(self, vector: Vectors, count: int) -> tuple[Integers, NDArray[np.float32]]:
        """The `count` nearest rows and their cosines."""
        answer = self._collection.query(query_embeddings=vector[np.newaxis], n_results=count, include=["distances"])
        return np.array(answer["ids"][0], np.int64), 1 - np.array(answer["distances"][0], np.float32)

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
            answer = self._collection.get(include=[], limit=_PAGE, offset=_PAGE * len(pages))
            pages.append(np.array(answer["ids"], np.int64))
        return np.sort(np.concatenate(pages))

    def vectors(self, chunks: Integers) -> tuple[Integers, Vectors]:
        """Those of the chunks that there are, and their vectors."""
        if len(chunks) == 0:
            return chunks, np.empty((0, 0), np.float32)
        answer = self._collection.get(ids=_names(chunks), include=["embeddings"])
        found = np.array(answer["ids"], np.int64)
        return found, np.asarray(answer["embeddings"], np.float32).reshape(len(found), -1)

    def close(self) -> None:
        """Close the client, exactly once, and let go of the collection: it would keep the rest alive."""
        client, self._client, self._collection = self._client, None, None
        client.close()


def _names(chunks: Integers) -> list[str]:
    return [str(chunk) for chunk in chunks.tolist()]
