"""What is derived from the truth: the model's files, the vectors it made, Chroma's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.finding import Finding, Patient
from mempalace_mcp.cli.upkeep import rebuild
from mempalace_mcp.core.errors import Busy, EmbedderBroken, PalaceError, StorageError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.bundle import BUNDLED, verify_bundle
from mempalace_mcp.runtime import reasons
from mempalace_mcp.storage.connection import verify_sqlite
from mempalace_mcp.storage.database import DATABASE_FILE
from mempalace_mcp.storage.inspection import Inspection, inspect
from mempalace_mcp.storage.vectors.record import directories, discard_files, doubt, load_record
from mempalace_mcp.storage.vectors.truth import REINDEX

INDEX = "index"
INDEX_LOCK = "index.lock"
EMBED_LOCK = "embed.lock"


def examine_vectors(patient: Patient) -> Iterator[Finding]:
    """The model first; without a truth that can be read there is nothing to compare the rest with."""
    own = None
    try:
        own = verify_bundle(BUNDLED).stamp
    except EmbedderBroken as error:
        yield Finding.of(reasons.EMBEDDER_MISSING, error.message)
    try:
        verify_sqlite()
        found = inspect(patient.directory / DATABASE_FILE)
    except PalaceError:
        return
    yield from _embeddings(patient, found, own)
    yield from _chroma(patient, found)


def _embeddings(patient: Patient, found: Inspection, own: ModelStamp | None) -> Iterator[Finding]:
    if own is not None and found.stamp not in (None, own):
        message = f"the vectors stem from {_name(found.stamp)}, and the model of this version is {_name(own)}"
        yield Finding("model_mismatch", message, REINDEX)
    elif found.pending and not patient.is_served and _is_free(patient, EMBED_LOCK):
        passages = show.count(found.pending, "passage")
        message = f"{passages} can be found by words alone, and nobody is at it"
        remedy = "Start a session, or run `mempalace-mcp doctor --fix`."
        yield Finding("embeddings_pending", message, remedy, partial(_rebuild, patient))


def _chroma(patient: Patient, found: Inspection) -> Iterator[Finding]:
    """Whoever holds Chroma knows best how it is; a daemon tells in its health."""
    index = patient.directory / INDEX
    if found.moment is None or not directories(index) or not _is_free(patient, INDEX_LOCK):
        return
    doubts = doubt(index, load_record(index), found.moment)
    if doubts is not None:
        message = f"Chroma's files cannot be trusted: {doubts}"
        remedy = "Nothing: they are built anew when they are next needed."
        yield Finding("index_doubtful", message, remedy, partial(_discard_and_rebuild, patient))


def _discard_and_rebuild(patient: Patient) -> str:
    with closing(FileLock(patient.directory / INDEX_LOCK)) as lock:
        if not lock.try_acquire():
            raise Busy("another process has begun to use Chroma's files")
        discard_files(patient.directory / INDEX)
    return _rebuild(patient)


def _rebuild(patient: Patient) -> str:
    differences, figures = rebuild(patient.settings)
    if differences:
        raise StorageError(f"the index differs from the truth in {show.count(len(differences), 'place')}")
    return f"embedded what was pending and rebuilt the index ({figures.rows_live:,} passages)"


def _name(stamp: ModelStamp | None) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} numbers)" if stamp else "none"


def _is_free(patient: Patient, name: str) -> bool:
    """Does no process hold this lock? A lock that cannot be opened is not free either."""
    with closing(FileLock(patient.directory / name)) as lock:
        try:
            return lock.try_acquire()
        except StorageError:
            return False
