"""`mempalace-mcp doctor`: finds what is wrong with a palace, says what to do, and with `--fix` does the safe part.

Each check looks at one part: files and permissions, the database, vectors and index, the daemon. The doctor works
without a server and on palaces that no server can open.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
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
from mempalace_mcp.daemon import control, ipc
from mempalace_mcp.daemon.entry import abandoned, runtime_folder, sweep
from mempalace_mcp.embedding.encoder import verify_bundle
from mempalace_mcp.embedding.models import MODELS, model_of
from mempalace_mcp.palace import model_advice
from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.health import Limits
from mempalace_mcp.runtime.issues import Issue, IssueKind, Status, degraded, failing
from mempalace_mcp.storage.schema_mark import is_marked
from mempalace_mcp.storage.sqlite import DATABASE_FILE
from mempalace_mcp.storage.sqlite.connection import SQLITE_VERSION, WAL_BYTES_KEPT, log_of, verify_sqlite
from mempalace_mcp.storage.sqlite.database import LOCK_FILE, Database
from mempalace_mcp.storage.sqlite.inspection import Inspection, ask, damages, faulty_token_vectors, inspect
from mempalace_mcp.storage.sqlite.opening import Exposed, exposed, own_paths
from mempalace_mcp.storage.vectors.log import MOVE
from mempalace_mcp.storage.vectors.manifest import directories, discard_files, load_manifest, reason_to_rebuild

PALACE_ABSENT = failing("palace_absent", "Restore a backup, or name the palace with --palace or PALACE_PATH.")
PERMISSIONS = degraded("permissions", "Run `chmod go-rwx` on the palace's directory and these files.")
SQLITE_OLD = failing("sqlite_old", "Use a Python with a newer SQLite.")
MODEL_MISMATCH = degraded("model_mismatch", MOVE)
OTHER_LANGUAGES = IssueKind("other_languages", Status.OK, model_advice.REMEDY)
EMBEDDINGS_PENDING = degraded("embeddings_pending", "Start a session, or run `mempalace-mcp doctor --fix`.")
TOKENS_FAULTY = degraded("token_vectors_faulty", "Run `mempalace-mcp doctor --fix`, or `mempalace-mcp reindex`.")
INDEX_DOUBTFUL = degraded("index_doubtful", "Nothing: the index is rebuilt when it is next needed.")
DAEMON_SILENT = failing("daemon_silent", "Kill that process. Sessions start another one and lose nothing.")
STALE_ADDRESS = degraded("stale_address", "Nothing: the next daemon replaces it.")
STALE_SOCKETS = degraded("stale_sockets", "Nothing: the next daemon removes them.")

INDEX = "index"
INDEX_LOCK = "index.lock"
EMBED_LOCK = "embed.lock"

LOCK_SECONDS = 2.0
"""Whoever holds the write lock for longer is stuck, or imports much."""


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """The palace that is checked; the daemon's description of itself, or the error if it does not answer."""

    settings: Settings
    daemon: Mapping[str, Any] | None
    daemon_error: PalaceError | None

    @classmethod
    def of(cls, settings: Settings) -> DoctorContext:
        """Ask the palace's daemon, if there is one."""
        try:
            return cls(settings, control.describe(settings.palace), None)
        except (Busy, Forbidden) as error:
            return cls(settings, None, error)

    @property
    def directory(self) -> Path:
        """The palace's directory."""
        return self.settings.palace

    @property
    def is_served(self) -> bool:
        """Is there a daemon, whether it answers or not?"""
        return self.daemon is not None or self.daemon_error is not None


