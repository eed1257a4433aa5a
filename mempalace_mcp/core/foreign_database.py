"""SQLite databases of other programs, read while those run, without a trace at their place.

Opening such a file where it lies can leave a `-shm` or `-wal` behind, and `immutable` does not see what stands in the
`-wal` alone. So the database is copied with its log, and the copy is read. No lock is taken, since it would keep the
other program from writing. The copy is consistent all the same:

- with a `-wal`, a checkpoint only copies pages from the log into the database. If the log that is copied last has the
  header that it had before, it still holds all of these pages, and its frames have checksums;
- with a `-journal`, the same holds for the original pages, and opening the copy puts them back;
- with neither, the database itself must not have changed.

Else it is copied again.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound, PalaceError, StorageError, StorageFull

_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_SIDE_FILES = ("-wal", "-journal")
_FAILURES = (sqlite3.Error, UnicodeError)
"""Of a damaged database. A message that quotes it need not be UTF-8, and then is not even one of SQLite."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ATTEMPTS = 12
_LONGEST_PAUSE = 1.0
_SPARE_BYTES = 16 * 1024 * 1024
"""What merging the log may need beyond the size of the files."""


class ForeignDatabase:
    """A snapshot of another program's database, which cannot be changed. For one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one after the other. Text that is no UTF-8 has U+FFFD for what cannot be read.

        Raises:
            InvalidArgument: the file is damaged, or has no such table or column.
        """
        try:
            yield from self._connection.execute(sql, parameters)
        except _FAILURES as error:
            raise _explain(error, self.path) from error

    def tables(self) -> frozenset[str]:
        """The names of its tables and views.

        Raises:
            InvalidArgument: the file is damaged.
        """
        found = self.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        return frozenset(name for (name,) in found)

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns, which differ between versions of a program; none if there is no such table.

        Raises:
            InvalidArgument: the file is damaged.
        """
        return frozenset(name for (name,) in self.rows("SELECT name FROM pragma_table_info(?)", (table,)))


@contextmanager
def open_foreign(path: Path, scratch: Path | None = None) -> Iterator[ForeignDatabase]:
    """A snapshot of the SQLite database at `path`, for as long as the context lasts.

    The copy lies in `scratch` if that has room for it, else in the system's folder for temporary files. Where the
    system can, it has no name there once it is open, and so goes with this process however that ends.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is not an SQLite database, or damaged.
        Busy: it changes faster than it can be copied.
        StorageFull: there is no room for the copy.
        StorageError: it cannot be read.
    """
    source = _verified(path)
    with tempfile.TemporaryDirectory(prefix="snapshot-", dir=_roomy(source, scratch)) as folder:
        copy = _copied(source, Path(folder))
        with closing(_opened(copy, path)) as connection:
            if platform.CAN_REMOVE_OPEN_FILES:
                copy.unlink()
            yield ForeignDatabase(connection, path)


def is_database(path: Path) -> bool:
    """Does the file begin as SQLite databases do? Nothing else of it is looked at."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and _head(path, len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def _verified(path: Path) -> Path:
    """The file itself, beside which its log lies, wherever links to it are."""
    with _explained(path):
        source = path.resolve(strict=True)
        if not stat.S_ISREG(source.stat().st_mode):
            raise InvalidArgument(f"{path} is not a file", hint="Name an SQLite database.")
        if source.stat().st_size and _head(source, len(_MAGIC)) != _MAGIC:
            raise InvalidArgument(
                f"{path} is not an SQLite database", hint="It may be encrypted, or of another kind: name another file."
            )
    return source


def _roomy(source: Path, scratch: Path | None) -> Path:
    """The folder for the copy."""
    with _explained(source):
        needed = _SPARE_BYTES + sum(each.stat().st_size for each in _files(source) if each.exists())
    folders = [scratch] if scratch is not None and scratch.is_dir() else []
    folders.append(Path(tempfile.gettempdir()))
    for folder in folders:
        if shutil.disk_usage(folder).free >= needed:
            return folder
    raise StorageFull(
        f"there is no room for a copy of {source} ({needed:,} bytes) in {' or '.join(map(str, folders))}",
        hint="Free some space there, or name a folder on another disk by TMPDIR.",
    )


def _files(source: Path) -> list[Path]:
    return [source, *(source.with_name(source.name + suffix) for suffix in _SIDE_FILES)]


def _copied(source: Path, folder: Path) -> Path:
    """A consistent copy of the database, with the log that belongs to it."""
    copy = folder / "database"
    for attempt in range(_ATTEMPTS):
        with _explained(source):
            before = _state(source)
            for original, target in zip(_files(source), _files(copy), strict=True):  # the logs after the database
                target.unlink(missing_ok=True)
                if original == source or original.exists():
                    _copy(original, target)
            if _state(source) == before:
                return copy
        time.sleep(min(0.02 * 2**attempt, _LONGEST_PAUSE))
    raise Busy(
        f"{source} changes faster than it can be copied",
        hint="Stop the program that writes it, or try again when it has less to do.",
    )


def _copy(original: Path, target: Path) -> None:
    try:
        shutil.copyfile(original, target)
    except FileNotFoundError:  # a log that was removed since; the database is looked for again by the caller
        target.unlink(missing_ok=True)


def _state(source: Path) -> tuple[object, ...]:
    """What is the same before and after a copy that is consistent."""
    database, log, journal = (_head(path, 100) for path in _files(source))
    at = source.stat()
    is_logged = database[18:20] == b"\2\2" and len(log) >= 32
    is_journaled = journal.startswith(_JOURNAL_MAGIC)
    if is_logged:
        return (at.st_ino, log[:32])
    if is_journaled:
        return (at.st_ino, journal[:8], journal[12:28])  # between them, the number of pages in the journal grows
    return (at.st_ino, at.st_size, at.st_mtime_ns, database)


def _head(path: Path, size: int) -> bytes:
    """The first bytes of a file; none if there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""


def _opened(copy: Path, path: Path) -> sqlite3.Connection:
    """A connection to the copy, in which its log was merged."""
    connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            _prepare(connection, "OFF")  # the schema is a stranger's
        except sqlite3.DatabaseError as error:
            if "unsafe use of" not in str(error):
                raise
            # Some versions of SQLite say so of functions of JSON in an index. This connection has no functions but
            # those that come with SQLite, of which it lets no schema use the dangerous ones.
            _prepare(connection, "ON")
        connection.execute("PRAGMA query_only = ON")
    except _FAILURES as error:
        connection.close()
        raise _explain(error, path) from error
    return connection


def _prepare(connection: sqlite3.Connection, trust: str) -> None:
    """Merge the log and read the schema."""
    connection.execute(f"PRAGMA trusted_schema = {trust}")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # needs no shared memory
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _explain(error: Exception, path: Path) -> PalaceError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"no space left for the copy of {path}", hint="Free some space, then try again.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, UnicodeError):
        return InvalidArgument(f"{path} is damaged: {error}", hint="Repair it with its own program, or use a backup.")
    return InvalidArgument(f"{path} cannot be read as expected: {error}", hint="It may be of an unknown version.")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """The palace's errors for those of the operating system about the files at the source, and the copy."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", hint="Check the path.") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"no space left for a copy of {path}", hint="Free some space, then try again.") from error
        hint = "Check the path, and that this user may read it."
        raise StorageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise InvalidArgument(f"{path!r} is no path: {error}", hint="Check the path.") from error
