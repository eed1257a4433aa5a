"""`mempalace-mcp doctor`: what is wrong with a palace, and what can be done about it.

One thing that is wrong, and how it is mended.

The process behind the sessions: does it answer, how is it, has an earlier one left something?

The palace's directory and files: are they there, may we write them, may others read them, is there space?

What is stored: can it be read, is it whole, does its log shrink, is its lock given back?

What is derived from the truth: the model's files, the vectors it made, Chroma's files.

`doctor`: what is wrong with a palace, what to do about it, and with `--fix` the part of that which is safe.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mempalace_mcp.cli import output
from mempalace_mcp.cli.manage import rebuild
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import Busy, ConfigurationError, EmbedderBroken, Forbidden, PalaceError, StorageError
from mempalace_mcp.core.files import is_file
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.daemon import control
from mempalace_mcp.daemon import ipc as addresses
from mempalace_mcp.daemon.connector import DaemonLock
from mempalace_mcp.daemon.entry import abandoned, runtime_folder, sweep
from mempalace_mcp.embedding.encoder import BUNDLED, verify_bundle
from mempalace_mcp.runtime import health
from mempalace_mcp.runtime.health import HealthCode, Limits
from mempalace_mcp.storage.sqlite.connection import WAL_BYTES_KEPT, log_of, verify_sqlite
from mempalace_mcp.storage.sqlite.database import DATABASE_FILE, LOCK_FILE, Database
from mempalace_mcp.storage.sqlite.inspection import Inspection, damages, inspect
from mempalace_mcp.storage.sqlite.opening import Exposed, exposed, own_paths
from mempalace_mcp.storage.vectors.log import REINDEX
from mempalace_mcp.storage.vectors.manifest import directories, discard_files, doubt, load_record

Repair = Callable[[], str]
"""Mends it without any danger to what is stored, and says what was done. May raise PalaceError or OSError."""


@dataclass(frozen=True, slots=True)
class DoctorIssue:
    """A code from a closed set, a sentence, what a person can do, and the repair if there is a safe one."""

    code: str
    message: str
    remedy: str
    repair: Repair | None = None

    @classmethod
    def of(cls, reason: HealthCode, message: str, repair: Repair | None = None) -> DoctorIssue:
        """What a process that serves would call by the same name."""
        return cls(reason.code, message, reason.remedy, repair)


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """The palace that is examined, what its daemon tells of itself, or why that does not answer."""

    settings: Settings
    daemon: Mapping[str, Any] | None
    silence: PalaceError | None

    @property
    def directory(self) -> Path:
        """Where the palace is."""
        return self.settings.palace

    @property
    def is_served(self) -> bool:
        """Is there a daemon, whether it answers or not?"""
        return self.daemon is not None or self.silence is not None


Examination = Callable[[DoctorContext], Iterator[DoctorIssue]]
"""Looks at one part of the palace. What another part makes impossible to see is not found twice."""


def doctor_context(settings: Settings) -> DoctorContext:
    """The palace, and what its daemon says of itself."""
    try:
        return DoctorContext(settings, control.describe(settings.palace), None)
    except (Busy, Forbidden) as error:
        return DoctorContext(settings, None, error)


def examine_daemon(patient: DoctorContext) -> Iterator[DoctorIssue]:
    """Its health, and what is left of those before it."""
    if patient.silence is not None:
        remedy = patient.silence.hint or "Kill that process; sessions start another and lose nothing."
        yield DoctorIssue("daemon_silent", patient.silence.message, remedy)
    if patient.daemon is not None:
        for reason in patient.daemon.get("health", {}).get("reasons", ()):
            message = f"process {patient.daemon['pid']} says: {reason['message']}"
            yield DoctorIssue(reason["code"], message, reason["remedy"])
    file = patient.directory / addresses.FILE
    if not patient.is_served and file.exists():
        message, remedy = f"{file} is of a process that is gone", "Nothing: the next one replaces it."
        yield DoctorIssue("stale_address", message, remedy, partial(_forget, file))
    folder = Path(runtime_folder(str(patient.directory)))
    if left := list(abandoned(folder)):
        message = f"{output.count(len(left), 'socket')} in {folder} are of processes that are gone"
        yield DoctorIssue("stale_sockets", message, "Nothing: the next daemon removes them.", partial(_sweep, folder))


def _forget(file: Path) -> str:
    seat = DaemonLock.take(str(file.with_name(addresses.LOCK)))
    if seat is None:
        raise Busy("a daemon has just begun")
    try:
        addresses.forget(str(file))
    finally:
        seat.close()
    return f"removed {file}"


def _sweep(folder: Path) -> str:
    return f"removed {output.count(sweep(folder), 'socket')}"


def examine_files(patient: DoctorContext) -> Iterator[DoctorIssue]:
    """Presence, permissions, space.

    Raises:
        StorageError: the palace cannot be reached, so there is nothing to examine.
    """
    directory = patient.directory
    if not is_file(directory / DATABASE_FILE):
        message = f"there is no {DATABASE_FILE} in {directory}"
        yield DoctorIssue(
            "palace_absent", message, "Restore a backup, or name the palace with --palace or PALACE_PATH."
        )
    if not directory.is_dir():
        return
    yield from _permissions(directory)
    free = shutil.disk_usage(directory).free
    if free < Limits().free_bytes:
        yield DoctorIssue.of(health.DISK_LOW, f"{output.size(free)} are left on the disk of {directory}")


def _permissions(directory: Path) -> Iterator[DoctorIssue]:
    """What is not the palace's in its directory is nobody's business here."""
    if closed := [path for path in own_paths(directory) if not os.access(path, os.R_OK | os.W_OK)]:
        yield DoctorIssue.of(health.STORAGE_READ_ONLY, f"this user cannot write {_names(closed)}")
    if found := list(exposed(directory)):
        names = _names(each.path for each in found)
        message, remedy = f"other users have access to {names}", f"chmod go-rwx {directory} and these files."
        yield DoctorIssue("permissions", message, remedy, partial(_close_to_others, found))


def _close_to_others(found: Iterable[Exposed]) -> str:
    for each in found:
        each.path.chmod(each.closed)
    return f"closed {_names(each.path for each in found)} to other users"


def _names(files: Iterable[Path]) -> str:
    return ", ".join(sorted(file.name for file in files))


LOCK_SECONDS = 2.0
"""A write lock that is held for longer is held by somebody who is stuck, or imports much."""


def examine_truth(patient: DoctorContext) -> Iterator[DoctorIssue]:
    """The database, its log and its lock."""
    path = patient.directory / DATABASE_FILE
    if not path.is_file():
        return
    try:
        verify_sqlite()
    except ConfigurationError as error:
        yield DoctorIssue("sqlite_old", error.message, error.hint or "")
        return
    try:
        found, damaged = inspect(path), damages(path)
    except PalaceError as error:
        yield DoctorIssue(error.code, error.message, error.hint or health.PALACE_CORRUPT.remedy)
        return
    if found.schema > found.newest_schema:
        message = f"the palace has schema {found.schema}; this version of the program knows {found.newest_schema}"
        yield DoctorIssue.of(health.SCHEMA_TOO_NEW, message)
    if damaged:
        yield DoctorIssue.of(health.PALACE_CORRUPT, f"SQLite finds {path} damaged: {'; '.join(damaged)}")
        return
    yield from _log(patient)
    yield from _lock(patient)


def _log(patient: DoctorContext) -> Iterator[DoctorIssue]:
    log = log_of(patient.directory / DATABASE_FILE)
    size = log.stat().st_size if log.is_file() else 0
    if size > WAL_BYTES_KEPT:
        message = f"the write-ahead log has {output.size(size)}; some reader stays open for long, or did"
        yield DoctorIssue.of(health.LOG_LARGE, message, partial(_checkpoint, patient))


def _checkpoint(patient: DoctorContext) -> str:
    with closing(Database(patient.directory)) as database:
        if not database.checkpoint().complete:
            raise Busy("a reader keeps the write-ahead log from shrinking")
    return "moved the write-ahead log into the file"


def _lock(patient: DoctorContext) -> Iterator[DoctorIssue]:
    with closing(FileLock(patient.directory / LOCK_FILE)) as lock:
        try:
            lock.acquire(Deadline(LOCK_SECONDS))
        except StorageError:  # it cannot be opened, which the permissions show
            return
        except Busy:
            yield DoctorIssue.of(health.LOCK_HELD, f"{lock.describe()}, is not given back")


INDEX = "index"
INDEX_LOCK = "index.lock"
EMBED_LOCK = "embed.lock"


def examine_vectors(patient: DoctorContext) -> Iterator[DoctorIssue]:
    """The model first; without a truth that can be read there is nothing to compare the rest with."""
    own = None
    try:
        own = verify_bundle(BUNDLED).stamp
    except EmbedderBroken as error:
        yield DoctorIssue.of(health.EMBEDDER_MISSING, error.message)
    try:
        verify_sqlite()
        found = inspect(patient.directory / DATABASE_FILE)
    except PalaceError:
        return
    yield from _embeddings(patient, found, own)
    yield from _chroma(patient, found)


def _embeddings(patient: DoctorContext, found: Inspection, own: ModelStamp | None) -> Iterator[DoctorIssue]:
    if own is not None and found.stamp not in (None, own):
        message = f"the vectors stem from {_name(found.stamp)}, and the model of this version is {_name(own)}"
        yield DoctorIssue("model_mismatch", message, REINDEX)
    elif found.pending and not patient.is_served and _is_free(patient, EMBED_LOCK):
        passages = output.count(found.pending, "passage")
        message = f"{passages} can be found by words alone, and nobody is at it"
        remedy = "Start a session, or run `mempalace-mcp doctor --fix`."
        yield DoctorIssue("embeddings_pending", message, remedy, partial(_rebuild, patient))


def _chroma(patient: DoctorContext, found: Inspection) -> Iterator[DoctorIssue]:
    """Whoever holds Chroma knows best how it is; a daemon tells in its health."""
    index = patient.directory / INDEX
    if found.moment is None or not directories(index) or not _is_free(patient, INDEX_LOCK):
        return
    doubts = doubt(index, load_record(index), found.moment)
    if doubts is not None:
        message = f"Chroma's files cannot be trusted: {doubts}"
        remedy = "Nothing: they are built anew when they are next needed."
        yield DoctorIssue("index_doubtful", message, remedy, partial(_discard_and_rebuild, patient))


def _discard_and_rebuild(patient: DoctorContext) -> str:
    with closing(FileLock(patient.directory / INDEX_LOCK)) as lock:
        if not lock.try_acquire():
            raise Busy("another process has begun to use Chroma's files")
        discard_files(patient.directory / INDEX)
    return _rebuild(patient)


def _rebuild(patient: DoctorContext) -> str:
    differences, figures = rebuild(patient.settings)
    if differences:
        raise StorageError(f"the index differs from the truth in {output.count(len(differences), 'place')}")
    return f"embedded what was pending and rebuilt the index ({figures.rows_live:,} passages)"


def _name(stamp: ModelStamp | None) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} numbers)" if stamp else "none"


def _is_free(patient: DoctorContext, name: str) -> bool:
    """Does no process hold this lock? A lock that cannot be opened is not free either."""
    with closing(FileLock(patient.directory / name)) as lock:
        try:
            return lock.try_acquire()
        except StorageError:
            return False


EXAMINATIONS: tuple[Examination, ...] = (examine_files, examine_truth, examine_vectors, examine_daemon)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A finding and what was done: `mended` tells how, `failed` why not; neither if nothing was tried."""

    finding: DoctorIssue
    mended: str | None = None
    failed: str | None = None


