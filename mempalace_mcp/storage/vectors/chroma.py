"""The part of the vector log that Chroma holds: the cached client, and how its rows follow the log."""

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
    directories,
    load_manifest,
    reason_to_rebuild,
    remove_manifest,
    remove_others,
    store_manifest,
    sync_files,
    take_stamp,
)
from mempalace_mcp.storage.vectors.model import Cause, Difference, IndexState, Serving

logger = logging.getLogger(__name__)

T = TypeVar("T")

Sample = Callable[[int], tuple[Integers, Vectors]]
"""Some chunks of the log up to a position, and their vectors as SQLite has them."""

_LONGEST_PAUSE = 600.0
_SAMPLE_ROWS = 32
_DELETED_SHARE = 0.2
_UNSYNCED_SHARE = 0.2


class CachedClient:
    """The one Chroma client of this process, and by `index.lock` of all processes of a palace.

    Only `open` opens it, never a query. Every file is checked before each own change and, at most once in
    `stat_cooldown` seconds, before a query. Each query checks that the database is still the same file. Files that
    cannot be trusted are never opened again: a new directory is begun and filled from SQLite. A query waits `patience`
    seconds for the client and as long for its answer.

    No method but `hold` raises because of Chroma or its files. Thread-safe.
    """

    def __init__(self, directory: Path, stat_cooldown: float, patience: float) -> None:
        self._directory = directory / "index"
        self._lock = FileLock(directory / "index.lock")
        self._stat_cooldown = stat_cooldown
        self._patience = patience
        self._access = threading.RLock()
        self._process: ChromaProcess | None = None
        self._manifest: Manifest | None = None
        self._chunks: Integers = np.empty(0, np.int64)
        self._next_check = 0.0
        self._filling_since: float | None = None
        self._retry_at = 0.0
        self._closed_because = Cause.START
        self.serving: Serving | None = None
        self.state = IndexState.ABSENT
        self.generation = 0
        self.last_reopen: Cause | None = None
        self.foreign_writes = 0
        self.rebuilds = 0
        self.rebuild_seconds: float | None = None
        self.failures = 0

    @property
    def process(self) -> int | None:
        """The id of the child process that runs Chroma."""
        process = self._process
        return process.pid if process else None

    @property
    def size(self) -> int:
        """Bytes of the files when they were last checked."""
        manifest = self._manifest
        return manifest.stamp.size if manifest else 0

    @property
    def deleted(self) -> int:
        """Rows that are deleted but still in the files."""
        manifest = self._manifest
        return manifest.deleted if manifest else 0

    @property
    def may_open(self) -> bool:
        """False during the pause after a failure; each pause is longer than the one before."""
        return time.monotonic() >= self._retry_at

    def hold(self) -> bool:
        """Take `index.lock` if it is free; it is kept until `close`."""
        with self._access:
            if self._lock.held and not self._lock.is_current():  # removed: another process may hold a new one
                self.discard(Cause.FILES_CHANGED)
                self._lock.close()
            try:
                taken = self._lock.held or self._lock.try_acquire()
            except StorageError as error:
                if self.state is not IndexState.FAILED:
                    logger.warning("the index cannot be used: %s. %s", error.message, error.hint)
                self.state = IndexState.FAILED
                return False
            if not taken:
                self.state = IndexState.HELD_ELSEWHERE
            elif self.state is IndexState.HELD_ELSEWHERE:
                self.state = IndexState.ABSENT
            return taken

    def open(self, snapshot: Snapshot, sample: Sample) -> None:
        """Open the present files if they can be trusted and agree with SQLite, else begin anew."""
        with self._access:
            self._contain("opening", lambda: self._open(snapshot, sample))

    def query(self, serving: Serving, vector: Vectors, count: int, wait: bool) -> Candidates | None:
        """The nearest rows; None when the client is slow, fails, or no longer holds what `serving` says.

        With `wait`, the query waits for the client while it is busy.
        """
        if not self._access.acquire(timeout=self._patience if wait else 0):
            return None
        try:
            process, present = self._process, self.serving
            if process is None or present is None or not self._is_unchanged():
                return None
            if (present.generation, present.watermark) != (serving.generation, serving.watermark):
                return None
            return self._contain("a query", lambda: process.query(vector, count, serving.position, self._patience))
        finally:
            self._access.release()

    def append(self, chunks: Integers, vectors: Vectors, position: int) -> bool:
        """Add rows of the log up to a position; False when that failed."""
        with self._access:
            manifest = self._manifest
            return manifest is not None and self._change(
                lambda process: process.upsert(chunks, vectors),
                operations=len(chunks),
                chunks=np.union1d(self._chunks, chunks),
                manifest=replace(manifest, position=position),
            )

    def delete(self, chunks: Integers) -> bool:
        """Remove rows; False when that failed."""
        with self._access:
            manifest = self._manifest
            return manifest is not None and self._change(
                lambda process: process.delete(chunks),
                operations=len(chunks),
                chunks=np.setdiff1d(self._chunks, chunks, assume_unique=True),
                manifest=replace(manifest, deleted=manifest.deleted + len(chunks)),
            )

    def raise_watermark(self, seq: int) -> None:
        """From now on rows may be missing here that readers with a snapshot older than `seq` still see."""
        with self._access:
            if self.serving is not None:
                self.serving = replace(self.serving, watermark=seq)

    def note_filled(self) -> None:
        """The whole log has been added."""
        if self._filling_since is not None:
            self.rebuild_seconds = time.monotonic() - self._filling_since
            self._filling_since = None

    def chunks(self) -> Integers:
        """The chunks it holds, ascending."""
        return self._chunks

    def vectors(self, chunks: Sequence[int]) -> dict[int, Vectors] | None:
        """The vectors it holds of some chunks; None when it is not open or fails."""
        with self._access:
            process = self._process
            return None if process is None else self._contain("reading", lambda: process.vectors(chunks))

    def discard(self, cause: Cause) -> None:
        """Close the client and never open its files again."""
        with self._access:
            self._abandon(IndexState.ABSENT, cause)

    def close(self, cause: Cause = Cause.START) -> None:
        """Close the client, leave its files fit to be trusted, and release the lock."""
        with self._access:
            process, manifest = self._process, self._manifest
            if process is not None and manifest is not None and self._is_unchanged(at_once=True):
                self._contain("closing", lambda: self._close_cleanly(process, manifest))
            self._closed_because = cause
            self._retry_at = 0.0
            self._lock.close()

    def _open(self, snapshot: Snapshot, sample: Sample) -> None:
        manifest = load_manifest(self._directory)
        cause = reason_to_rebuild(self._directory, manifest, snapshot)
        self._directory.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
        remove_manifest(self._directory)
        if manifest is not None and cause is None and not self._reopen(manifest, sample):
            cause = Cause.DIFFERENT
        if manifest is None or cause is not None:
            manifest = self._begin(snapshot)
        self.last_reopen = cause if cause and self._closed_because is Cause.START else self._closed_because
        manifest = self._synced(manifest)
        store_manifest(self._directory, manifest)
        self._next_check = time.monotonic() + self._stat_cooldown
        self.generation += 1
        self.state, self._manifest = IndexState.READY, manifest
        self.serving = Serving(self.generation, manifest.palace, manifest.position, len(self._chunks), snapshot.seq)

    def _reopen(self, manifest: Manifest, sample: Sample) -> bool:
        """Open the files and compare a sample with SQLite; False when it differs, and the process is ended.

        The position alone does not tell that a copy of the palace was restored and has been written to since.
        """
        process = self._process = ChromaProcess(self._path(manifest))
        self._chunks = process.chunks()
        chunks, vectors = sample(manifest.position)
        if len(chunks) == 0:
            return True
        process.query(vectors[0], 1, manifest.position, CALL_SECONDS)  # loads the files that a search needs
        held = process.vectors(chunks.tolist())
        if all(agrees(held.get(int(chunk)), vector) for chunk, vector in zip(chunks, vectors, strict=True)):
            return True
        self._process = None
        process.kill()
        return False

    def _begin(self, snapshot: Snapshot) -> Manifest:
        """Start in a new directory and remove the others."""
        self.rebuilds += bool(directories(self._directory))
        path = begin_directory(self._directory)
        self._process = ChromaProcess(path)
        self._chunks = np.empty(0, np.int64)
        self._filling_since = time.monotonic()
        remove_others(self._directory, path)
        return Manifest(path.name, snapshot.palace, 0, 0, FileStamps({}, 0))

    def _change(
        self, change: Callable[[ChromaProcess], None], *, operations: int, chunks: Integers, manifest: Manifest
    ) -> bool:
        """Apply a change that leads to these chunks and, but for its stamp, to this manifest; False when that failed.

        There is no manifest meanwhile. The sequence tells whether another program has written at the same time.
        """
        process, serving = self._process, self.serving
        if process is None or serving is None or not self._is_unchanged(at_once=True):
            return False

        def apply() -> Manifest | None:
            remove_manifest(self._directory)
            change(process)
            changed = self._synced(manifest)
            if changed.stamp.sequence != manifest.stamp.sequence + operations:
                self._abandon_changed_files()
                return None
            store_manifest(self._directory, changed)
            return changed

        changed = self._contain("a change", apply)
        if changed is None:
            return False
        self._manifest, self._chunks = changed, chunks
        self.serving = replace(serving, position=changed.position, rows=len(chunks))
        return True

    def _close_cleanly(self, process: ChromaProcess, manifest: Manifest) -> None:
        remove_manifest(self._directory)
        self._process = self._manifest = self.serving = None
        self.state = IndexState.ABSENT
        process.close()
        closed = self._synced(manifest)
        if closed.stamp.sequence == manifest.stamp.sequence:
            store_manifest(self._directory, closed)

    def _synced(self, manifest: Manifest) -> Manifest:
        """The manifest with the present stamp, once everything that has changed is on the disk."""
        path = self._path(manifest)
        stamp = take_stamp(path)
        sync_files(path, stamp, manifest.stamp)
        return replace(manifest, stamp=stamp)

    def _is_unchanged(self, at_once: bool = False) -> bool:
        """Check the files of the open client; when another program has changed them, end it.

        Until the cool-down is over, that the database is still the same file is enough, unless `at_once`.
        """
        assert self._manifest is not None
        manifest, now = self._manifest, time.monotonic()
        path, stamp = self._path(manifest), manifest.stamp
        try:
            if not at_once and now < self._next_check:
                unchanged = stamp.is_same_database(path)
            else:
                self._next_check = now + self._stat_cooldown
                refreshed = stamp.refreshed(path)
                unchanged, stamp = refreshed is not None, refreshed or stamp
        except (OSError, sqlite3.Error):
            unchanged = False
        if not unchanged:
            self._abandon_changed_files()
        elif stamp is not manifest.stamp:
            self._manifest = replace(manifest, stamp=stamp)
        return unchanged

    def _abandon_changed_files(self) -> None:
        self.foreign_writes += 1
        self._abandon(IndexState.FOREIGN, Cause.FILES_CHANGED)

    def _abandon(self, state: IndexState, cause: Cause) -> None:
        """End the client; without a manifest its files will not be opened again."""
        process = self._process
        self._process = self._manifest = self.serving = None
        self._chunks = np.empty(0, np.int64)
        self.state, self._closed_because = state, cause
        with contextlib.suppress(OSError):  # it is gone or cannot be removed: the stamps are compared anyhow
            remove_manifest(self._directory)
        if process is not None:
            process.kill()

    def _contain(self, attempt: str, work: Callable[[], T]) -> T | None:
        """Run work that uses Chroma or its files; an error is logged and ends the client, and the result is None."""
        try:
            return work()
        except (StorageError, OSError, sqlite3.Error) as error:
            logger.warning("vector index: %s failed: %s: %s", attempt, type(error).__name__, error)
            self.failures += 1
            self._retry_at = time.monotonic() + min(_LONGEST_PAUSE, 4.0 ** min(self.failures - 1, 9) - 1)
            self._abandon(IndexState.FAILED, Cause.FAILED)
            return None

    def _path(self, manifest: Manifest) -> Path:
        return self._directory / manifest.directory


