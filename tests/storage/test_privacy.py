"""Files of a palace are closed to other users, however they came to be open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.storage.database import Database

OTHERS = 0o077


@pytest.fixture
def no_mask() -> Iterator[None]:
    """The most careless of users."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def test_new_files_are_private(tmp_path: Path, no_mask: None) -> None:
    with closing(Database(tmp_path / "a" / "palace")) as database:
        database.write(lambda tx: tx.stamp, Deadline())
        assert {"palace.db", "palace.db-wal", "palace.db-shm", "write.lock"} <= set(modes(database.directory))
        assert [name for name, mode in modes(database.directory).items() if mode & OTHERS] == []
        for folder in (database.directory, database.directory.parent):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_looser_ones_are_closed_and_told_of(tmp_path: Path, no_mask: None, caplog: pytest.LogCaptureFixture) -> None:
    palace = tmp_path / "palace"
    Database(palace).close()
    for name in ("daemon.log", "daemon.log.1", "notes.txt", "tokens.toml"):
        (palace / name).touch(0o666)
    (palace / "index").mkdir(0o777)
    (palace / "elsewhere.lock").symlink_to(palace / "notes.txt")
    (palace / "palace.db").chmod(0o664)
    palace.chmod(0o777)
    with closing(Database(palace)):
        found = modes(palace)
        assert found.pop("notes.txt") == 0o666, "not ours"
        assert found.pop("tokens.toml") == 0o666, "to be looked at first"
        del found["elsewhere.lock"]
        assert [name for name, mode in found.items() if mode & OTHERS] == []
        assert found["index"] == 0o700
    assert palace.stat().st_mode & 0o777 == 0o755, "others may still look, but put nothing there"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5
    assert any(str(palace / "palace.db") in message and "664" in message for message in told)
    caplog.clear()
    Database(palace).close()
    assert caplog.records == []
