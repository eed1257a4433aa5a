"""A backup takes the place of a palace: by one renaming, of a file that is complete and on the disk.

A process that is killed at any moment leaves the former palace or the new one. SQLite finds a write-ahead log by its
name, so none of the former palace may be left when the new file gets its own. Thus the former palace first becomes one
file without a log, which nobody else has open. It stays beside the new one, under another name.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core import platform
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant, format_instant, now
from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound, PalaceCorrupt, SchemaTooNew, StorageError
from mempalace_mcp.core.files import create_directory, create_file, explain_os_error, is_file, sync_directory
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.sqlite import DATABASE_FILE
from mempalace_mcp.storage.sqlite.backup import Progress, copy_database, remove_database, sync_file
from mempalace_mcp.storage.sqlite.connection import code_of, explain, is_passing, is_there, verify_sqlite
from mempalace_mcp.storage.sqlite.database import LOCK_FILE
from mempalace_mcp.storage.sqlite.inspection import ask, open_to_inspect
from mempalace_mcp.storage.sqlite.migrations import load_migrations, migrate, schema_version, verify_schema

FILE = "FILE"
"""The argument that names a backup."""

ALONE_SECONDS = 10.0
"""How long other processes have to close the palace."""

_STAGED = "palace.db.restoring"
_RESTORE_LOCK = "restore.lock"
_KEPT = "palace-before-restore-"
_BESIDE = ("-wal", "-journal", "-shm")
"""What SQLite may leave beside a database that was not closed."""
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Contents:
    """What a palace's file holds: its schema, drawers that are not deleted, facts that are believed, and the moment of
    the last change."""

    schema: int
    drawers: int
    facts: int
    changed_at: Instant


def examine(file: Path) -> Contents:
    """What a backup holds. All of it is read and checked; nothing is changed.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is no palace, or damaged.
        SchemaTooNew: a newer version of the program has written it.
        StorageError: it cannot be read.
    """
    if not is_there(file):
        raise NotFound(f"there is no file {file}", argument=FILE, hint="Correct the path.")
    if not is_file(file):
        raise InvalidArgument(f"{file} is no file", argument=FILE, hint="Name the file that `backup` has written.")
    if not os.access(file, os.R_OK):
        raise StorageError(f"{file} cannot be read by this user", argument=FILE, hint="Let this user read it.")
    try:
        found, problems = ask(file, lambda connection: (_contents(connection), _problems(connection, file)))
    except PalaceCorrupt as error:
        raise _no_backup(file, error.message) from error
    if problems:
        raise _no_backup(file, "; ".join(problems))
    return found


def describe(directory: Path) -> Contents | None:
    """What the palace in a directory holds now; None if there is none, or none that can be read."""
    path = directory / DATABASE_FILE
    try:
        return ask(path, _contents) if is_there(path) else None
    except (PalaceCorrupt, SchemaTooNew, StorageError):
        return None


@contextlib.contextmanager
def staged(directory: Path, file: Path, progress: Progress | None = None) -> Iterator[Path]:
    """A copy of the backup beside the palace, with the newest schema, complete and on the disk; gone after the block.

    Raises:
        InvalidArgument: the backup is the palace itself.
        Busy: another process restores here.
        StorageError: the copy cannot be written.
    """
    verify_sqlite()
    create_directory(directory)
    copy = directory / _STAGED
    with contextlib.closing(FileLock(directory / _RESTORE_LOCK)) as lock:
        if not lock.try_acquire():
            raise Busy(f"another process restores here: {lock.describe()}", hint="Wait for its end.")
        _forget_aliases(directory)
        _refuse_itself(directory, file)
        remove_database(copy)  # of a process that was killed
        try:
            create_file(copy)
            with contextlib.closing(open_to_inspect(file)) as source:
                source.execute("BEGIN")
                copy_database(source, copy, progress)
            _begin_new_log(copy)
            sync_file(copy)
            yield copy
        except sqlite3.Error as error:
            raise explain(error, copy) from error
        except OSError as error:
            raise explain_os_error(error, copy) from error
        finally:
            remove_database(copy)


def replace_palace(directory: Path, copy: Path, deadline: Deadline) -> Path | None:
    """Give the copy the name of the palace. Where the former palace is now; None if there was none.

    The caller holds the daemon lock. Processes that wait with a write are refused it afterwards, until they reconnect.

    Raises:
        Busy: other processes do not close the palace.
        StorageError: the directory cannot be changed; the former palace is as it was.
    """
    path = directory / DATABASE_FILE
    try:
        with contextlib.closing(FileLock(directory / LOCK_FILE)) as lock, lock.hold(deadline):
            former = _hold_alone(path) if is_there(path) else None
            with contextlib.closing(former) if former else contextlib.nullcontext(), _set_aside(path) as kept:
                if former is not None and not platform.CAN_REMOVE_OPEN_FILES:
                    former.close()
                copy.replace(path)
            sync_directory(directory)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return kept


def _contents(connection: sqlite3.Connection) -> Contents:
    version = schema_version(connection)
    verify_schema(connection, len(load_migrations()))
    try:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM drawers WHERE deleted_at IS NULL),"
            " (SELECT count(*) FROM facts WHERE retracted_at IS NULL), recorded_at FROM state WHERE palace_id <> ''"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if code_of(error) != sqlite3.SQLITE_ERROR:  # of a table that is not there
            raise
        row = None
    if not version or row is None:
        raise PalaceCorrupt("it holds no palace")
    return Contents(version, *row)


def _problems(connection: sqlite3.Connection, file: Path) -> list[str]:
    """What is wrong with it. SQLite itself does not miss the end of a file when nothing is in its last page."""
    size = file.stat().st_size
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    if size % page:
        return [f"its end is missing: it has {size} bytes, which are no whole pages of {page}"]
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    return [] if found == ["ok"] else found


def _no_backup(file: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"{file} cannot be restored: {reason}", argument=FILE, hint="Nothing was changed. Choose another backup."
    )


def _refuse_itself(directory: Path, file: Path) -> None:
    path = directory / DATABASE_FILE
    if is_there(path) and path.samefile(file):
        raise InvalidArgument(f"{file} is the palace itself", argument=FILE, hint="Name the file of a backup.")


def _forget_aliases(directory: Path) -> None:
    """Remove second names of the palace's file, which a process that was killed has left."""
    path = directory / DATABASE_FILE
    for alias in directory.glob(f"{_KEPT}*.db"):
        if is_there(path) and alias.samefile(path):
            alias.unlink()


