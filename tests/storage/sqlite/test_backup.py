"""Backups of a palace in use."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import Conflict, InvalidArgument, PalaceError, StorageError, StorageFull, StorageReadOnly
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.rotation import back_up_dated
from tests.storage.support import Child, add_wing, fresh_database, small_disk, soon, wings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "palace") as database:
        for name in ("Paris", "Rome"):
            database.write(add_wing(name), soon())
        yield database


def fill(database: Database, megabytes: int) -> None:
    database.write(
        lambda transaction: transaction.connection.executemany(
            "INSERT INTO receipts VALUES ('fill', ?, x'00', ?, 0)",
            ((str(number), "x" * 1024) for number in range(1024 * megabytes)),
        ),
        soon(),
    )


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def restore(backup: Path, directory: Path) -> Path:
    directory.mkdir()
    backup.rename(directory / "palace.db")
    return directory


def test_a_backup_is_a_palace(database: Database, tmp_path: Path) -> None:
    destination = tmp_path / "backup.db"
    report = database.backup(destination)
    assert report.path == destination
    assert report.bytes == destination.stat().st_size
    assert report.rows["wings"] == 2
    assert report.seconds > 0
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600
    with fresh_database(restore(destination, tmp_path / "restored")) as restored:
        assert wings(restored) == ["Paris", "Rome"]
        assert restored.write(add_wing("Oslo"), soon()) == 3


def test_a_backup_is_one_file_that_needs_no_log(database: Database, tmp_path: Path) -> None:
    destination = tmp_path / "backups" / "backup.db"
    destination.parent.mkdir()
    database.backup(destination)
    assert names(destination.parent) == ["backup.db"]
    assert destination.read_bytes()[18:20] == b"\x01\x01"  # journal mode of the file format: not WAL


def test_nothing_is_overwritten(database: Database, tmp_path: Path) -> None:
    destination = tmp_path / "backup.db"
    destination.write_text("precious")
    with pytest.raises(Conflict) as caught:
        database.backup(destination)
    assert caught.value.argument == "destination"
    assert destination.read_text() == "precious"
    with pytest.raises(Conflict):
        database.backup(database.path)
    with pytest.raises(Conflict):
        database.backup(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        database.backup(tmp_path / "dangling")
    assert wings(database) == ["Paris", "Rome"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(database: Database, tmp_path: Path) -> None:
    destination = tmp_path / "backup.db"
    with pytest.raises(Conflict):
        database.backup(destination, lambda done, total: (destination.write_text("precious"), None)[1])
    assert destination.read_text() == "precious"
    assert names(tmp_path) == ["backup.db", "palace"]


def test_a_directory_that_is_not_there(database: Database, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        database.backup(tmp_path / "missing" / "backup.db")


def test_progress_ends_at_the_total(database: Database, tmp_path: Path) -> None:
    fill(database, 8)
    seen: list[tuple[int, int]] = []
    database.backup(tmp_path / "backup.db", lambda done, total: seen.append((done, total)))
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_backup_is_the_palace_of_one_moment(database: Database, tmp_path: Path) -> None:
    """Others write while it is made: none of it is in the copy, and the copy does not begin anew."""
    fill(database, 8)
    steps = []

    def write_beside(done: int, total: int) -> None:
        steps.append(done)
        database.write(add_wing(f"written beside {done}"), soon())

    report = database.backup(tmp_path / "backup.db", write_beside)
    assert report.rows["wings"] == 2
    assert len(wings(database)) == 2 + len(steps)
    with fresh_database(restore(tmp_path / "backup.db", tmp_path / "restored")) as restored:
        assert wings(restored) == ["Paris", "Rome"]


def test_a_backup_while_another_process_writes(database: Database, tmp_path: Path) -> None:
    fill(database, 4)
    with Child("write", database.directory, "theirs", 100_000) as child:
        assert child.line() == "ready"
        child.go()
        assert child.line() == "theirs-0"
        database.backup(tmp_path / "backup.db")
        child.kill()
    with fresh_database(restore(tmp_path / "backup.db", tmp_path / "restored")) as restored:
        assert wings(restored)[:3] == ["Paris", "Rome", "theirs-0"]
        assert restored.integrity() == []


def test_a_full_disk_leaves_no_half_backup(database: Database, tmp_path: Path) -> None:
    fill(database, 6)
    with small_disk(tmp_path / "disk", 2048) as disk:
        with pytest.raises(StorageFull):
            database.backup(disk.path / "backup.db")
        assert names(disk.path) == []
        disk.forbid_writing()
        with pytest.raises(StorageReadOnly):
            database.backup(disk.path / "backup.db")


def test_an_interrupted_backup_leaves_nothing(database: Database, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.backup(tmp_path / "backup.db", interrupt)
    assert names(tmp_path) == ["palace"]


def test_two_backups_to_one_name(database: Database, tmp_path: Path) -> None:
    outcomes: list[str] = []

    def back_up() -> None:
        try:
            database.backup(tmp_path / "backup.db")
            outcomes.append("made")
        except PalaceError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=back_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 3 + ["made"]


def test_a_directory_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    directory = tmp_path / ("b" * 300)
    with fresh_database(tmp_path / "palace") as database:
        with pytest.raises(StorageError, match="cannot be reached") as plain:
            database.backup(directory / "f.db")
        with pytest.raises(StorageError, match="cannot be reached") as dated:
            back_up_dated(database, directory, 2)
    assert all(str(directory) in caught.value.message for caught in (plain, dated))
