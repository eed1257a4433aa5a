"""The records of a Chroma collection, read from its SQLite tables without Chroma.

A record's text and metadata stand in `embedding_metadata`, one row for each key. What a crash has kept from getting
there stands in `embeddings_queue` alone, behind the number up to which the tables are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.foreign_database import ForeignDatabase
from mempalace_mcp.palace.migration.values import read_json

TEXT = "chroma:document"
_TABLES = frozenset({"collections", "segments", "embeddings", "embedding_metadata"})
_DELETE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A record: its id, its text if it has one, and its metadata."""

    id: str
    text: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of records."""

    id: str
    name: str


def is_chroma(database: ForeignDatabase) -> bool:
    """Has the database the tables of Chroma?"""
    return database.tables() >= _TABLES


def collections(database: ForeignDatabase) -> list[Collection]:
    """All collections, by name."""
    return [Collection(*row) for row in database.rows("SELECT id, name FROM collections ORDER BY name")]


def count(database: ForeignDatabase, collection: Collection) -> int:
    """How many records a collection has in its tables."""
    sql = (
        "SELECT count(*) FROM segments s JOIN embeddings e ON e.segment_id = s.id"
        " WHERE s.collection = ? AND s.scope = 'METADATA'"
    )
    return int(next(database.rows(sql, (collection.id,)))[0])


_GROUP = """
    CASE
    WHEN coalesce(parent.string_value, '') <> '' THEN parent.string_value
    WHEN coalesce(entry.string_value, '') <> '' THEN entry.string_value
    WHEN mined.id IS NOT NULL AND mode.id IS NULL AND coalesce(file.string_value, '') <> ''
        THEN coalesce(wing.string_value, '') || char(10) || file.string_value
    ELSE e.embedding_id END
"""


def _join(alias: str, key: str) -> str:
    return f"LEFT JOIN embedding_metadata {alias} ON {alias}.id = e.id AND {alias}.key = '{key}'"


_SORTED = f"""
    WITH pieces AS (
        SELECT e.id AS row, e.embedding_id AS id, {_GROUP} AS part_of, position.int_value AS position
        FROM segments s JOIN embeddings e ON e.segment_id = s.id
        {_join("parent", "parent_drawer_id")} {_join("entry", "parent_entry_id")} {_join("mined", "source_mtime")}
        {_join("mode", "ingest_mode")} {_join("file", "source_file")} {_join("wing", "wing")}
        {_join("position", "chunk_index")}
        WHERE s.collection = ? AND s.scope = 'METADATA'
    )
    SELECT row, id, part_of FROM pieces
    ORDER BY min(row) OVER (PARTITION BY part_of), part_of, position, row
"""
_VALUES = ("string_value", "int_value", "float_value", "bool_value")
"""The columns of a value; the last one is younger than the others."""


def group_of(piece: Piece) -> str:
    """What a record is a piece of: the drawer or entry that was cut, the file that was mined, or nothing but itself."""
    fields = piece.metadata
    parent = fields.get("parent_drawer_id") or fields.get("parent_entry_id")
    if parent:
        return str(parent)
    if "source_mtime" in fields and "ingest_mode" not in fields and fields.get("source_file"):
        return f"{fields.get('wing') or ''}\n{fields['source_file']}"
    return piece.id


def read_groups(database: ForeignDatabase, collection: Collection) -> Iterator[list[Piece]]:
    """The records that belong together, in their order, the oldest first. Keeps one group in memory, and the queue."""
    queue = _Queue(database, collection)
    columns = database.columns("embedding_metadata")
    value = ", ".join(name for name in _VALUES if name in columns)
    fields_of = f"SELECT key, coalesce({value}, NULL) FROM embedding_metadata WHERE id = ?"
    group: list[Piece] = []
    current: str | None = None
    for row, id, part_of in database.rows(_SORTED, (collection.id,)):
        if part_of != current:
            yield from _finished(group, current, queue)
            group, current = [], part_of
        fields = dict(database.rows(fields_of, (row,)))
        piece = queue.apply(id, Piece(id, fields.pop(TEXT, None), fields))
        if piece is not None:
            group.append(piece)
    yield from _finished(group, current, queue)
    new: dict[str, list[Piece]] = {}
    for piece in queue.left():
        new.setdefault(group_of(piece), []).append(piece)
    yield from (sorted(pieces, key=position_of) for pieces in new.values())


def _finished(group: list[Piece], name: str | None, queue: _Queue) -> Iterator[list[Piece]]:
    """The group with those of its pieces that stand in the queue alone."""
    late = [] if name is None else queue.pieces_of(name)
    if late:
        group = sorted([*group, *late], key=position_of)
    if group:
        yield group


def position_of(piece: Piece) -> int:
    """Where a piece stands in what it is a piece of."""
    position = piece.metadata.get("chunk_index")
    return position if isinstance(position, int) else 0


Change = tuple[int, Mapping[str, Any]]
"""An operation of Chroma's queue: 0 add, 1 update, 2 upsert, 3 delete; and its metadata."""


class _Queue:
    """The operations that have not reached the tables, by the id of their record. Each is taken once."""

    def __init__(self, database: ForeignDatabase, collection: Collection) -> None:
        self._changes: dict[str, list[Change]] = {}
        self._pieces: dict[str, list[str]] = {}
        if database.tables() >= {"embeddings_queue", "max_seq_id"}:
            self._fill(database, collection)

    def apply(self, id: str, piece: Piece | None) -> Piece | None:
        """The record as it is after its operations; None if there is none any more."""
        for operation, metadata in self._changes.pop(id, ()):
            if operation == _DELETE:
                piece = None
                continue
            before = {} if piece is None else {TEXT: piece.text, **piece.metadata}
            fields = {key: value for key, value in {**before, **metadata}.items() if value is not None}
            piece = Piece(id, fields.pop(TEXT, None), fields)
        return piece

    def pieces_of(self, parent: str) -> list[Piece]:
        """Further pieces of a drawer or entry that was cut."""
        found = (self.apply(id, None) for id in self._pieces.pop(parent, ()) if id in self._changes)
        return [piece for piece in found if piece is not None]

    def left(self) -> list[Piece]:
        """All other records that the tables do not have."""
        found = [self.apply(id, None) for id in list(self._changes)]
        return [piece for piece in found if piece is not None]

    def _fill(self, database: ForeignDatabase, collection: Collection) -> None:
        numbers = database.rows(
            "SELECT m.seq_id FROM segments s JOIN max_seq_id m ON m.segment_id = s.id"
            " WHERE s.collection = ? AND s.scope = 'METADATA'",
            (collection.id,),
        )
        reached = [int.from_bytes(each, "big") if isinstance(each, bytes) else int(each or 0) for (each,) in numbers]
        sql = (
            "SELECT id, operation, metadata FROM embeddings_queue"
            " WHERE seq_id > ? AND substr(topic, -length(?)) = ? ORDER BY seq_id"
        )
        for id, operation, metadata in database.rows(sql, (max(reached, default=0), collection.id, collection.id)):
            self._changes.setdefault(id, []).append((operation, read_json(metadata, dict)))
        for id in self._changes:
            parent, cut, _ = id.rpartition("_chunk_")
            if cut:
                self._pieces.setdefault(parent, []).append(id)