Check = Callable[[DoctorContext], Iterator[Issue]]
"""Looks at one part of the palace. A check that cannot see its part, because another part is broken, is silent."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """An issue, and how its repair went: what it did, or why it failed. Neither if none was tried."""

    issue: Issue
    repaired: str | None = None
    failed: str | None = None


def doctor(settings: Settings, fix: bool, as_json: bool) -> tuple[str, bool]:
    """Check the palace, with `fix` repair it: the report, and whether all is well now."""
    results = [_repair(issue) if fix else CheckResult(issue) for issue in _find_issues(settings)]
    well = all(result.repaired is not None or result.issue.status is Status.OK for result in results)
    if as_json:
        head = {"palace": settings.shown, "well": well, "sqlite": SQLITE_VERSION}
        return json.dumps({**head, "findings": [_as_json(result) for result in results]}, ensure_ascii=False), well
    verdict = f"{settings.shown} is healthy." if well else f"{settings.shown} needs attention."
    return "\n\n".join([*map(_as_text, results), verdict]), well


def _find_issues(settings: Settings) -> Iterator[Issue]:
    """All issues, each code once: the daemon may report what a check here has found already."""
    context, seen = DoctorContext.of(settings), set[str]()
    for check in _checks_of(settings):
        for issue in check(context):
            if issue.code not in seen:
                seen.add(issue.code)
                yield issue


def _checks_of(settings: Settings) -> Sequence[Check]:
    if settings.url is None:
        return CHECKS
    from mempalace_mcp.cli import doctor_of_server

    return doctor_of_server.CHECKS


def _repair(issue: Issue) -> CheckResult:
    if issue.repair is None:
        return CheckResult(issue)
    try:
        return CheckResult(issue, repaired=issue.repair())
    except PalaceError as error:
        return CheckResult(issue, failed=error.message)
    except OSError as error:
        return CheckResult(issue, failed=str(error))


def _as_json(result: CheckResult) -> dict[str, str | None]:
    issue = result.issue
    about = {"code": issue.code, "message": issue.message, "remedy": issue.remedy}
    return {**about, "mended": result.repaired, "failed": result.failed}


def _as_text(result: CheckResult) -> str:
    issue = result.issue
    lines = [f"{issue.code}: {output.harmless(issue.message)}"]
    if result.failed is not None:
        lines.append(f"could not be fixed: {output.harmless(result.failed)}")
    lines.append(issue.remedy if result.repaired is None else f"fixed: {output.harmless(result.repaired)}")
    return f"\n{output.INDENT}".join(lines)


def with_remedy(kind: IssueKind, remedy: str | None) -> IssueKind:
    """The kind with the remedy for this one case, if there is a better one than usual."""
    return replace(kind, remedy=remedy) if remedy else kind


def check_files(context: DoctorContext) -> Iterator[Issue]:
    """Presence, permissions, free space.

    Raises:
        StorageError: the palace's directory cannot be reached, so nothing can be checked.
    """
    directory = context.directory
    if not is_file(directory / DATABASE_FILE):
        yield Issue(PALACE_ABSENT, f"there is no {DATABASE_FILE} in {directory}")
    if not directory.is_dir():
        return
    yield from _check_permissions(directory)
    free = shutil.disk_usage(directory).free
    if free < Limits().free_bytes:
        yield Issue(issues.DISK_LOW, f"{output.size(free)} are left on the disk of {directory}")


def _check_permissions(directory: Path) -> Iterator[Issue]:
    """Of the palace's own files only; others may lie in its directory too."""
    if closed := [path for path in own_paths(directory) if not os.access(path, os.R_OK | os.W_OK)]:
        yield Issue(issues.STORAGE_READ_ONLY, f"this user cannot write {_names(closed)}")
    if found := list(exposed(directory)):
        kind = with_remedy(PERMISSIONS, f"Run `chmod go-rwx` on {directory} and these files.")
        message = f"other users have access to {_names(each.path for each in found)}"
        yield Issue(kind, message, partial(_close_to_others, found))


def _close_to_others(found: Iterable[Exposed]) -> str:
    for each in found:
        each.path.chmod(each.closed)
    return f"closed {_names(each.path for each in found)} to other users"


def _names(files: Iterable[Path]) -> str:
    return ", ".join(sorted(file.name for file in files))


def check_database(context: DoctorContext) -> Iterator[Issue]:
    """The database, its write-ahead log and its lock."""
    path = context.directory / DATABASE_FILE
    if not path.is_file():
        return
    try:
        verify_sqlite()
    except ConfigurationError as error:
        yield Issue(with_remedy(SQLITE_OLD, error.hint), error.message)
        return
    try:
        found, damaged = inspect(path), damages(path)
    except PalaceError as error:
        yield Issue(failing(error.code, error.hint or issues.PALACE_CORRUPT.remedy), error.message)
        return
    if is_marked(found.schema):
        yield Issue(issues.UNFINISHED_COPY, "this is a copy of a palace that is not finished yet")
    elif found.schema > found.newest_schema:
        message = f"the palace has schema {found.schema}; this version of the program knows {found.newest_schema}"
        yield Issue(issues.SCHEMA_TOO_NEW, message)
    if damaged:
        yield Issue(issues.PALACE_CORRUPT, f"SQLite finds {path} damaged: {'; '.join(damaged)}")
        return
    yield from _check_write_ahead_log(context)
    yield from _check_write_lock(context)


def _check_write_ahead_log(context: DoctorContext) -> Iterator[Issue]:
    log = log_of(context.directory / DATABASE_FILE)
    size = log.stat().st_size if log.is_file() else 0
    if size > WAL_BYTES_KEPT:
        message = f"the write-ahead log has {output.size(size)}; a reader stays open too long, or did"
        yield Issue(issues.LOG_LARGE, message, partial(_checkpoint, context))


def _checkpoint(context: DoctorContext) -> str:
    with closing(Database(context.directory)) as database:
        if not database.checkpoint().complete:
            raise Busy("a reader keeps the write-ahead log from shrinking")
    return "moved the write-ahead log into the database"


def _check_write_lock(context: DoctorContext) -> Iterator[Issue]:
    with closing(FileLock(context.directory / LOCK_FILE)) as lock:
        try:
            lock.acquire(Deadline(LOCK_SECONDS))
        except StorageError:  # it cannot be opened; `_check_permissions` reports that
            return
        except Busy:
            yield Issue(issues.LOCK_HELD, f"{lock.describe()}, is not released")


