"""A small palace of random vectors, and the answer that the index must give, computed the plain way."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mempalace_mcp.core.model import DrawerFilter, ModelStamp
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.drawers import ChunkLog, renew_vectors
from mempalace_mcp.storage.model_moves import (
    begin_move,
    drop_other_vectors,
    missing_chunks,
    store_other_vectors,
    switch_model,
)
from mempalace_mcp.storage.queries import condition_of
from mempalace_mcp.storage.transactions import Transaction, Work
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.log import Vectors
from mempalace_mcp.storage.vectors.model import Difference
from mempalace_mcp.storage.vectors.protocol import PalaceVectors
from tests.storage.support import soon

DIMENSION = 16
THOROUGHNESS = int(os.environ.get("THOROUGHNESS", "1"))
"""How many times the usual number of random examples and repetitions: each opening of Chroma costs a second."""
EVERYTHING = DrawerFilter()
ROWS = 1100
"""Beyond 1000 Chroma writes its own index files."""


def unit_vectors(count: int, seed: int, dimension: int = DIMENSION) -> Vectors:
    """Random directions."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def index_of(
    directory: Path,
    minimum_rows: int = 50,
    stat_cooldown: float = 0.0,
    mode: str = "chroma",
    patience: float = 4.0,  # less than that after which a child counts as hung
) -> VectorIndex:
    """An index that works at once and all the time, and asks Chroma on a busy machine too."""
    return VectorIndex(
        directory,
        mode=mode,
        stat_cooldown=stat_cooldown,
        minimum_rows=minimum_rows,
        time_share=1.0,
        patience=patience,
    )


def advance_all(index: PalaceVectors, database: PalaceDatabase, limit: int = 500) -> int:
    """Advance until there is nothing to do."""
    total = 0
    while moved := index.advance(database.read, limit):
        total += moved
    return total


@dataclass(frozen=True, slots=True)
class World:
    """Writes drawers straight into the tables, as the stores do."""

    database: PalaceDatabase

    def file(
        self,
        drawers: int,
        *,
        seed: int,
        chunks: int = 1,
        wing: str = "w",
        room: str = "r",
        source: str | None = None,
        when: int = 0,
        dimension: int = DIMENSION,
    ) -> list[int]:
        """File drawers with random vectors; returns their rowids."""
        vectors = unit_vectors(drawers * chunks, seed, dimension)

        def work(transaction: Transaction) -> list[int]:
            connection, place = transaction.connection, _place(transaction.connection, wing, room)
            ids = []
            for number in range(drawers):
                cursor = connection.execute(
                    "INSERT INTO drawers (drawer_id, wing, room, occurred_at, created_at, updated_at, seq,"
                    " content_hash, normalized_hash, source_file, content)"
                    " VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?, ?, 'text') RETURNING id",
                    (secrets.token_hex(12), *place, when, transaction.stamp.seq, b"", b"", source),
                )
                drawer = int(cursor.fetchone()[0])
                _add_chunks(connection, drawer, vectors[number * chunks : (number + 1) * chunks])
                ids.append(drawer)
            return ids

        return self.do(work)

    def delete(self, drawers: Sequence[int]) -> None:
        self._set(drawers, "deleted_at = 1")

    def restore(self, drawers: Sequence[int]) -> None:
        def work(transaction: Transaction) -> None:
            for drawer in _deleted(transaction.connection, drawers):
                transaction.connection.execute(
                    "UPDATE drawers SET deleted_at = NULL, seq = ? WHERE id = ?", (transaction.stamp.seq, drawer)
                )
                renew_vectors(transaction, [drawer])

        self.do(work)

    def redate(self, drawers: Sequence[int], when: int) -> None:
        self._set(drawers, f"occurred_at = {when}")

    def move(self, drawers: Sequence[int], wing: str, room: str) -> None:
        def work(transaction: Transaction) -> None:
            place = _place(transaction.connection, wing, room)
            for drawer in drawers:
                transaction.connection.execute(
                    "UPDATE drawers SET wing = ?, room = ?, seq = ? WHERE id = ?",
                    (*place, transaction.stamp.seq, drawer),
                )

        self.do(work)

    def update(self, drawers: Sequence[int], *, seed: int, chunks: int = 1) -> None:
        """Give drawers other chunks, with vectors."""
        vectors = unit_vectors(len(drawers) * chunks, seed)

        def work(transaction: Transaction) -> None:
            for number, drawer in enumerate(_present(transaction.connection, drawers)):
                transaction.connection.execute("DELETE FROM chunks WHERE drawer = ?", (drawer,))
                transaction.connection.execute(
                    "UPDATE drawers SET version = version + 1, seq = ? WHERE id = ?", (transaction.stamp.seq, drawer)
                )
                _add_chunks(transaction.connection, drawer, vectors[number * chunks : (number + 1) * chunks])

        self.do(work)

    def purge(self, drawers: Sequence[int]) -> None:
        def work(transaction: Transaction) -> None:
            assert transaction.stamp
            for drawer in drawers:
                transaction.connection.execute("DELETE FROM drawers WHERE id = ?", (drawer,))

        self.do(work)

    def reindex(self, *, seed: int, dimension: int = DIMENSION) -> None:
        """Replace every vector, at new positions."""

        def work(transaction: Transaction) -> None:
            assert transaction.stamp
            connection = transaction.connection
            chunks = [row[0] for row in connection.execute("SELECT chunk FROM vectors ORDER BY chunk")]
            connection.execute("DELETE FROM vectors")
            for chunk, vector in zip(chunks, unit_vectors(len(chunks), seed, dimension), strict=True):
                _add_vector(connection, chunk, vector)

        self.do(work)

    def change_model(self, *, seed: int, dimension: int = DIMENSION) -> None:
        """Move to another model, whose vectors may be as long as those of before."""
        stamp = ModelStamp(f"model {seed}", "float32", dimension)

        def work(transaction: Transaction) -> None:
            connection = transaction.connection
            begin_move(transaction, stamp)
            chunks = [each.chunk for each in missing_chunks(connection, 0, 10_000)]
            vectors = unit_vectors(len(chunks), seed, dimension)
            rows = [(chunk, vector.tobytes()) for chunk, vector in zip(chunks, vectors, strict=True)]
            store_other_vectors(transaction, stamp, rows)
            assert switch_model(transaction, stamp)
            while drop_other_vectors(transaction, 1000):
                pass

        if not self.has_model(stamp):
            self.do(work)

    def has_model(self, stamp: ModelStamp) -> bool:
        with self.database.read() as connection:
            return ChunkLog().model_stamp(connection) == stamp

    def do(self, work: Work[list[int]] | Work[None]) -> list[int]:
        return self.database.write(work, soon()) or []

    def _set(self, drawers: Sequence[int], assignment: str) -> None:
        def work(transaction: Transaction) -> None:
            for drawer in drawers:
                transaction.connection.execute(
                    f"UPDATE drawers SET {assignment}, seq = ? WHERE id = ?", (transaction.stamp.seq, drawer)
                )

        self.do(work)


