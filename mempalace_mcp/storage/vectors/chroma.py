"""The cached Chroma client of a palace: who may hold it, whether its files can be trusted, and when it is reopened.

The part of the log that Chroma holds: how it is filled, swept, compacted and checked.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.core.files import PRIVATE_DIRECTORY
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.chroma_process import CALL_SECONDS, ChromaProcess, agrees
from mempalace_mcp.storage.vectors.exact import Candidates
from mempalace_mcp.storage.vectors.log import Integers, Snapshot, Vectors
from mempalace_mcp.storage.vectors.manifest import (
    FileStamps,
    Manifest,
    begin_directory,
    boot_identity,
    directories,
    doubt,
    load_record,
    make_files_durable,
    read_sequence,
    remove_others,
    remove_record,
    stamp_files,
    store_record,
    take_stamp,
)
from mempalace_mcp.storage.vectors.model import Cause, ChromaState, Difference, Serving

logger = logging.getLogger(__name__)

T = TypeVar("T")

Sample = Callable[[int], tuple[Integers, Vectors]]
"""Some chunks and vectors of the log up to a position, as SQLite has them."""

_LONGEST_PAUSE = 600.0


class CachedClient:
    """The one client of this process, and by `index.lock` the one of all processes.

    It is opened by `open` alone, never by a query. The files are looked at before every own change and, at most once
    per `stat_cooldown` seconds, before a query; whether the database is still the same file, before each. Files that
    somebody else has changed, or that an error or a crash has left in doubt, are not opened again: a new directory is
    begun and filled from SQLite. A query waits `patience` seconds for its turn, and as long for its answer. No method
    but `hold` raises on account of Chroma or its files. Thread-safe.
    """

    def __init__(self, directory: Path, stat_cooldown: float, patience: float) -> None:
        self._directory = directory / "index"
        self._lock = FileLock(directory / "index.lock")
        self._stat_cooldown = stat_cooldown
        self._patience = patience
        self._access = threading.RLock()
        self._session: ChromaProcess | None = None
        self._record: Manifest | None = None
        self._chunks: Integers = np.empty(0, np.int64)
        self._next_look = 0.0
        self._begun_at: float | None = None
        self._retry_at = 0.0
        self._why = Cause.START
        self.serving: Serving | None = None
        self.state = ChromaState.ABSENT
        self.generation = 0
        self.last_reopen: Cause | None = None
        self.foreign_writes = 0
        self.rebuilds = 0
        self.rebuild_seconds: float | None = None
        self.failures = 0

    @property
    def process(self) -> int | None:
        """The child process that runs Chroma."""
        session = self._session
        return session.pid if session else None

    @property
    def size(self) -> int:
        """Bytes of its files when they were last looked at."""
        record = self._record
        return record.stamp.size if record else 0

    @property
    def deleted(self) -> int:
        """Rows deleted that the files still hold."""
        record = self._record
        return record.deleted if record else 0

    @property
    def may_open(self) -> bool:
        """False for a while after a failure, longer after each."""
        return time.monotonic() >= self._retry_at

    def hold(self) -> bool:
        """Take `index.lock` if it is free; it is kept until `close`."""
        with self._access:
            if self._lock.held and not self._lock.is_current():
                self.discard(Cause.LOCK_REMOVED)
                self._lock.close()
            try:
                taken = self._lock.held or self._lock.try_acquire()
            except StorageError as error:
                if self.state is not ChromaState.FAILED:
                    logger.warning("the index cannot be used: %s. %s", error.message, error.hint)
                self.state = ChromaState.FAILED
                return False
            if not taken:
                self.state = ChromaState.HELD_ELSEWHERE
            elif self.state is ChromaState.HELD_ELSEWHERE:
                self.state = ChromaState.ABSENT
            return taken

    def open(self, moment: Snapshot, sample: Sample) -> None:
        """Open the files of an earlier time if they can be trusted and agree with SQLite, else begin anew."""
        with self._access:
            self._contain(Cause.OPENING_FAILED, lambda: self._open(moment, sample))

    def query(self, serving: Serving, vector: Vectors, count: int, wait: bool) -> Candidates | None:
        """The nearest rows, or None when the client is not (any more) what `serving` says, is slow, or fails.

        While it is busy with something else, the query waits for its turn, or it does not.
        """
        if not self._access.acquire(timeout=self._patience if wait else 0):
            return None
        try:
            session, present = self._session, self.serving
            if session is None or present is None or not self._is_untouched():
                return None
            if (present.generation, present.swept) != (serving.generation, serving.swept):
                return None
            return self._contain(
                Cause.QUERY_FAILED, lambda: session.query(vector, count, serving.position, self._patience)
            )
        finally:
            self._access.release()

    def append(self, chunks: Integers, vectors: Vectors, position: int) -> bool:
        """Add rows of the log up to a position; False when that failed."""
        with self._access:
            done = self._change(len(chunks), lambda session: session.upsert(chunks, vectors))
            return done and self._publish(np.union1d(self._chunks, chunks), position, self.deleted)

    def delete(self, chunks: Integers) -> bool:
        """Remove rows; False when that failed."""
        with self._access:
            done = self._change(len(chunks), lambda session: session.delete(chunks))
            left = np.setdiff1d(self._chunks, chunks, assume_unique=True)
            return done and self._publish(left, self._present.position, self.deleted + len(chunks))

    def note_swept(self, seq: int) -> None:
        """Readers whose snapshot is older than `seq` may miss rows here from now on."""
        with self._access:
            if self.serving is not None:
                self.serving = replace(self.serving, swept=seq)

    def note_complete(self) -> None:
        """The whole log has been moved."""
        if self._begun_at is not None:
            self.rebuild_seconds = time.monotonic() - self._begun_at
            self._begun_at = None

    def chunks(self) -> Integers:
        """The chunks it holds, ascending."""
        return self._chunks

    def vectors(self, chunks: Sequence[int]) -> dict[int, Vectors] | None:
        """The vectors it holds of some chunks; None when it is not open or fails."""
        with self._access:
            session = self._session
            return None if session is None else self._contain(Cause.READING_FAILED, lambda: session.vectors(chunks))

    def discard(self, reason: Cause) -> None:
        """Close the client and never trust its files again."""
        with self._access:
            self._lose(ChromaState.ABSENT, reason)

    def close(self, reason: Cause = Cause.START) -> None:
        """Close the client so that its files can be trusted later, also after a reboot, and give up the lock."""
        with self._access:
            if self._session is not None and self._is_untouched(at_once=True):
                self._contain(Cause.CLOSING_FAILED, self._close_session)
            self._why = reason
            self._retry_at = 0.0
            self._lock.close()

    def _open(self, moment: Snapshot, sample: Sample) -> None:
        record = load_record(self._directory)
        reason = doubt(self._directory, record, moment)
        self._directory.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
        remove_record(self._directory)
        if record is not None and reason is None:
            reason = self._reopen(record, sample)
        if record is None or reason is not None:
            record = self._begin(moment)
        self.last_reopen = reason if reason and self._why is Cause.START else self._why
        record = replace(record, stamp=take_stamp(self._path(record)), boot=boot_identity(), closed=False)
        store_record(self._directory, record)
        self._next_look = time.monotonic() + self._stat_cooldown
        self.generation += 1
        self.state, self._record = ChromaState.READY, record
        self.serving = Serving(self.generation, record.palace, record.position, len(self._chunks), moment.seq)

    def _reopen(self, record: Manifest, sample: Sample) -> Cause | None:
        """Open the files and compare a sample; on a difference close them and say so."""
        session = self._session = ChromaProcess(self._path(record))
        self._chunks = session.chunks()
        chunks, vectors = sample(record.position)
        if len(chunks) == 0:
            return None
        session.query(vectors[0], 1, record.position, CALL_SECONDS)
        held = session.vectors(chunks.tolist())
        if all(agrees(held.get(int(chunk)), vector) for chunk, vector in zip(chunks, vectors, strict=True)):
            return None
        self._session = None
        session.kill()
        return Cause.DIFFERENT

    def _begin(self, moment: Snapshot) -> Manifest:
        """Start in a new directory and remove the others."""
        self.rebuilds += bool(directories(self._directory))
        path = begin_directory(self._directory)
        self._session = ChromaProcess(path)
        self._chunks = np.empty(0, np.int64)
        self._begun_at = time.monotonic()
        remove_others(self._directory, path)
        return Manifest(path.name, moment.palace, 0, 0, FileStamps({}, 0), boot_identity(), False)

    def _change(self, operations: int, change: Callable[[ChromaProcess], None]) -> bool:
        """Apply a change while there is no record, and make sure that nobody else has written."""
        session = self._session
        if session is None or not self._is_untouched(at_once=True):
            return False
        record = self._present

        def apply() -> FileStamps:
            remove_record(self._directory)
            change(session)
            return take_stamp(self._path(record))

        stamp = self._contain(Cause.CHANGE_FAILED, apply)
        if stamp is None:
            return False
        if stamp.sequence != record.stamp.sequence + operations:
            self._note_foreign_write()
            return False
        self._record = replace(record, stamp=stamp)
        return True

    def _publish(self, chunks: Integers, position: int, deleted: int) -> bool:
        """After a change put the record back, brought up to date, and serve what it says."""

        def store() -> Manifest:
            record = replace(self._present, position=position, deleted=deleted)
            store_record(self._directory, record)
            return record

        record, serving = self._contain(Cause.CHANGE_FAILED, store), self.serving
        if record is None or serving is None:
            return False
        self._record, self._chunks = record, chunks
        self.serving = replace(serving, position=record.position, rows=len(chunks))
        return True

    def _close_session(self) -> None:
        session, record = self._session, self._present
        assert session is not None
        self._session = self._record = self.serving = None
        self.state = ChromaState.ABSENT
        session.close()
        path = self._path(record)
        make_files_durable(path)
        stamp = take_stamp(path)
        if stamp.sequence == record.stamp.sequence:
            store_record(self._directory, replace(record, stamp=stamp, closed=True))

    @property
    def _present(self) -> Manifest:
        """The record of the open client."""
        assert self._record is not None
        return self._record

    def _is_untouched(self, at_once: bool = False) -> bool:
        """Look at the files as often as is due; close the client when somebody else has changed them."""
        record = self._present
        path = self._path(record)
        if not record.stamp.is_same_file(path):
            self._lose(ChromaState.FOREIGN, Cause.FILES_REPLACED)
            return False
        now = time.monotonic()
        if not at_once and now < self._next_look:
            return True
        self._next_look = now + self._stat_cooldown
        try:
            files = stamp_files(path)
            if files != record.stamp.files:
                if not record.stamp.agrees_beside_database(files) or read_sequence(path) != record.stamp.sequence:
                    self._note_foreign_write()
                    return False
                self._record = replace(record, stamp=FileStamps(files, record.stamp.sequence))
        except (OSError, sqlite3.Error):
            self._lose(ChromaState.FOREIGN, Cause.FILES_UNREADABLE)
            return False
        return True

    def _note_foreign_write(self) -> None:
        self.foreign_writes += 1
        self._lose(ChromaState.FOREIGN, Cause.FOREIGN_WRITE)

    def _lose(self, state: ChromaState, reason: Cause) -> None:
        """End the client; without a record its files will not be opened again."""
        session = self._session
        self._session = self._record = self.serving = None
        self._chunks = np.empty(0, np.int64)
        self.state, self._why = state, reason
        with contextlib.suppress(OSError):  # gone or not writable: before its files are used they are compared anyhow
            remove_record(self._directory)
        if session is not None:
            session.kill()

    def _contain(self, failure: Cause, work: Callable[[], T]) -> T | None:
        """Run something that touches Chroma or its files; a failure ends the client and costs nobody an answer."""
        try:
            return work()
        except (StorageError, OSError, sqlite3.Error) as error:
            logger.warning("vector index: %s: %s: %s", failure, type(error).__name__, error)
            self.failures += 1
            self._retry_at = time.monotonic() + min(_LONGEST_PAUSE, 4.0 ** min(self.failures - 1, 9) - 1)
            self._lose(ChromaState.FAILED, failure)
            return None

    def _path(self, record: Manifest) -> Path:
        return self._directory / record.directory


_SAMPLE_ROWS = 32
_DELETED_SHARE = 0.2
_TAIL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next: chunks to remove, or rows of the log to add; `last` when none are left after them."""

    vanished: Integers
    positions: Integers
    chunks: Integers
    vectors: Vectors
    last: bool


