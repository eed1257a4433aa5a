"""How long the violence lasts: `pytest tests/chaos --chaos-seconds 300 --chaos-seed 7`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import injections
from tests.daemon.support import end_processes_of
from tests.laboratory import laboratory

SECONDS = 8.0
MORE_SECONDS = 100.0
"""For the palace to come to rest and to be examined; a row of kills and starts on a busy machine takes its time too."""

MINIMUM_ROWS = injections.FEW_ROWS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seconds", type=float, default=SECONDS, help="how long processes are killed (8)")
    group.addoption("--chaos-seed", type=int, default=None, help="of the random decisions (another one each time)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(_seconds(config) + MORE_SECONDS))


@pytest.fixture
def chaos_seconds(pytestconfig: pytest.Config) -> float:
    """How long processes are killed."""
    return _seconds(pytestconfig)


@pytest.fixture
def chaos_seed(pytestconfig: pytest.Config) -> int:
    """Decides what is done and killed when, as far as the machine lets it."""
    given: int | None = pytestconfig.getoption("chaos_seed", None)
    return random.randrange(1 << 32) if given is None else given


@pytest.fixture
def palace(tmp_path: Path) -> Iterator[Path]:
    """A place for a palace; whatever serves it ends with the test."""
    directory = tmp_path / "palace"
    yield directory
    end_processes_of(directory)


@pytest.fixture(scope="session")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with an early Chroma and frequent checkpoints, so that there are many moments to be killed in."""
    return laboratory(
        tmp_path_factory.mktemp("hasty"),
        {
            "storage.vectors.index": injections.hasty_chroma,
            "storage.sqlite.connection": {"WAL_PAGES_PER_CHECKPOINT": 25},
        },
    )


def _seconds(config: pytest.Config) -> float:
    return float(config.getoption("chaos_seconds", SECONDS))
