"""What is stored: can it be read, is it whole, does its log shrink, is its lock given back?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.finding import Finding, Patient
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import Busy, ConfigurationError, PalaceError, StorageError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.runtime import reasons
from mempalace_mcp.storage.connection import WAL_BYTES_KEPT, log_of, verify_sqlite
from mempalace_mcp.storage.database import DATABASE_FILE, LOCK_FILE, Database
from mempalace_mcp.storage.inspection import damages, inspect

LOCK_SECONDS = 2.0
"""A write lock that is held for longer is held by somebody who is stuck, or imports much."""


def examine_truth(patient: Patient) -> Iterator[Finding]:
    """The database, its log and its lock."""
    path = patient.directory / DATABASE_FILE
    if not path.is_file():
        return
    try:
        verify_sqlite()
    except ConfigurationError as error:
        yield Finding("sqlite_old", error.message, error.hint or "")
        return
    try:
        found, damaged = inspect(path), damages(path)
    except PalaceError as error:
        yield Finding(error.code, error.message, error.hint or reasons.PALACE_CORRUPT.remedy)
        return
    if found.schema > found.newest_schema:
        message = f"the palace has schema {found.schema}; this version of the program knows {found.newest_schema}"
        yield Finding.of(reasons.SCHEMA_TOO_NEW, message)
    if damaged:
        yield Finding.of(reasons.PALACE_CORRUPT, f"SQLite finds {path} damaged: {'; '.join(damaged)}")
        return
    yield from _log(patient)
    yield from _lock(patient)


def _log(patient: Patient) -> Iterator[Finding]:
    log = log_of(patient.directory / DATABASE_FILE)
    size = log.stat().st_size if log.is_file() else 0
    if size > WAL_BYTES_KEPT:
        message = f"the write-ahead log has {show.size(size)}; some reader stays open for long, or did"
        yield Finding.of(reasons.LOG_LARGE, message, partial(_checkpoint, patient))


def _checkpoint(patient: Patient) -> str:
    with closing(Database(patient.directory)) as database:
        if not database.checkpoint().complete:
            raise Busy("a reader keeps the write-ahead log from shrinking")
    return "moved the write-ahead log into the file"


def _lock(patient: Patient) -> Iterator[Finding]:
    with closing(FileLock(patient.directory / LOCK_FILE)) as lock:
        try:
            lock.acquire(Deadline(LOCK_SECONDS))
        except StorageError:  # it cannot be opened, which the permissions show
            return
        except Busy:
            yield Finding.of(reasons.LOCK_HELD, f"{lock.describe()}, is not given back")
