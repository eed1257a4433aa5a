"""The stores that tests run on; a `conftest.py` imports the fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.postgres_server import Palaces, shared_address
from tests.storage.support import POSTGRES


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def each_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a file once on each store."""
    if request.param == "sqlite":
        yield
        return
    with closing(Palaces(shared_address())) as palaces:
        token = POSTGRES.set(palaces)
        yield
        POSTGRES.reset(token)


@pytest.fixture(scope="session")
def postgres() -> str:
    """The address of a PostgreSQL, started before a test looks at what it leaves behind."""
    return shared_address()
