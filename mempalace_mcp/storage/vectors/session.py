"""One opened Chroma client on one directory; the only module that knows Chroma's interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mempalace_mcp.storage.vectors.candidates import Candidates
from mempalace_mcp.storage.vectors.truth import Integers, Vectors

_COLLECTION = "chunks"
_PAGE = 10_000
_TOLERANCE = 1e-4


class ChromaSession:
    """A `PersistentClient` with its collection. Holds ids and vectors, never a text. Not thread-safe.

    Everything here may raise whatever Chroma raises, which includes panics that are no `Exception`.
    """

    def __init__(self, directory: Path) -> None:
        # Half a second, which must not be on the way to the first answer.
        import chromadb
        from chromadb.config import Settings

        settings = Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(path=str(directory), settings=settings)
        try:
            self._collection: Any = self._client.get_or_create_collection(
                _COLLECTION, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
        except BaseException:
            self.close()
            raise

    def query(self, vector: Vectors, count: int, position: int) -> Candidates:
        """The `count` nearest rows; `position` is how far the collection follows the log."""
        answer = self._collection.query(query_embeddings=vector[np.newaxis], n_results=count, include=["distances"])
        chunks = np.array(answer["ids"][0], np.int64)
        cosines = 1 - np.array(answer["distances"][0], np.float32)
        floor = float(cosines.min()) if len(chunks) >= count else -np.inf
        return Candidates(chunks, cosines, np.zeros_like(chunks), np.full_like(chunks, position), floor)

    def upsert(self, chunks: Sequence[int], vectors: Vectors) -> None:
        """Add rows, or replace their vectors."""
        self._collection.upsert(ids=[str(chunk) for chunk in chunks], embeddings=vectors)

    def delete(self, chunks: Sequence[int]) -> None:
        """Mark rows as deleted; Chroma keeps their vectors on disk."""
        self._collection.delete(ids=[str(chunk) for chunk in chunks])

    def chunks(self) -> Integers:
        """The chunks of all rows, ascending."""
        pages: list[Integers] = []
        while not pages or len(pages[-1]) == _PAGE:
            answer = self._collection.get(include=[], limit=_PAGE, offset=_PAGE * len(pages))
            pages.append(np.array(answer["ids"], np.int64))
        return np.sort(np.concatenate(pages))

    def vectors(self, chunks: Sequence[int]) -> dict[int, Vectors]:
        """The vectors of those of the chunks that there are."""
        if len(chunks) == 0:
            return {}
        answer = self._collection.get(ids=[str(chunk) for chunk in chunks], include=["embeddings"])
        return {
            int(chunk): np.asarray(vector, np.float32)
            for chunk, vector in zip(answer["ids"], answer["embeddings"], strict=True)
        }

    def close(self) -> None:
        """Close the client, exactly once per session, and let go of the collection: it would keep the rest alive."""
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            client.close()


def agrees(held: Vectors | None, vector: Vectors) -> bool:
    """Is the vector that Chroma holds the one of SQLite, but for rounding?"""
    return held is not None and held.shape == vector.shape and bool(np.allclose(held, vector, atol=_TOLERANCE))
