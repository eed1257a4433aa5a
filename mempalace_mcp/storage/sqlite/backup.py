"""A backup: a copy of the palace in one file, made while it is in use and verified before it gets its name."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.errors import Conflict, InvalidArgument, PalaceCorrupt
from mempalace_mcp.core.files import create_file, explain_os_error, is_directory, sync_directory
from mempalace_mcp.storage.sqlite.connection import explain

PAGES_PER_STEP = 1024

Progress = Callable[[int, int], None]
"""Called with the pages copied and the pages there are."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A finished backup: where it is, its size in bytes, rows by table, and how many seconds it took."""

    path: Path
    bytes: int
    rows: Mapping[str, int]
    seconds: float


def back_up(source: sqlite3.Connection, destination: Path, progress: Progress | None = None) -> BackupReport:
    """Copy the snapshot that `source` reads to a new file, which is a palace by itself, without a write-ahead log.

    Raises:
        Conflict: something is at the destination already.
        InvalidArgument: the directory of the destination does not exist.
        StorageFull, StorageReadOnly, StorageError: the copy cannot be written.
        PalaceCorrupt: the copy failed its checks; it was removed.
    """
    started = time.monotonic()
    _verify_free(destination)
    partial = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.partial")
    try:
        create_file(partial)
        rows = copy_database(source, partial, progress)
        sync_file(partial)
        _publish(partial, destination)
    except sqlite3.Error as error:
        raise explain(error, partial) from error
    except OSError as error:
        raise explain_os_error(error, destination) from error
    finally:
        remove_database(partial)
    return BackupReport(destination, destination.stat().st_size, rows, time.monotonic() - started)


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """The rows of every table that is not internal to SQLite."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    ).fetchall()
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}


def copy_database(source: sqlite3.Connection, partial: Path, progress: Progress | None) -> dict[str, int]:
    """Copy the snapshot that `source` reads to an empty file without a log, and check it; its rows by table.

    Raises:
        PalaceCorrupt: the copy does not pass its checks.
        sqlite3.Error: it cannot be read or written.
    """
    target = sqlite3.connect(partial, isolation_level=None)
    try:
        report = None if progress is None else lambda _status, left, total: progress(total - left, total)
        source.backup(target, pages=PAGES_PER_STEP, progress=report)
        target.execute("PRAGMA journal_mode = DELETE")
        rows = count_rows(target)
        problems = [row[0] for row in target.execute("PRAGMA integrity_check(10)")]
    finally:
        target.close()
    if problems != ["ok"] or rows != count_rows(source):
        raise PalaceCorrupt(
            f"the copy does not pass its checks: {'; '.join(problems)}",
            hint="No backup was made. Check the palace with `mempalace-mcp doctor`.",
        )
    return rows


def _verify_free(destination: Path) -> None:
    if not is_directory(destination.parent):
        raise InvalidArgument(
            f"{destination.parent} is no directory", argument="destination", hint="Create it, or choose another."
        )
    if os.path.lexists(destination):
        raise _taken(destination)


def remove_database(partial: Path) -> None:
    """Remove a copy under its first name, and what SQLite may have left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{partial}{suffix}").unlink()


def _publish(partial: Path, destination: Path) -> None:
    """Give the file its name, never taking it from another one."""
    try:
        os.link(partial, destination)
    except FileExistsError:
        raise _taken(destination) from None
    except OSError:  # a file system without hard links
        _verify_free(destination)
        partial.rename(destination)
    sync_directory(destination.parent)


def sync_file(file: Path) -> None:
    """Write the file through to the disk.

    Raises:
        OSError: that failed.
    """
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _taken(destination: Path) -> Conflict:
    return Conflict(
        f"{destination} exists already", argument="destination", hint="Choose another name; nothing is overwritten."
    )
