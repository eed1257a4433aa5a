"""The part of the log that Chroma holds: how it is filled, swept, compacted and checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mempalace_mcp.storage.vectors import truth
from mempalace_mcp.storage.vectors.chroma import CachedClient
from mempalace_mcp.storage.vectors.model import Cause, Difference
from mempalace_mcp.storage.vectors.remote import agrees
from mempalace_mcp.storage.vectors.truth import Integers, Moment, Vectors

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


class ChromaPrefix:
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

    def open(self, connection: sqlite3.Connection, moment: Moment) -> bool:
        """Is the client open, or could it be opened?"""
        client = self._client
        if not client.hold():
            return False
        if client.serving is not None and client.serving.palace != moment.palace:
            client.discard(Cause.OTHER_PALACE)
        if client.serving is not None and self._is_bloated(client.serving.rows):
            client.discard(Cause.COMPACTION)
        if client.serving is None and client.may_open and truth.count_after(connection, 0) >= self._minimum_rows:
            client.open(moment, lambda position: _sample(connection, position))
            self._moving = True
        return client.serving is not None

    def plan(self, connection: sqlite3.Connection, moment: Moment, limit: int) -> Plan | None:
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
        positions, chunks, vectors = truth.log_after(connection, serving.position, limit)
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

    def differences(self, connection: sqlite3.Connection, moment: Moment) -> Sequence[Difference]:
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

    def _vanished(self, connection: sqlite3.Connection, position: int) -> Integers:
        """The chunks that Chroma holds and the log up to its position does not; compares counts first."""
        held = self._client.chunks()
        if truth.count_after(connection, 0) - truth.count_after(connection, position) == len(held):
            return np.empty(0, np.int64)
        return np.setdiff1d(held, _chunks_up_to(connection, position), assume_unique=True)


def _chunks_up_to(connection: sqlite3.Connection, position: int) -> Integers:
    positions, chunks = truth.entries(connection)
    up_to: Integers = chunks[: np.searchsorted(positions, position, "right")]
    return up_to


def _sample(connection: sqlite3.Connection, position: int) -> tuple[Integers, Vectors]:
    """Chunks and vectors spread evenly over the log up to a position."""
    chunks = _chunks_up_to(connection, position)
    picked = np.unique(np.linspace(0, len(chunks) - 1, min(_SAMPLE_ROWS, len(chunks)), dtype=np.int64))
    return truth.vectors_of(connection, chunks[picked].tolist())