@dataclass(frozen=True, slots=True)
class SyncStep:
    """The next change of Chroma: chunks to remove, or rows of the log to add. `last` when the log has no more."""

    removed: Integers
    positions: Integers
    chunks: Integers
    vectors: Vectors
    last: bool


class ChromaIndex:
    """Keeps the cached client in step with the log. For one thread at a time.

    Chroma is begun at `minimum_rows`. Then an unsynced tail shorter than a fifth of that is left to the exact matrix,
    since each write to Chroma is expensive. Rows of deleted drawers stay until their vectors are gone from SQLite:
    the drawers may be restored. Chroma keeps removed rows in its files; when there are too many it is begun anew.
    """

    def __init__(self, client: CachedClient, minimum_rows: int) -> None:
        self._client = client
        self._minimum_rows = minimum_rows
        self._syncing = False
        self._cleared: tuple[int, int] | None = None  # generation and change number when no removed row was left

    def open(self, connection: Connection, snapshot: Snapshot) -> bool:
        """Open the client if that is due and allowed; true when it is open."""
        client = self._client
        if not client.hold():
            return False
        if client.serving is not None and client.serving.palace != snapshot.palace:
            client.discard(Cause.DIFFERENT)
        if client.serving is not None and self._is_bloated(client.serving.rows):
            client.discard(Cause.COMPACTION)
        if client.serving is None and client.may_open and log.count_after(connection, 0) >= self._minimum_rows:
            client.open(snapshot, lambda position: _sample(connection, position))
            self._syncing = True
        return client.serving is not None

    def next_step(self, connection: Connection, snapshot: Snapshot, limit: int) -> SyncStep | None:
        """At most `limit` rows to remove, or else to add; None when there is nothing to do."""
        serving = self._client.serving
        if serving is None or limit < 1:
            return None
        nothing = np.empty(0, np.int64)
        if self._cleared != (serving.generation, snapshot.seq):
            removed = self._removed(connection, serving.position)
            if len(removed):
                self._client.raise_watermark(snapshot.seq)
                return SyncStep(removed[:limit], nothing, nothing, np.empty((0, 0), np.float32), False)
            self._cleared = (serving.generation, snapshot.seq)
        unsynced = snapshot.position - serving.position
        if not self._syncing and unsynced <= self._minimum_rows * _UNSYNCED_SHARE:
            return None
        positions, chunks, vectors = log.log_after(connection, serving.position, limit)
        if len(positions) and positions[-1] - serving.position != len(positions):  # some were removed before
            self._client.raise_watermark(snapshot.seq)
        return SyncStep(nothing, positions, chunks, vectors, len(positions) < limit)

    def apply(self, step: SyncStep | None) -> int:
        """Apply a step; returns how many rows it changed, 0 when the client failed."""
        if step is None:
            return 0
        if len(step.removed) and not self._client.delete(step.removed):
            return 0
        if len(step.positions) and not self._client.append(step.chunks, step.vectors, int(step.positions[-1])):
            return 0
        self._syncing = not step.last
        if step.last:
            self._client.note_filled()
        return len(step.removed) + len(step.positions)

    def differences(self, connection: Connection, snapshot: Snapshot) -> Sequence[Difference]:
        """Rows missing in Chroma, rows that should be gone by now, and other vectors in a sample."""
        serving = self._client.serving
        if serving is None or serving.palace != snapshot.palace or serving.watermark > snapshot.seq:
            return []
        expected, held = _chunks_up_to(connection, serving.position), self._client.chunks()
        found = [Difference("chroma", chunk, "missing") for chunk in np.setdiff1d(expected, held).tolist()]
        if self._cleared == (serving.generation, snapshot.seq):
            found += [Difference("chroma", chunk, "not in SQLite") for chunk in np.setdiff1d(held, expected).tolist()]
        chunks, vectors = _sample(connection, serving.position)
        stored = self._client.vectors(chunks.tolist()) or {}
        return found + [
            Difference("chroma", chunk, "another vector")
            for chunk, vector in zip(chunks.tolist(), vectors, strict=True)
            if chunk in stored and not agrees(stored[chunk], vector)
        ]

    def _is_bloated(self, rows: int) -> bool:
        return self._client.deleted > max(self._minimum_rows, rows) * _DELETED_SHARE

    def _removed(self, connection: Connection, position: int) -> Integers:
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
