"""The bundled model, loaded once for all tests of this layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mempalace_mcp.embedding.encoder import MiniLm


@pytest.fixture(scope="session")
def minilm() -> Iterator[MiniLm]:
    embedder = MiniLm.load()
    yield embedder
    embedder.close()
