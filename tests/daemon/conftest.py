"""A palace whose processes end with the test, and the laboratories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import injections
from tests.daemon.support import end_processes_of
from tests.laboratory import laboratory


@pytest.fixture
def palace(tmp_path: Path) -> Iterator[Path]:
    """A place for a palace; whatever serves it ends with the test."""
    directory = tmp_path / "palace"
    yield directory
    end_processes_of(directory)


@pytest.fixture(scope="session")
def deliberate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a `get_taxonomy` that sleeps for the wing `sleep 1.5`, tells what its process has imported for
    `modules`, and kills it for `die`."""
    return laboratory(tmp_path_factory.mktemp("deliberate"), {"server.tools.overview": injections.deliberate_taxonomy})


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a later version."""
    return laboratory(tmp_path_factory.mktemp("newer"), {}, version="99.0.0")


@pytest.fixture(scope="session")
def stillborn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a daemon that ends while it starts, without a word."""
    return laboratory(
        tmp_path_factory.mktemp("stillborn"),
        {"daemon.entry": injections.stillborn_daemon},
    )


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as on a system without sockets in the file system."""
    return laboratory(
        tmp_path_factory.mktemp("loopback"),
        {"daemon.entry": injections.loopback_socket},
    )