def _begin_new_log(copy: Path) -> None:
    """Bring the schema up to date, and give the log of vectors another name: one that no index follows yet.

    An index that has followed the former palace, or the same backup when it was restored before, may know other vectors
    under the numbers that come next.
    """
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, load_migrations())
        connection.execute("UPDATE state SET moves = max(moves + 1, ?)", (now(),))


def _hold_alone(path: Path) -> sqlite3.Connection | None:
    """A connection that keeps everybody else out of the palace, which is one file now, without a log; None if SQLite
    cannot read it.

    Raises:
        Busy: others have it open.
        StorageError: it cannot be written.
    """
    end = time.monotonic() + ALONE_SECONDS
    while True:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("PRAGMA journal_mode").fetchone() == ("delete",):  # else it was opened in between
                return connection
        except sqlite3.Error as error:
            if code_of(error) in _UNREADABLE:
                connection.close()
                return None
            if not is_passing(error):
                connection.close()
                raise explain(error, path) from error
        connection.close()
        if time.monotonic() > end:
            raise Busy(
                f"other processes have {path} open",
                hint="End sessions with --solo, imports and other programs that use the palace, then try again.",
            )
        time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def _set_aside(path: Path) -> Iterator[Path | None]:
    """Give the file at the path a second name, and what is left beside it another one; taken back if the block fails.

    Something is beside it only where SQLite cannot read the file, or it is missing.
    """
    kept = _free_name(path.parent)
    moved: list[tuple[Path, Path]] = []
    try:
        if is_there(path):
            _link(path, kept)
        for suffix in _BESIDE:
            file = Path(f"{path}{suffix}")
            if is_there(file):
                moved.append((file, file.rename(f"{kept}{suffix}")))
        sync_directory(path.parent)
        yield kept if moved or is_there(kept) else None
    except BaseException:
        for file, aside in moved:
            aside.rename(file)
        kept.unlink(missing_ok=True)
        raise


def _free_name(directory: Path) -> Path:
    moment = format_instant(now())[:19].replace(":", "").replace("T", "-")
    names = (f"{_KEPT}{moment}{f'-{number}' if number else ''}" for number in itertools.count())
    return next(directory / f"{name}.db" for name in names if not list(directory.glob(f"{name}.db*")))


def _link(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        create_file(kept)
        shutil.copyfile(path, kept)
        sync_file(kept)
