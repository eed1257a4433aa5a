"""The cached Chroma client of a palace: who may hold it, whether its files can be trusted, and when it is reopened."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.core.files import PRIVATE_DIRECTORY
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.vectors.candidates import Candidates
from mempalace_mcp.storage.vectors.model import Cause, ChromaState, Serving
from mempalace_mcp.storage.vectors.record import (
    Record,
    begin_directory,
    boot_identity,
    directories,
    doubt,
    load_record,
    make_files_durable,
    remove_others,
    remove_record,
    store_record,
)
from mempalace_mcp.storage.vectors.remote import CALL_SECONDS, RemoteSession, agrees
from mempalace_mcp.storage.vectors.stamp import Stamp, read_sequence, stamp_files, take_stamp
from mempalace_mcp.storage.vectors.truth import Integers, Moment, Vectors

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
        self._session: RemoteSession | None = None
        self._record: Record | None = None
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

    def open(self, moment: Moment, sample: Sample) -> None:
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

    def _open(self, moment: Moment, sample: Sample) -> None:
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

    def _reopen(self, record: Record, sample: Sample) -> Cause | None:
        """Open the files and compare a sample; on a difference close them and say so."""
        session = self._session = RemoteSession(self._path(record))
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

    def _begin(self, moment: Moment) -> Record:
        """Start in a new directory and remove the others."""
        self.rebuilds += bool(directories(self._directory))
        path = begin_directory(self._directory)
        self._session = RemoteSession(path)
        self._chunks = np.empty(0, np.int64)
        self._begun_at = time.monotonic()
        remove_others(self._directory, path)
        return Record(path.name, moment.palace, 0, 0, Stamp({}, 0), boot_identity(), False)

    def _change(self, operations: int, change: Callable[[RemoteSession], None]) -> bool:
        """Apply a change while there is no record, and make sure that nobody else has written."""
        session = self._session
        if session is None or not self._is_untouched(at_once=True):
            return False
        record = self._present

        def apply() -> Stamp:
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

        def store() -> Record:
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
    def _present(self) -> Record:
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
                self._record = replace(record, stamp=Stamp(files, record.stamp.sequence))
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

    def _path(self, record: Record) -> Path:
        return self._directory / record.directory
