"""The database when its files vanish, are replaced, cannot be written or find no space."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import PalaceCorrupt, PalaceMissing, StorageFull, StorageReadOnly
from mempalace_mcp.storage.sqlite.connection import explain
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction, Unit
from tests.storage.support import Child, add_wing, fresh_database, small_disk, soon, wings

PAGE = 4096


def large(name: str, kilobytes: int) -> Unit[int]:
    """A unit that needs so much space."""

    def work(transaction: Transaction) -> int:
        seq = add_wing(name)(transaction)
        transaction.connection.execute(
            "INSERT INTO receipts VALUES ('test', ?, x'00', ?, 0)", (name, "x" * 1024 * kilobytes)
        )
        return seq

    return Unit(work, soon())


def palace_with(directory: Path, *names: str) -> Path:
    """A closed palace with these wings; returns its database."""
    with fresh_database(directory) as database:
        for name in names:
            database.write(add_wing(name), soon())
        return database.path


def test_a_removed_directory_is_an_error_and_never_an_acknowledgement(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "palace") as database:
        database.write(add_wing("Paris"), soon())
        shutil.rmtree(database.directory)
        with pytest.raises(PalaceMissing):
            database.write(add_wing("lost"), soon())
        with pytest.raises(PalaceMissing):
            wings(database)
        assert not database.statistics().available
        with pytest.raises(PalaceMissing):
            database.reopen()
        assert not database.directory.exists()


def test_a_removed_file_is_an_error_and_never_an_acknowledgement(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        database.write(add_wing("Paris"), soon())
        database.path.unlink()
        with pytest.raises(PalaceMissing, match=r"palace\.db was removed"):
            database.write(add_wing("lost"), soon())
        with pytest.raises(PalaceMissing, match=r"palace\.db"):
            wings(database)
        with pytest.raises(PalaceMissing):
            database.reopen()
        assert not database.path.exists()


def test_files_removed_during_a_transaction(tmp_path: Path) -> None:
    def work(transaction: Transaction) -> int:
        database.path.unlink()
        return add_wing("lost")(transaction)

    with fresh_database(tmp_path) as database, pytest.raises(PalaceMissing):
        database.write(work, soon())


def test_a_group_is_not_acknowledged_when_the_files_vanish_inside_it(tmp_path: Path) -> None:
    def work(transaction: Transaction) -> int:
        database.path.unlink()
        return add_wing("vanishing")(transaction)

    units = [Unit(add_wing("before"), soon()), Unit(work, soon()), Unit(add_wing("after"), soon())]
    with fresh_database(tmp_path) as database:
        database.write_group(units)
    errors = [unit.outcome.exception() for unit in units]
    assert all(isinstance(error, PalaceMissing) for error in errors)
    assert len({id(error) for error in errors}) == 3


def test_a_replaced_palace_is_used_after_reopening(tmp_path: Path) -> None:
    other = palace_with(tmp_path / "other", "Rome")
    with fresh_database(tmp_path / "palace") as database:
        database.write(add_wing("Paris"), soon())
        shutil.rmtree(database.directory)
        other.parent.rename(database.directory)
        with pytest.raises(PalaceMissing, match="replaced"):
            database.write(add_wing("lost"), soon())
        with pytest.raises(PalaceMissing, match="replaced"):
            wings(database)
        database.reopen()
        assert wings(database) == ["Rome"]
        database.write(add_wing("Naples"), soon())
        assert wings(database) == ["Rome", "Naples"]
        assert database.statistics().reopened == 1
    with fresh_database(tmp_path / "palace") as database:
        assert wings(database) == ["Rome", "Naples"]


def test_closing_the_old_files_spares_the_log_of_the_new_ones(tmp_path: Path) -> None:
    old = Database(tmp_path / "palace")
    old.write(add_wing("Paris"), soon())
    shutil.rmtree(old.directory)
    with Child("write", tmp_path / "palace", "theirs", 5) as child:
        assert child.line() == "ready"
        child.go()
        assert [child.line() for _ in range(5)][-1] == "theirs-4"
        child.kill()
    old.close()
    with fresh_database(tmp_path / "palace") as database:
        assert len(wings(database)) == 5


def test_a_file_replaced_beside_its_old_log_is_not_mixed_with_it(tmp_path: Path) -> None:
    other = palace_with(tmp_path / "other", "Rome")
    with fresh_database(tmp_path / "palace") as database:
        database.write(add_wing("Paris"), soon())
        other.replace(database.path)
        with pytest.raises(PalaceMissing, match="replaced"):
            wings(database)
        with pytest.raises(PalaceCorrupt, match="earlier file"):
            database.reopen()
        for name in ("palace.db-wal", "palace.db-shm"):
            (database.directory / name).unlink()
        database.reopen()
        assert wings(database) == ["Rome"]


def test_a_removed_log_is_rescued(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        database.write(add_wing("Paris"), soon())
        (tmp_path / "palace.db-wal").unlink()
        with pytest.raises(PalaceMissing, match="wal was removed"):
            database.write(add_wing("lost"), soon())
        with pytest.raises(PalaceMissing, match="wal was removed"):
            wings(database)
        database.reopen()
        assert wings(database) == ["Paris"]
        database.write(add_wing("Rome"), soon())
    with fresh_database(tmp_path) as database:
        assert wings(database) == ["Paris", "Rome"]
        assert database.integrity() == []


def test_reopening_while_others_read_and_write(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        database.write(add_wing("Paris"), soon())
        with database.read() as connection, Child("write", tmp_path, "theirs", 3) as child:
            assert child.line() == "ready"
            child.go()
            child.rest()
            assert connection.execute("SELECT count(*) FROM wings").fetchone() == (1,)
        database.reopen()
        assert len(wings(database)) == 4


def test_a_palace_on_a_read_only_disk_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        palace_with(disk.path, "Paris")
        disk.forbid_writing()
        with fresh_database(disk.path) as database:
            assert wings(database) == ["Paris"]
            assert not database.statistics().writable
            with pytest.raises(StorageReadOnly, match=r"write\.lock"):
                database.write(add_wing("Rome"), soon())
            with pytest.raises(StorageReadOnly):
                database.checkpoint()
            assert database.backup(tmp_path / "backup.db").rows["wings"] == 1
            disk.allow_writing()
            database.reopen()
            database.write(add_wing("Rome"), soon())
            assert wings(database) == ["Paris", "Rome"]


def test_a_palace_left_by_a_crash_on_a_read_only_disk_is_read_with_its_log(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with Child("write", disk.path, "theirs", 100_000) as child:
            assert child.line() == "ready"
            child.go()
            acknowledged = [child.line() for _ in range(3)] + child.kill()
        disk.forbid_writing()
        with fresh_database(disk.path) as database:
            assert set(acknowledged) <= set(wings(database))


def test_an_unchanging_palace_that_changes_is_noticed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        palace_with(disk.path, "Paris")
        disk.forbid_writing()
        with fresh_database(disk.path) as database:
            assert wings(database) == ["Paris"]
            disk.allow_writing()
            palace_with(disk.path, "Rome")
            with pytest.raises(PalaceMissing):
                wings(database)
            database.reopen()
            assert wings(database) == ["Paris", "Rome"]


def test_no_palace_on_a_read_only_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.forbid_writing()
        with pytest.raises(StorageReadOnly):
            Database(disk.path)
        with pytest.raises(StorageReadOnly):
            Database(disk.path / "palace")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_palace_of_another_user_is_read(tmp_path: Path) -> None:
    directory = Path("/tmp") / f"palace-of-root-{os.getpid()}"  # pytest's own are closed to others
    directory.mkdir(0o700)
    try:
        path = palace_with(directory, "Paris")
        with Child("open_as_nobody", directory) as child:
            assert "StorageReadOnly" in child.line()
        for file in (path, directory / "write.lock"):
            file.chmod(0o644)
        directory.chmod(0o755)
        with Child("read_as_nobody", directory) as child:
            assert child.rest() == ["['Paris']", "storage_read_only"]
        with fresh_database(directory) as database:
            database.write(add_wing("Rome"), soon())
            for file in directory.iterdir():
                file.chmod(0o644)
            with Child("read_as_nobody", directory) as child:
                assert child.rest() == ["['Paris', 'Rome']", "storage_read_only"]
    finally:
        shutil.rmtree(directory)


def test_a_full_disk_refuses_writes_and_nothing_else(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, fresh_database(disk.path) as database:
        database.write(add_wing("before"), soon())
        disk.fill()
        refused = large("refused", 64)
        database.write_group([refused])
        error = refused.outcome.exception()
        assert isinstance(error, StorageFull)
        assert error.retryable
        assert wings(database) == ["before"]
        assert database.statistics().last_error == "storage_full"
        disk.empty()
        assert database.write(add_wing("after"), soon()) == 2
        assert database.statistics().last_error is None
        assert wings(database) == ["before", "after"]
        assert database.integrity() == []


def test_a_disk_that_fills_up_inside_a_group(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 6144) as disk, fresh_database(disk.path) as database:
        database.checkpoint()
        disk.fill(leave_kilobytes=256)
        units = [large("small 0", 1), large("huge", 2048), large("small 1", 1), large("small 2", 1)]
        database.write_group(units)
        errors = [unit.outcome.exception() for unit in units]
        acknowledged = [unit.outcome.result() for unit in units if unit.outcome.exception() is None]
        assert isinstance(errors[1], StorageFull)
        assert [error for error in errors if error is not errors[1]] == [None] * 3
        assert wings(database) == ["small 0", "small 1", "small 2"]
        assert acknowledged == [1, 2, 3]
        disk.empty()
        assert database.write(add_wing("after"), soon()) == 4
        assert database.integrity() == []


def test_a_disk_that_fills_up_for_good_inside_a_group(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, fresh_database(disk.path) as database:
        database.checkpoint()
        disk.fill(leave_kilobytes=128)
        units = [large(f"unit {number}", 24) for number in range(12)]
        database.write_group(units)
        refused = [unit for unit in units if unit.outcome.exception() is not None]
        assert 0 < len(refused) < 12
        assert all(isinstance(unit.outcome.exception(), StorageFull) for unit in refused)
        stored = [f"unit {number}" for number, unit in enumerate(units) if unit not in refused]
        assert wings(database) == stored
        disk.empty()
        again = [large(f"again {number}", 24) for number in range(12)]
        database.write_group(again)
        assert [unit.outcome.exception() for unit in again] == [None] * 12
        assert wings(database) == stored + [f"again {number}" for number in range(12)]
        assert database.integrity() == []


def test_a_palace_cannot_be_founded_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.fill()
        with pytest.raises(StorageFull):
            Database(disk.path)
        assert {file.name for file in disk.path.iterdir()} == {"filler", "write.lock"}
        disk.empty()
        with fresh_database(disk.path) as database:
            assert database.write(add_wing("Paris"), soon()) == 1


def test_no_room_for_another_file_is_no_room(tmp_path: Path) -> None:
    """Bytes are free, as where a quota keeps this user from them: only an attempt tells."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with small_disk(tmp_path / "disk") as disk:
        path = palace_with(disk.path, "Paris")
        assert not isinstance(explain(error, path), StorageFull)
        subprocess.run(["mount", "-o", "remount,nr_inodes=3", disk.path], check=True)
        assert isinstance(explain(error, path), StorageFull)


def test_damage_is_named(tmp_path: Path) -> None:
    path = palace_with(tmp_path, "Paris")
    content = bytearray(path.read_bytes())
    content[PAGE : 20 * PAGE] = os.urandom(19 * PAGE)
    path.write_bytes(content)
    with pytest.raises(PalaceCorrupt, match=r"palace\.db") as caught, fresh_database(tmp_path) as database:
        wings(database)
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
