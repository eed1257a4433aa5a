"""The bundled model, which remembers what it made of questions, for benchmarks that ask the same ones again."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.embedding.encoder import MiniLm
from mempalace_mcp.embedding.token_vectors import TokenVectors

Vectors = NDArray[np.float32]


class RememberingModel(MiniLm):
    """Keeps the vectors of all questions. A palace that is closed does not close it."""

    known: dict[str, tuple[Vectors, TokenVectors | None]]
    readable: dict[str, bool]

    def reads(self, text: str) -> bool:
        if text not in self.readable:
            self.readable[text] = super().reads(text)
        return self.readable[text]

    def embed_query(self, text: str) -> Vectors:
        return self._both(text)[0]

    def query_tokens(self, text: str) -> TokenVectors | None:
        return self._both(text)[1]

    def close(self) -> None:
        """Its owner closes it."""

    def _both(self, text: str) -> tuple[Vectors, TokenVectors | None]:
        if text not in self.known:
            self.known[text] = super().embed_query(text), super().query_tokens(text)
        return self.known[text]


@contextmanager
def remembering(file: Path) -> Iterator[RememberingModel]:
    """The model with what the file remembers, which is written back at the end. Only this benchmark reads the file."""
    model = RememberingModel.load()
    model.known = pickle.loads(file.read_bytes()) if file.exists() else {}
    model.readable = {}
    before = len(model.known)
    try:
        yield model
    finally:
        if len(model.known) > before:
            file.write_bytes(pickle.dumps(model.known))
        MiniLm.close(model)
