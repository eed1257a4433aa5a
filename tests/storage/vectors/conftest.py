"""A fresh palace with its index for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.vectors.index import VectorIndex
from tests.storage.support import fresh_database
from tests.storage.vectors.support import ROWS, World, advance_all, index_of


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path) as fresh:
        yield fresh


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def index(tmp_path: Path, database: Database) -> Iterator[VectorIndex]:
    opened = index_of(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def filled(world: World, index: VectorIndex, database: Database) -> VectorIndex:
    """An index whose rows are all in Chroma."""
    world.file(ROWS, seed=3)
    advance_all(index, database)
    assert index.statistics().chroma_rows == ROWS
    return index