def _deleted(connection: Connection, drawers: Sequence[int]) -> list[int]:
    """Those of the drawers that are in the trash."""
    rows = connection.execute(
        f"SELECT id FROM drawers WHERE deleted_at IS NOT NULL AND id IN {connection.dialect.members('?')} ORDER BY id",
        (connection.dialect.array(drawers),),
    )
    return [row[0] for row in rows]


def plain_answer(
    connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter = EVERYTHING
) -> list[int]:
    """The nearest chunks, by reading everything."""
    condition = condition_of(drawer_filter, connection.dialect)
    rows = connection.execute(
        "SELECT v.chunk, v.embedding FROM vectors v JOIN chunks c ON c.id = v.chunk JOIN drawers d ON d.id = c.drawer"
        f" WHERE {condition.sql}",
        condition.values,
    ).fetchall()
    scored = [(-float(np.frombuffer(blob, np.float32) @ query), chunk) for chunk, blob in rows]
    return [chunk for _, chunk in sorted(scored)[:limit]]


def answer(
    index: PalaceVectors,
    connection: Connection,
    query: Vectors,
    limit: int,
    drawer_filter: DrawerFilter = EVERYTHING,
) -> list[int]:
    """The nearest chunks, by the index."""
    return [neighbour.chunk for neighbour in index.nearest(connection, query, limit, drawer_filter)]


def verify_answers(
    index: PalaceVectors, database: PalaceDatabase, *, seed: int = 1, queries: int = 8, limit: int = 10
) -> None:
    """The index and the plain way agree on random queries, now."""
    with database.read() as connection:
        for query in unit_vectors(queries, seed):
            assert answer(index, connection, query, limit) == plain_answer(connection, query, limit)


def differences(index: PalaceVectors, database: PalaceDatabase) -> list[Difference]:
    """What the index finds wrong with itself."""
    with database.read() as connection:
        return list(index.verify(connection))


def chroma_directory(directory: Path) -> Path:
    """The one Chroma directory of a palace."""
    (found,) = (directory / "index").glob("chroma-*")
    return found


def manifest_of(directory: Path) -> Path:
    """The manifest of the Chroma directory that may be trusted."""
    return directory / "index" / "chroma.json"


def edit_manifest(directory: Path, values: dict[str, object]) -> None:
    """Put other values into the manifest."""
    manifest = json.loads(manifest_of(directory).read_text(encoding="utf-8"))
    manifest_of(directory).write_text(json.dumps(manifest | values), encoding="utf-8")


@contextmanager
def child(role: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a role of `children.py`; gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.vectors.children", role, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


def lines_of(role: str, directory: Path) -> list[str]:
    """What a child says until it leaves by itself."""
    with child(role, directory) as process:
        lines = process.communicate(timeout=50)[0].splitlines()
        assert process.returncode == 0
        return lines


def _place(connection: Connection, wing: str, room: str) -> tuple[int, int]:
    connection.execute("INSERT INTO wings (key, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (wing, wing))
    (wing_id,) = connection.execute("SELECT id FROM wings WHERE key = ?", (wing,)).fetchone()
    connection.execute(
        "INSERT INTO rooms (wing, key, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (wing_id, room, room)
    )
    (room_id,) = connection.execute("SELECT id FROM rooms WHERE wing = ? AND key = ?", (wing_id, room)).fetchone()
    return wing_id, room_id


def _present(connection: Connection, drawers: Sequence[int]) -> list[int]:
    present = {row[0] for row in connection.execute("SELECT id FROM drawers")}
    return [drawer for drawer in drawers if drawer in present]


def _add_chunks(connection: Connection, drawer: int, vectors: Vectors) -> None:
    for ordinal, vector in enumerate(vectors):
        (chunk,) = connection.execute(
            "INSERT INTO chunks (drawer, ordinal, start, stop) VALUES (?, ?, 0, 4) RETURNING id", (drawer, ordinal)
        ).fetchone()
        _add_vector(connection, chunk, vector)


def _add_vector(connection: Connection, chunk: int, vector: Vectors) -> None:
    embedding = connection.dialect.vector(vector.tobytes())
    connection.execute("INSERT INTO vectors (chunk, embedding) VALUES (?, ?)", (chunk, embedding))