def doctor(settings: Settings, fix: bool, as_json: bool) -> tuple[str, bool]:
    """What to tell, and whether the palace is well now."""
    treated = [_treat(finding) if fix else CheckResult(finding) for finding in _examine(settings)]
    well = all(each.mended is not None for each in treated)
    if as_json:
        told = {"palace": str(settings.palace), "well": well, "sqlite": sqlite3.sqlite_version}
        return json.dumps(told | {"findings": [_as_json(each) for each in treated]}, ensure_ascii=False), well
    verdict = f"{settings.palace} is well." if well else f"{settings.palace} needs you."
    return "\n\n".join([*map(_as_text, treated), verdict]), well


def _examine(settings: Settings) -> Iterator[DoctorIssue]:
    """Everything, each code once: what the daemon says as well is what we have seen."""
    patient, seen = doctor_context(settings), set[str]()
    for examine in EXAMINATIONS:
        for finding in examine(patient):
            if finding.code not in seen:
                seen.add(finding.code)
                yield finding


def _treat(finding: DoctorIssue) -> CheckResult:
    if finding.repair is None:
        return CheckResult(finding)
    try:
        return CheckResult(finding, mended=finding.repair())
    except PalaceError as error:
        return CheckResult(finding, failed=error.message)
    except OSError as error:
        return CheckResult(finding, failed=str(error))


def _as_json(treated: CheckResult) -> dict[str, str | None]:
    finding = treated.finding
    told = {"code": finding.code, "message": finding.message, "remedy": finding.remedy}
    return {**told, "mended": treated.mended, "failed": treated.failed}


def _as_text(treated: CheckResult) -> str:
    finding = treated.finding
    lines = [f"{finding.code}: {output.harmless(finding.message)}"]
    if treated.failed is not None:
        lines.append(f"could not be mended: {output.harmless(treated.failed)}")
    lines.append(finding.remedy if treated.mended is None else f"mended: {output.harmless(treated.mended)}")
    return f"\n{output.INDENT}".join(lines)
