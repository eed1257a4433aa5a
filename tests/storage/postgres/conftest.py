"""Servers of PostgreSQL and palaces on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from tests.postgres_server import Server, fresh_schema, shared_address


@pytest.fixture(scope="session", autouse=True)
def address() -> str:
    """Of the server that the tests share, started before the first one looks at what it leaves behind."""
    return shared_address()


@pytest.fixture
def url(address: str) -> Iterator[PalaceUrl]:
    """A palace that is not there yet."""
    with fresh_schema(address) as url:
        yield url


@pytest.fixture
def database(url: PalaceUrl, tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A new palace."""
    with closing(PostgresDatabase(url, tmp_path)) as database:
        yield database


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server for one test, which may kill it; what it acknowledges is on the disk."""
    server = Server(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()