class ChromaIndex:
    """Keeps the cached client in step with the log. For one thread at a time.

    Chroma is begun at `minimum_rows`; then a tail shorter than a fifth of them is left to the exact matrix, so that
    a drawer filed now and then costs no write. Rows of deleted drawers stay until their vectors vanish from SQLite:
    they may be restored. When the files hold too many removed rows, they are begun anew, which really removes them.
    """

    def __init__(self, client: CachedClient, minimum_rows: int) -> None:
        self._client = client
        self._minimum_rows = minimum_rows
        self._moving = False
        self._swept: tuple[int, int] | None = None  # generation and change number of the last sweep that is complete

    def open(self, connection: Connection, moment: Snapshot) -> bool:
        """Is the client open, or could it be opened?"""
        client = self._client
        if not client.hold():
            return False
        if client.serving is not None and client.serving.palace != moment.palace:
            client.discard(Cause.OTHER_PALACE)
        if client.serving is not None and self._is_bloated(client.serving.rows):
            client.discard(Cause.COMPACTION)
        if client.serving is None and client.may_open and log.count_after(connection, 0) >= self._minimum_rows:
            client.open(moment, lambda position: _sample(connection, position))
            self._moving = True
        return client.serving is not None

    def plan(self, connection: Connection, moment: Snapshot, limit: int) -> Plan | None:
        """At most `limit` rows to remove or else to add; None when there is nothing to do."""
        serving = self._client.serving
        if serving is None or limit < 1:
            return None
        nothing = np.empty(0, np.int64)
        if self._swept != (serving.generation, moment.seq):
            vanished = self._vanished(connection, serving.position)
            if len(vanished):
                self._client.note_swept(moment.seq)
                return Plan(vanished[:limit], nothing, nothing, np.empty((0, 0), np.float32), False)
            self._swept = (serving.generation, moment.seq)
        tail = moment.position - serving.position
        if not self._moving and tail <= self._minimum_rows * _TAIL_SHARE:
            return None
        positions, chunks, vectors = log.log_after(connection, serving.position, limit)
        if len(positions) and positions[-1] - serving.position != len(positions):  # some have vanished before
            self._client.note_swept(moment.seq)
        return Plan(nothing, positions, chunks, vectors, len(positions) < limit)

    def carry_out(self, plan: Plan | None) -> int:
        """Do it in one batch; returns how many rows were touched, 0 when the client failed."""
        if plan is None:
            return 0
        if len(plan.vanished) and not self._client.delete(plan.vanished):
            return 0
        if len(plan.positions) and not self._client.append(plan.chunks, plan.vectors, int(plan.positions[-1])):
            return 0
        self._moving = not plan.last
        if plan.last:
            self._client.note_complete()
        return len(plan.vanished) + len(plan.positions)

    def differences(self, connection: Connection, moment: Snapshot) -> Sequence[Difference]:
        """Rows missing in Chroma, rows it should have lost by now, and other vectors in a sample."""
        serving = self._client.serving
        if serving is None or serving.palace != moment.palace or serving.swept > moment.seq:
            return []
        expected, held = _chunks_up_to(connection, serving.position), self._client.chunks()
        found = [Difference("chroma", chunk, "missing") for chunk in np.setdiff1d(expected, held).tolist()]
        if self._swept == (serving.generation, moment.seq):
            found += [Difference("chroma", chunk, "not in SQLite") for chunk in np.setdiff1d(held, expected).tolist()]
        chunks, vectors = _sample(connection, serving.position)
        mine = self._client.vectors(chunks.tolist()) or {}
        return found + [
            Difference("chroma", chunk, "another vector")
            for chunk, vector in zip(chunks.tolist(), vectors, strict=True)
            if chunk in mine and not agrees(mine[chunk], vector)
        ]

    def _is_bloated(self, rows: int) -> bool:
        return self._client.deleted > max(self._minimum_rows, rows) * _DELETED_SHARE

    def _vanished(self, connection: Connection, position: int) -> Integers:
        """The chunks that Chroma holds and the log up to its position does not; compares counts first."""
        held = self._client.chunks()
        if log.count_after(connection, 0) - log.count_after(connection, position) == len(held):
            return np.empty(0, np.int64)
        return np.setdiff1d(held, _chunks_up_to(connection, position), assume_unique=True)


def _chunks_up_to(connection: Connection, position: int) -> Integers:
    positions, chunks = log.entries(connection)
    up_to: Integers = chunks[: np.searchsorted(positions, position, "right")]
    return up_to


def _sample(connection: Connection, position: int) -> tuple[Integers, Vectors]:
    """Chunks and vectors spread evenly over the log up to a position."""
    chunks = _chunks_up_to(connection, position)
    picked = np.unique(np.linspace(0, len(chunks) - 1, min(_SAMPLE_ROWS, len(chunks)), dtype=np.int64))
    return log.vectors_of(connection, chunks[picked].tolist())
