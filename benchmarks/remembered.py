"""An embedder that remembers the vectors of questions in a file, for benchmarks that ask the same ones again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.encoder import EmbedderStatistics, MiniLm
from mempalace_mcp.embedding.token_vectors import TokenVectors

Vectors = NDArray[np.float32]


class RememberedQueries:
    """The bundled model; what it made of a question is kept."""

    def __init__(self, known: dict[str, Vectors]) -> None:
        self._model = MiniLm.load()
        self._readable: dict[str, bool] = {}
        self._tokens: dict[str, TokenVectors | None] = {}
        self.known = known

    @classmethod
    @contextmanager
    def kept(cls, file: Path) -> Iterator[RememberedQueries]:
        """With what the file remembers, which it is written to at the end."""
        known = {}
        if file.exists():
            with np.load(file) as stored:
                known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
        before, queries = len(known), cls(known)
        try:
            yield queries
        finally:
            if len(known) > before:
                np.savez(file, texts=np.array(list(known)), vectors=np.array(list(known.values())))
            queries._model.close()

    @property
    def stamp(self) -> ModelStamp:
        return self._model.stamp

    @property
    def gives_tokens(self) -> bool:
        return self._model.gives_tokens

    def reads(self, text: str) -> bool:
        if text not in self._readable:
            self._readable[text] = self._model.reads(text)
        return self._readable[text]

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._model.embed(texts)

    def embed_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[bytes | None]]:
        return self._model.embed_with_tokens(texts)

    def query_tokens(self, text: str) -> TokenVectors | None:
        if text not in self._tokens:
            self._tokens[text] = self._model.query_tokens(text)
        return self._tokens[text]

    def embed_query(self, text: str) -> Vectors:
        if text not in self.known:
            self.known[text] = self._model.embed_query(text)
        return self.known[text]

    def statistics(self) -> EmbedderStatistics:
        return self._model.statistics()

    def close(self) -> None:
        """The file's owner closes the model."""
