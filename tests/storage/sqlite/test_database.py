"""The database in one process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    PalaceCorrupt,
    PalaceError,
    SchemaTooNew,
    StorageError,
)
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.sqlite.database import LOCK_FILE, Database
from mempalace_mcp.storage.transactions import Stamp, Transaction
from tests.storage.support import Child, add_wing, fresh_database, soon, wings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "palace") as database:
        yield database


def state(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        return connection.execute("SELECT seq, recorded_at FROM state").fetchone()  # type: ignore[no-any-return]


def test_files_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there" / "yet"
    with fresh_database(directory) as database:
        database.write(add_wing("a"), soon())
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    assert modes == dict.fromkeys(["palace.db", "palace.db-wal", "palace.db-shm", "write.lock"], 0o600)


def test_it_is_opened_under_the_write_lock(tmp_path: Path) -> None:
    """Who has the lock signs it, so that a new one is signed by who opened the palace, or not there."""
    with fresh_database(tmp_path):
        assert FileLock(tmp_path / LOCK_FILE).holder() == os.getpid()


def test_settings_of_the_writing_connection(database: Database) -> None:
    def settings(transaction: Transaction) -> list[object]:
        names = (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "wal_autocheckpoint",
            "journal_size_limit",
            "secure_delete",
        )
        return [transaction.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert database.write(settings, soon()) == ["wal", 2, 1, 1000, 64 * 1024 * 1024, 1]


def test_what_is_written_is_read(database: Database) -> None:
    assert database.write(add_wing("Paris"), soon()) == 1
    assert database.write(add_wing("Rome"), soon()) == 2
    assert wings(database) == ["Paris", "Rome"]


def test_what_is_written_is_there_after_closing(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        database.write(add_wing("Paris"), soon())
        with database.read() as connection:
            (identity,) = connection.execute("SELECT palace_id FROM state").fetchone()
    with fresh_database(tmp_path) as database:
        assert wings(database) == ["Paris"]
        with database.read() as connection:
            assert connection.execute("SELECT palace_id FROM state").fetchall() == [(identity,)]


def test_strange_directory_names(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "a b?c=d#e%20f&mode=memory é") as database:
        database.write(add_wing("Paris"), soon())
        assert database.path.stat().st_size > 0
        assert database.path.parent.name.endswith("é")


def test_a_unit_that_raises_leaves_nothing(database: Database) -> None:
    def work(transaction: Transaction) -> None:
        add_wing("half done")(transaction)
        raise InvalidArgument("no", argument="content")

    with pytest.raises(InvalidArgument):
        database.write(work, soon())
    assert wings(database) == []
    assert state(database)[0] == 0


def test_an_error_of_sqlite_becomes_one_of_ours(database: Database) -> None:
    database.write(add_wing("Paris"), soon())
    with pytest.raises(PalaceError, match="UNIQUE"):
        database.write(add_wing("paris"), soon())
    with pytest.raises(PalaceError, match="no such table"), database.read() as connection:
        connection.execute("SELECT * FROM nowhere")
    with pytest.raises(PalaceError, match="FOREIGN KEY"):
        database.write(
            lambda transaction: transaction.connection.execute(
                "INSERT INTO rooms (wing, key, name) VALUES (9, '', '')"
            ),
            soon(),
        )


def test_a_unit_that_ends_its_transaction_is_refused(database: Database) -> None:
    with pytest.raises(StorageError, match="ended early"):
        database.write(lambda transaction: transaction.connection.execute("ROLLBACK"), soon())
    assert database.write(add_wing("Paris"), soon()) == 1


def test_a_unit_that_only_reads_leaves_no_mark(database: Database) -> None:
    before = database.path.with_name("palace.db-wal").stat().st_size
    assert database.write(lambda transaction: transaction.connection.execute("SELECT 7").fetchone(), soon()) == (7,)
    assert state(database)[0] == 0
    assert database.path.with_name("palace.db-wal").stat().st_size == before


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(PalaceError, match="readonly"), database.read() as connection:
        connection.execute("DELETE FROM state")


def test_a_snapshot_does_not_change(database: Database) -> None:
    database.write(add_wing("before"), soon())
    with database.read() as connection:
        database.write(add_wing("after"), soon())
        assert connection.execute("SELECT name FROM wings").fetchall() == [("before",)]
        assert wings(database) == ["before", "after"]
        assert connection.execute("SELECT count(*) FROM wings").fetchone() == (1,)


def test_a_snapshot_ends_with_its_block_even_with_an_open_cursor(database: Database) -> None:
    for name in "abc":
        database.write(add_wing(name), soon())
    with database.read() as connection:
        cursor = connection.execute("SELECT name FROM wings")
        assert cursor.fetchone() == ("a",)
    database.write(add_wing("d"), soon())
    assert wings(database) == ["a", "b", "c", "d"]
    assert database.checkpoint().complete


def test_an_error_that_keeps_its_cursor_does_not_keep_the_writer_in_the_past(database: Database) -> None:
    for name in "abc":
        database.write(add_wing(name), soon())

    def work(transaction: Transaction) -> None:
        for _row in transaction.connection.execute("SELECT name FROM wings"):
            raise InvalidArgument("no")

    with pytest.raises(InvalidArgument) as kept:
        database.write(work, soon())
    with fresh_database(database.directory) as other:
        other.write(add_wing("d"), soon())
    database.write(add_wing("e"), soon())
    assert wings(database) == ["a", "b", "c", "d", "e"]
    assert database.statistics().retries == 0
    assert kept.value.__traceback__ is not None


def test_readers_see_only_whole_transactions(database: Database) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            database.write(lambda t, n=number: (add_wing(f"{n}a")(t), add_wing(f"{n}b")(t)), soon())  # type: ignore[misc]
        done.set()

    counts = []
    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        with database.read() as connection:
            first = connection.execute("SELECT count(*) FROM wings").fetchone()[0]
            assert connection.execute("SELECT count(*) FROM wings").fetchone()[0] == first
        counts.append(first)
    thread.join()
    assert all(count % 2 == 0 for count in counts)
    assert counts == sorted(counts)
    assert len(wings(database)) == 80


def test_more_readers_than_connections(tmp_path: Path) -> None:
    with fresh_database(tmp_path, readers=2) as database:
        database.write(add_wing("Paris"), soon())
        results: list[list[str]] = []
        threads = [threading.Thread(target=lambda: results.append(wings(database))) for _ in range(12)]
        with database.read():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert database.statistics().readers_in_use == 1
        assert results == [["Paris"]] * 12
        assert database.statistics().readers_in_use == 0


def test_a_unit_has_the_database_for_itself_from_its_beginning(database: Database) -> None:
    def work(transaction: Transaction) -> str:
        with contextlib.closing(sqlite3.connect(database.path, timeout=0, isolation_level=None)) as foreign:
            try:
                foreign.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return error.sqlite_errorname
        return "let in"

    assert database.write(work, soon()) == "SQLITE_BUSY"


def test_threads_that_write_at_once(database: Database) -> None:
    def write(name: str) -> None:
        for number in range(10):
            database.write(add_wing(f"{name}{number}"), soon())

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wings(database)) == 80
    assert state(database)[0] == 80


def test_cancelled_and_expired_units_do_not_run(database: Database) -> None:
    cancelled = soon()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        database.write(add_wing("cancelled"), cancelled)
    with pytest.raises(DeadlineExceeded):
        database.write(add_wing("expired"), Deadline(0))
    assert wings(database) == []


class Clock:
    """Shows the instants it is given, then stays."""

    def __init__(self, *instants: Instant) -> None:
        self._instants = list(instants)

    def __call__(self) -> Instant:
        return self._instants.pop(0) if len(self._instants) > 1 else self._instants[0]


def test_recorded_instants_grow_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock(1_000, 5_000, 5_000, 4_000, 10, 6_000)
    stamps: list[Stamp] = []
    with fresh_database(tmp_path, now=clock) as database:
        for _ in range(5):
            stamps.append(database.write(lambda transaction: transaction.stamp, soon()))
    with fresh_database(tmp_path, now=Clock(1)) as database:
        stamps.append(database.write(lambda transaction: transaction.stamp, soon()))
    assert [stamp.instant for stamp in stamps] == [5_000, 5_001, 5_002, 5_003, 6_000, 6_001]
    assert [stamp.seq for stamp in stamps] == [1, 2, 3, 4, 5, 6]


def test_a_newer_schema_is_refused_at_opening(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        path = database.path
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(SchemaTooNew, match="999"):
        Database(tmp_path)


def test_a_schema_that_becomes_newer_is_refused_by_open_databases(database: Database) -> None:
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(SchemaTooNew, match="999"):
        database.write(add_wing("Paris"), soon())
    with pytest.raises(SchemaTooNew, match="999"):
        wings(database)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "palace.db")) as connection:
        connection.execute("CREATE TABLE theirs (name)")
    with pytest.raises(PalaceCorrupt, match="another program"):
        Database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "palace.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "palace.db").write_text("Dear diary, " * 1000)
    with pytest.raises(PalaceCorrupt, match=r"palace\.db"):
        Database(tmp_path)


def test_an_empty_file_left_by_a_crash_becomes_a_palace(tmp_path: Path) -> None:
    (tmp_path / "palace.db").touch()
    with fresh_database(tmp_path) as database:
        assert database.write(add_wing("Paris"), soon()) == 1


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "palace").touch()
    with pytest.raises(StorageError):
        Database(tmp_path / "palace")


def test_checkpoint_empties_the_log(database: Database) -> None:
    database.write(add_wing("Paris"), soon())
    assert database.checkpoint().complete
    assert database.statistics().log_bytes == 0
    with database.read():
        database.write(add_wing("Rome"), soon())
        assert not database.checkpoint().complete
    assert database.checkpoint().complete


def test_integrity_tells_of_damage(database: Database) -> None:
    database.write(add_wing("Paris"), soon())
    assert database.integrity() == []
    with contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO rooms (wing, key, name) VALUES (77, 'r', 'r')")
    assert database.integrity() == ["row 1 of rooms refers to nothing in wings"]


def test_closing_is_final_and_can_be_repeated(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write(add_wing("Paris"), soon())
    database.close()
    database.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["palace.db", "write.lock"]
    for use in (lambda: wings(database), lambda: database.write(add_wing("Rome"), soon()), database.reopen):
        with pytest.raises(StorageError, match="closed"):
            use()
    assert not database.statistics().available


def test_closing_lets_a_reader_finish(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write(add_wing("Paris"), soon())
    with database.read() as connection:
        closing = threading.Thread(target=database.close)
        closing.start()
        assert connection.execute("SELECT name FROM wings").fetchall() == [("Paris",)]
    closing.join()


def test_statistics(database: Database) -> None:
    before = database.statistics()
    database.write(add_wing("Paris"), soon())
    after = database.statistics()
    assert (after.available, after.writable, after.last_error) == (True, True, None)
    assert after.commits == before.commits + 1
    assert after.locks == before.locks + 1
    assert 0 < after.lock_wait_max <= after.lock_wait_total
    assert after.log_bytes is not None
    assert before.log_bytes is not None
    assert after.log_bytes > before.log_bytes
    assert after.database_bytes is not None
    with pytest.raises(DeadlineExceeded):
        database.write(add_wing("late"), Deadline(0))


def test_nothing_is_used_across_a_fork(tmp_path: Path) -> None:
    with Child("fork", tmp_path) as child:
        lines = child.rest()
    assert lines[0] == "lock held in child: False"
    assert all(line.startswith("StorageError") and "before a fork" in line for line in lines[1:4])
    assert lines[4:] == ["lock held in parent: True", "['parent']"]
