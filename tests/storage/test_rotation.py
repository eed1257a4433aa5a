"""Which backups are kept, and what is never removed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.clock import DAY
from mempalace_mcp.core.errors import Conflict, InvalidArgument, StorageFull
from mempalace_mcp.storage.sqlite import rotation
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.rotation import back_up_dated
from tests.storage.support import small_disk


@pytest.fixture
def next_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the clock of names go on by a day."""
    moment = 1_780_000_000_000_000
    monkeypatch.setattr(rotation, "now", lambda: moment)

    def go_on() -> None:
        nonlocal moment
        moment += DAY

    return go_on


def test_the_latest_are_kept_and_the_files_of_others_too(tmp_path: Path, next_day: Callable[[], None]) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    with closing(Database(tmp_path / "palace")) as database, closing(Database(tmp_path / "other")) as other:
        foreign = back_up_dated(other, safe, 1).report.path
        own = []
        (safe / "palace-1999-01-01-000000.db").write_text("not ours")
        (safe / "palace-1999-01-02-000000.db").symlink_to(tmp_path / "palace" / "palace.db")
        (safe / "palace-1999-01-03-000000.db").mkdir()
        with closing(sqlite3.connect(safe / "palace-1999-01-04-000000.db")) as connection:
            connection.execute("CREATE TABLE state (palace_id)")
        others = {file.name for file in safe.iterdir()}
        for _ in range(5):
            next_day()
            rotated = back_up_dated(database, safe, 3)
            own.append(rotated.report.path)
            assert list(rotated.removed) == own[-4:-3]
        shutil.copy(own[-1], safe / "palace-mine.db")
        next_day()
        assert list(back_up_dated(database, safe, 1).removed) == own[:1:-1]
    assert foreign.exists()
    assert len(list(safe.iterdir())) == len(others) + 2
    assert others < {file.name for file in safe.iterdir()}


def test_what_cannot_be_done_removes_nothing(tmp_path: Path, next_day: Callable[[], None]) -> None:
    with closing(Database(tmp_path / "palace")) as database:
        with pytest.raises(InvalidArgument, match="no directory"):
            back_up_dated(database, tmp_path / "nothing", 1)
        back_up_dated(database, tmp_path, 1)
        with pytest.raises(Conflict):  # twice within a second
            back_up_dated(database, tmp_path, 1)
        assert len(list(tmp_path.glob("palace-*.db"))) == 1


def test_a_full_disk_keeps_the_backups_that_there_are(tmp_path: Path, next_day: Callable[[], None]) -> None:
    with closing(Database(tmp_path / "palace")) as database, small_disk(tmp_path / "disk") as disk:
        back_up_dated(database, disk.path, 1)
        next_day()
        disk.fill(leave_kilobytes=40)
        with pytest.raises(StorageFull):
            back_up_dated(database, disk.path, 1)
        disk.empty()
        assert len(list(disk.path.iterdir())) == 1