def check_vectors(context: DoctorContext) -> Iterator[Issue]:
    """The model's files, the vectors and Chroma's files. Without a readable database only the model is checked."""
    found = None
    with suppress(PalaceError):
        verify_sqlite()
        found = inspect(context.directory / DATABASE_FILE)
    yield from check_model(context, found.stamp if found else None)
    if found is not None:
        yield from _check_embeddings(context, found)
        yield from _check_tokens(context, found)
        yield from _check_chroma(context, found)


def check_model(context: DoctorContext, stamp: ModelStamp | None = None) -> Iterator[Issue]:
    """The files of the palace's model, or of the one of the settings."""
    model = model_of(stamp) or MODELS[context.settings.model]
    try:
        verify_bundle(model.directory)
    except EmbedderBroken as error:
        yield Issue(issues.EMBEDDER_MISSING, error.message)


def _check_embeddings(context: DoctorContext, found: Inspection) -> Iterator[Issue]:
    if found.stamp is not None and model_of(found.stamp) is None:
        own = ", ".join(_model_name(model.stamp) for model in MODELS.values())
        message = f"the vectors are of {_model_name(found.stamp)}; the models of this version are {own}"
        yield Issue(MODEL_MISMATCH, message)
    elif found.pending and not context.is_served and _is_free(context, EMBED_LOCK):
        passages = output.count(found.pending, "passage")
        message = f"{passages} can be found by words only, and no process computes their vectors"
        yield Issue(EMBEDDINGS_PENDING, message, partial(_rebuild, context))
    if found.stamp is not None:
        setting = context.settings.model
        advice = ask(
            context.directory / DATABASE_FILE, lambda connection: model_advice.reason_to_move(connection, setting)
        )
        if advice is not None:
            yield Issue(OTHER_LANGUAGES, advice)


def _check_tokens(context: DoctorContext, found: Inspection) -> Iterator[Issue]:
    faulty = faulty_token_vectors(context.directory / DATABASE_FILE) if found.schema == found.newest_schema else 0
    if faulty:
        message = f"{output.count(faulty, 'passage')} have faulty token vectors, and search ranks them without"
        yield Issue(TOKENS_FAULTY, message, partial(_rebuild, context))


def _check_chroma(context: DoctorContext, found: Inspection) -> Iterator[Issue]:
    index = context.directory / INDEX
    # The process that holds Chroma checks it itself, and a daemon reports it in its health.
    if found.moment is None or not directories(index) or not _is_free(context, INDEX_LOCK):
        return
    cause = reason_to_rebuild(index, load_manifest(index), found.moment)
    if cause is not None:
        message = f"Chroma's files cannot be trusted: {cause}"
        yield Issue(INDEX_DOUBTFUL, message, partial(_discard_and_rebuild, context))


def _discard_and_rebuild(context: DoctorContext) -> str:
    with closing(FileLock(context.directory / INDEX_LOCK)) as lock:
        if not lock.try_acquire():
            raise Busy("another process has begun to use Chroma's files")
        discard_files(context.directory / INDEX)
    return _rebuild(context)


def _rebuild(context: DoctorContext) -> str:
    differences, figures = rebuild(context.settings)
    if differences:
        raise StorageError(f"the index differs from the palace in {output.count(len(differences), 'place')}")
    return f"embedded the pending passages and rebuilt the index ({figures.rows_live:,} passages)"


def _model_name(stamp: ModelStamp) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} numbers)"


def _is_free(context: DoctorContext, name: str) -> bool:
    """Does no process hold this lock? A lock that cannot be opened counts as held."""
    with closing(FileLock(context.directory / name)) as lock:
        try:
            return lock.try_acquire()
        except StorageError:
            return False


def check_daemon(context: DoctorContext) -> Iterator[Issue]:
    """Its health as it reports it, and files left by earlier daemons."""
    if context.daemon_error is not None:
        yield Issue(with_remedy(DAEMON_SILENT, context.daemon_error.hint), context.daemon_error.message)
    if context.daemon is not None:
        for reason in context.daemon.get("health", {}).get("reasons", ()):
            message = f"process {context.daemon['pid']} reports: {reason['message']}"
            yield Issue(degraded(reason["code"], reason["remedy"]), message)
    file = context.directory / ipc.ADDRESS_FILE
    if not context.is_served and file.exists():
        yield Issue(STALE_ADDRESS, f"{file} belongs to a process that is gone", partial(_remove_address, file))
    folder = Path(runtime_folder(str(context.directory)))
    if left := list(abandoned(folder)):
        message = f"{output.count(len(left), 'socket')} in {folder} belong to processes that are gone"
        yield Issue(STALE_SOCKETS, message, partial(_sweep, folder))


def _remove_address(file: Path) -> str:
    lock = FileLock.take(str(file.with_name(ipc.LOCK_FILE)))
    if lock is None:
        raise Busy("a daemon has just started")
    try:
        ipc.forget(str(file))
    finally:
        lock.close()
    return f"removed {file}"


def _sweep(folder: Path) -> str:
    return f"removed {output.count(sweep(folder), 'socket')}"


CHECKS: tuple[Check, ...] = (check_files, check_database, check_vectors, check_daemon)
