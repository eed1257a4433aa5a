from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.tools.support import Client, open_client
from tests.stores import each_store

__all__ = ["each_store"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Tools on an empty palace of their own."""
    with open_client(tmp_path / "palace") as client:
        yield client


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Tools on an empty palace, shared by calls that are refused and so write nothing."""
    with open_client(tmp_path_factory.mktemp("empty") / "palace") as client:
        yield client
