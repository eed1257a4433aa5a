"""What the doctor checks of a palace in PostgreSQL: address, server, rights, tables. Nothing there is changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mempalace_mcp.cli import output
from mempalace_mcp.cli.doctor import (
    MODEL_MISMATCH,
    OTHER_LANGUAGES,
    PALACE_ABSENT,
    PERMISSIONS,
    TOKENS_FAULTY,
    DoctorContext,
    check_daemon,
    check_model,
    with_remedy,
)
from mempalace_mcp.core import platform
from mempalace_mcp.core.errors import PalaceError, StorageReadOnly
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.embedding.models import model_of
from mempalace_mcp.palace import model_advice
from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.health import Limits, server_issues
from mempalace_mcp.runtime.issues import Issue, IssueKind, Status, degraded, failing
from mempalace_mcp.storage.drawers import ChunkLog
from mempalace_mcp.storage.postgres.driver import verify_driver
from mempalace_mcp.storage.schema_mark import is_marked
from mempalace_mcp.storage.token_vectors import count_faults

if TYPE_CHECKING:
    from mempalace_mcp.storage.postgres.inspection import Examination

MISFIT = failing("server_misfit", "Upgrade it, then run the doctor again.")
EXTENSION = failing("extension_missing", "Run CREATE EXTENSION vector there as an administrator of the database.")
RIGHTS = failing("rights_missing", "As the owner of the database: GRANT CREATE ON DATABASE name TO user.")
POOLER = degraded("pooler", "Add prepare=no to the address, or let the pooler keep prepared statements.")
UNVERIFIED = IssueKind(
    "server_unverified", Status.OK, "Over a network that others use, add sslmode=verify-full and sslrootcert=FILE."
)
INDEX_INVALID = degraded("index_invalid", "Run REINDEX INDEX CONCURRENTLY for it, or DROP INDEX if nobody made it.")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_address(context: DoctorContext) -> Iterator[Issue]:
    """The file that holds the address, if this user owns it."""
    file = context.settings.url_file
    if file is None or not platform.HAS_FILE_MODES:
        return
    status = file.stat()
    if status.st_uid == platform.user_id() and status.st_mode & _OTHERS:
        kind = with_remedy(PERMISSIONS, f"Run `chmod go-rwx {file}`.")
        yield Issue(kind, f"other users have access to {file}, which holds the palace's address", partial(_close, file))


def _close(file: Path) -> str:
    file.chmod(stat.S_IMODE(file.stat().st_mode) & ~_OTHERS)
    return f"closed {file} to other users"


def check_server(context: DoctorContext) -> Iterator[Issue]:
    """Whether the server can be reached, is new enough, and lets this user do what a palace needs."""
    url = context.settings.url
    assert url is not None
    try:
        verify_driver(url)
        from mempalace_mcp.storage.postgres.inspection import examine

        found = examine(url)
    except StorageReadOnly as error:
        yield Issue(with_remedy(RIGHTS, error.hint), error.message)
        return
    except PalaceError as error:
        yield Issue(with_remedy(issues.SERVER_UNREACHABLE, error.hint), error.message)
        return
    yield from _check_fitness(found, url)
    if not found.is_there:
        remedy = "Name another one, restore a dump, or file something: then it is made."
        yield Issue(with_remedy(PALACE_ABSENT, remedy), f"there is no palace at {url}")
    elif is_marked(found.schema):
        yield Issue(issues.UNFINISHED_COPY, "this is a copy of a palace that is not finished yet")
    elif found.schema > found.newest_schema:
        message = f"the palace has schema {found.schema}; this version of the program knows {found.newest_schema}"
        yield Issue(issues.SCHEMA_TOO_NEW, message)
    elif found.schema == found.newest_schema:
        yield from _check_tables(context, url)


def _check_fitness(found: Examination, url: PalaceUrl) -> Iterator[Issue]:
    if found.misfit is not None:
        yield Issue(with_remedy(MISFIT, found.misfit.hint), found.misfit.message)
    if found.server.vector_version is None:
        yield Issue(EXTENSION, f"{url} does not have the extension vector")
    if found.forbidden:
        remedy = f"As the owner of the schema: GRANT ALL ON ALL TABLES IN SCHEMA {url.schema} TO user."
        yield Issue(with_remedy(RIGHTS, remedy if found.is_there else None), f"this user may not {found.forbidden}")
    if found.is_pooled and url.prepares:
        yield Issue(POOLER, f"a pooler stands before {url}, which may mix up prepared statements")
    if found.doubt:
        yield Issue(UNVERIFIED, f"the connection to {url} {found.doubt}")
    yield from server_issues(found.server, Limits())
    for name in found.server.invalid_indexes:
        yield Issue(INDEX_INVALID, f"the index {url.schema}.{name} is not valid: making it was interrupted")


def _check_tables(context: DoctorContext, url: PalaceUrl) -> Iterator[Issue]:
    from mempalace_mcp.storage.postgres.inspection import ask

    try:
        stamp = ask(url, lambda connection: ChunkLog().model_stamp(connection))
        advice = ask(url, lambda connection: model_advice.reason_to_move(connection, context.settings.model))
        faulty = ask(url, count_faults)
    except PalaceError as error:
        yield Issue(failing(error.code, error.hint or issues.PALACE_CORRUPT.remedy), error.message)
        return
    if stamp is not None and model_of(stamp) is None:
        yield Issue(MODEL_MISMATCH, f"the vectors are of {stamp.name}, a model that this version does not have")
    elif advice is not None:
        yield Issue(OTHER_LANGUAGES, advice)
    if faulty:
        message = f"{output.count(faulty, 'passage')} have faulty token vectors, and search ranks them without"
        yield Issue(with_remedy(TOKENS_FAULTY, "Run `mempalace-mcp reindex`."), message)


def check_folder(context: DoctorContext) -> Iterator[Issue]:
    """This machine's directory for the palace, if there is one."""
    directory = context.directory
    if directory.is_dir() and not os.access(directory, os.R_OK | os.W_OK):
        yield Issue(issues.STORAGE_READ_ONLY, f"this user cannot write {directory}, where its daemon would be found")


CHECKS = (check_address, check_server, check_folder, check_model, check_daemon)
