"""Databases of other programs: what is read of them is consistent, and they are left as they were."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mempalace_mcp.core import foreign_database
from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound, PalaceError, StorageFull
from mempalace_mcp.core.foreign_database import is_database, open_foreign

WRITER = """\
import sqlite3, sys, time
path, mode, pause, checkpoint = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=60)
connection.execute(f"PRAGMA journal_mode = {mode}")
connection.execute("PRAGMA synchronous = OFF")
connection.execute("PRAGMA cache_size = 5")  # pages are written in the middle of transactions
connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")  # in pages
connection.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER, padding TEXT)")
connection.executemany("INSERT INTO accounts VALUES (?, 100, ?)", [(number, "p" * 3000) for number in range(100)])
print("ready", flush=True)
turn = 0
while pause == "no" or sys.stdin.readline():
    turn += 1
    connection.execute("BEGIN IMMEDIATE")
    for number in range(100):
        connection.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (turn, number))
    for number in range(100):
        connection.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (turn, 99 - number))
    connection.execute("UPDATE accounts SET padding = ? WHERE id = ?", (str(turn) * 500, turn % 100))
    connection.execute("COMMIT")
    if pause == "yes":
        print("written", flush=True)
    else:
        time.sleep(0.1)
"""


@contextmanager
def writer(path: Path, mode: str, *, pause: bool, checkpoint: int = 1000) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database open: it moves amounts all the time, or once for each line it gets."""
    command = [sys.executable, "-c", WRITER, str(path), mode, "yes" if pause else "no", str(checkpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def write_once(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"


def traces(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What can be seen of a folder and its files."""
    files = {each.name: (each.stat().st_mtime_ns, each.stat().st_mode, each.read_bytes()) for each in folder.iterdir()}
    return {".": (folder.stat().st_mtime_ns, folder.stat().st_mode, b""), **files}


def number_of_rows(path: Path, table: str = "accounts") -> int:
    with open_foreign(path) as database:
        return int(next(database.rows(f"SELECT count(*) FROM {table}"))[0])


def make(path: Path, mode: str = "DELETE", rows: int = 3) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO notes (body) VALUES (?)", [(f"note {n} " * 100,) for n in range(rows)])
    return path


def copy_slowly(source: Path, target: Path) -> None:
    """As on a disk that needs longer for the copy than the other program for a transaction."""
    with source.open("rb") as reader, target.open("wb") as sink:
        while block := reader.read(32 * 1024):
            sink.write(block)
            time.sleep(0.001)


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "PERSIST", "TRUNCATE"])
def test_a_snapshot_of_a_database_that_is_written_all_the_time_is_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(shutil, "copyfile", copy_slowly)
    monkeypatch.setattr(foreign_database, "_LONGEST_PAUSE", 0.02)
    path = tmp_path / "busy.db"
    seen: set[tuple[tuple[int, int, str], ...]] = set()
    refused = 0
    with writer(path, mode, pause=False, checkpoint=20) as process:
        while len(seen) < 5 and refused < 20:
            try:
                with open_foreign(path) as database:
                    assert list(database.rows("PRAGMA integrity_check")) == [("ok",)]
                    assert list(database.rows("SELECT sum(balance), count(*) FROM accounts")) == [(10_000, 100)]
                    rows = database.rows("SELECT id, balance, padding FROM accounts")
                    seen.add(tuple((number, balance, padding) for number, balance, padding in rows))
            except Busy:
                refused += 1
        assert process.poll() is None
    assert len(seen) >= 5, f"{refused} refused"


def test_a_log_that_begins_anew_during_the_copy_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the old log are in the database by then, after that was copied."""
    path = tmp_path / "busy.db"
    original, copies = shutil.copyfile, 0

    def copy_with_two_transactions_between(source: Path, target: Path) -> None:
        nonlocal copies
        original(source, target)
        copies += 1
        if copies == 1:
            write_once(process)
            write_once(process)

    with writer(path, "WAL", pause=True, checkpoint=20) as process:
        monkeypatch.setattr(shutil, "copyfile", copy_with_two_transactions_between)
        with open_foreign(path) as database:
            assert list(database.rows("PRAGMA integrity_check")) == [("ok",)]
            for number in (1, 2):
                assert (str(number) * 500,) in database.rows("SELECT padding FROM accounts")
    assert copies == 4  # the database and its log, twice


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_what_stands_in_the_log_alone_is_seen_and_nothing_is_left_behind(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "home" / "open.db"
    path.parent.mkdir()
    with writer(path, mode, pause=True) as process:
        write_once(process)
        before = traces(path.parent)
        path.parent.chmod(0o555)
        try:
            with open_foreign(path) as database:
                assert database.columns("accounts") == {"id", "balance", "padding"}
                assert ("1" * 500,) in database.rows("SELECT padding FROM accounts")
        finally:
            path.parent.chmod(0o755)
        assert traces(path.parent) == before
        write_once(process)  # nothing keeps it from writing
    assert number_of_rows(path) == 100


def test_a_log_without_its_shared_memory(tmp_path: Path) -> None:
    original = tmp_path / "original" / "killed.db"
    moved = tmp_path / "moved" / "killed.db"
    original.parent.mkdir()
    moved.parent.mkdir()
    with writer(original, "WAL", pause=True) as process:
        write_once(process)
        for name in ("killed.db", "killed.db-wal"):
            shutil.copy(original.parent / name, moved.parent)
    before = traces(moved.parent)
    with open_foreign(moved) as database:
        assert ("1" * 500,) in database.rows("SELECT padding FROM accounts")
    assert traces(moved.parent) == before
    assert set(before) == {".", "killed.db", "killed.db-wal"}


def test_a_transaction_that_was_cut_off_is_not_seen(tmp_path: Path) -> None:
    """Its original pages stand in a journal beside the database."""
    path = make(tmp_path / "cut.db", rows=200)
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 2'); c.execute('BEGIN'); c.execute(\"UPDATE notes SET body = 'half'\");"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert path.with_name("cut.db-journal").stat().st_size
    assert b"half" in path.read_bytes()
    before = traces(tmp_path)
    with open_foreign(path) as database:
        assert list(database.rows("SELECT count(*) FROM notes WHERE body = 'half'")) == [(0,)]
        assert list(database.rows("SELECT count(*) FROM notes")) == [(200,)]
    assert traces(tmp_path) == before


def test_a_link_leads_to_the_log_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "real.db"
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.db"
    link.symlink_to(path)
    with writer(path, "WAL", pause=True) as process:
        write_once(process)
        assert number_of_rows(link) == 100
    assert [each.name for each in link.parent.iterdir()] == ["link.db"]


def test_the_snapshot_stays_as_it_was_and_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    with writer(path, "WAL", pause=True) as process, open_foreign(path) as database:
        before = list(database.rows("SELECT * FROM accounts"))
        write_once(process)
        assert list(database.rows("SELECT * FROM accounts")) == before
        with pytest.raises(InvalidArgument, match="readonly"):
            list(database.rows("DELETE FROM accounts"))


def test_the_copy_goes_with_the_context(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = make(tmp_path / "a.db")
    with open_foreign(path, scratch) as database:
        assert len(list(scratch.iterdir())) == 1
        assert not [each for each in scratch.rglob("*") if each.is_file()]  # it ends with the process
        assert database.tables() == {"notes"}
    assert not list(scratch.iterdir())
    with pytest.raises(ZeroDivisionError), open_foreign(path, scratch):
        _ = 1 / 0
    assert not list(scratch.iterdir())


def test_versions_differ_in_columns_and_tables(tmp_path: Path) -> None:
    with open_foreign(make(tmp_path / "a.db")) as database:
        assert database.columns("notes") == {"id", "body"}
        assert database.columns("nowhere") == frozenset()
        with pytest.raises(InvalidArgument, match="no such table: nowhere"):
            list(database.rows("SELECT * FROM nowhere"))


def test_text_that_is_no_utf_8_can_be_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO notes (body) VALUES (CAST(x'61ff62' AS TEXT))")
    with open_foreign(path) as database:
        assert list(database.rows("SELECT body FROM notes")) == [("a\ufffdb",)]


def test_an_index_over_json_is_no_obstacle(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE items (value)")
        connection.execute("CREATE INDEX kinds ON items (json_extract(value, '$.kind'))")
    with open_foreign(path) as database:
        assert "items" in database.tables()
        assert list(database.rows("SELECT * FROM items")) == []


def test_virtual_tables_of_unknown_modules_are_no_obstacle(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)"
            " VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING vec0(embedding float[3])')"
        )
    assert number_of_rows(path, "notes") == 3


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (None, NotFound, "no file"),
        (b"hello, this is a text and no database at all", InvalidArgument, "is not an SQLite database"),
        (os.urandom(8192), InvalidArgument, "is not an SQLite database"),
        (b"SQLite format 3\0", InvalidArgument, "damaged"),
        (b"SQLite format 3\0" + b"\xff" * 5000, InvalidArgument, "damaged"),
    ],
)
def test_what_is_no_database(tmp_path: Path, content: bytes | None, kind: type[PalaceError], words: str) -> None:
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=words) as caught, open_foreign(path):
        pass
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_truncated_database_says_that_it_is_damaged(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=500)
    content = path.read_bytes()
    for size in (100, 4096, 5000, len(content) // 2, len(content) - 4096):
        path.write_bytes(content[:size])
        with pytest.raises(InvalidArgument, match="damaged"), open_foreign(path) as database:
            list(database.rows("SELECT body FROM notes"))
        assert path.read_bytes() == content[:size]


def test_an_empty_file_is_a_database_without_tables(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with open_foreign(tmp_path / "empty.db") as database:
        assert not database.tables()


def test_a_folder_and_a_pipe_are_no_databases(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidArgument, match="is not a file"), open_foreign(path):
            pass
        assert not is_database(path)


@pytest.mark.parametrize("path", [Path("nul\0"), Path("n" * 5000)])
def test_paths_that_cannot_be(path: Path) -> None:
    with pytest.raises(PalaceError), open_foreign(path):
        pass
    assert not is_database(path)


def test_databases_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("text")
    assert is_database(make(tmp_path / "a.db"))
    assert not is_database(tmp_path / "text.db")
    assert not is_database(tmp_path / "nowhere.db")


def test_a_database_that_never_rests_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.db")
    original = shutil.copyfile

    def copy_while_it_changes(source: Path, target: Path) -> None:
        original(source, target)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO notes (body) VALUES ('more')")

    monkeypatch.setattr(shutil, "copyfile", copy_while_it_changes)
    monkeypatch.setattr(foreign_database, "_LONGEST_PAUSE", 0)
    with pytest.raises(Busy, match="changes faster"), open_foreign(path):
        pass


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.db")
    monkeypatch.setattr(foreign_database, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageFull, match="no room") as caught, open_foreign(path, tmp_path):
        pass
    assert str(tmp_path) in caught.value.message
    assert tempfile.gettempdir() in caught.value.message


def test_a_write_that_fails_in_the_middle_is_explained(tmp_path: Path) -> None:
    """The limit on the size of files is that of a full disk here."""
    path = make(tmp_path / "a.db", rows=500)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageFull, match="no space left"), open_foreign(path, tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


def test_a_large_database_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (body BLOB)")
        connection.executemany("INSERT INTO notes VALUES (zeroblob(?))", [(1_000_000,)] * 200)
    script = (
        "import sys; from pathlib import Path; from mempalace_mcp.core.foreign_database import open_foreign\n"
        "with open_foreign(Path(sys.argv[1])) as database:\n"
        "    assert sum(len(body) for (body,) in database.rows('SELECT body FROM notes')) == 200_000_000\n"
        # Not `ru_maxrss`, which a process inherits from the one that started it.
        "print(int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100
