"""How long the load lasts: `pytest tests/soak --soak-seconds 3600 --soak-rest 5 --soak-journal soak.csv`."""

from __future__ import annotations

from pathlib import Path

import pytest

SECONDS = 10.0
MORE_SECONDS = 200.0
"""For the server to start, for the least number of rounds on a busy machine, and to come to rest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--soak-seconds", type=float, default=SECONDS, help="how long the server is used (10)")
    group.addoption("--soak-rest", type=float, default=0.0, help="seconds of rest after each round of load (0)")
    group.addoption("--soak-journal", type=Path, default=None, help="CSV file for what is measured")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(float(config.getoption("soak_seconds", SECONDS)) + MORE_SECONDS))


@pytest.fixture
def soak_seconds(pytestconfig: pytest.Config) -> float:
    """How long the server is used."""
    return float(pytestconfig.getoption("soak_seconds", SECONDS))


@pytest.fixture
def soak_rest(pytestconfig: pytest.Config) -> float:
    """Seconds of rest after each round."""
    return float(pytestconfig.getoption("soak_rest", 0.0))


@pytest.fixture
def soak_journal(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """Where the samples go."""
    given: Path | None = pytestconfig.getoption("soak_journal", None)
    return given or tmp_path / "soak.csv"
