"""A palace of MemPalace 3.11 as that program and Chroma 1.5 write it: the tables that hold what people filed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLLECTION = "27baee89-2fee-4799-84af-697defd1797b"
CLOSETS = "5c0c0c8a-0000-4799-84af-697defd1797b"
SEGMENT = "70b4e2a7-f719-4b5b-bce5-555dd3398044"
TOPIC = f"persistent://default/default/{COLLECTION}"
PIECE = 800


@dataclass(frozen=True)
class PeerPalace:
    """The folder of such a palace."""

    folder: Path

    @property
    def chroma(self) -> Path:
        return self.folder / "chroma.sqlite3"

    @property
    def graph(self) -> Path:
        return self.folder / "knowledge_graph.sqlite3"

    @classmethod
    def make(cls, folder: Path) -> PeerPalace:
        """An empty one."""
        folder.mkdir(parents=True)
        made = cls(folder)
        with closing(sqlite3.connect(made.chroma)) as connection, connection:
            connection.executescript((HERE / "chroma.sql").read_text())
            for id, name, segment in ((COLLECTION, "mempalace_drawers", SEGMENT), (CLOSETS, "mempalace_closets", "c")):
                connection.execute("INSERT INTO collections (id, name, database_id) VALUES (?, ?, 'd')", (id, name))
                connection.execute("INSERT INTO segments VALUES (?, 'sqlite', 'METADATA', ?)", (segment, id))
                connection.execute("INSERT INTO segments VALUES (?, 'hnsw', 'VECTOR', ?)", (f"v{segment}", id))
                connection.execute("INSERT INTO max_seq_id VALUES (?, 0)", (segment,))
        with closing(sqlite3.connect(made.graph)) as connection, connection:
            connection.executescript((HERE / "knowledge_graph.sql").read_text())
        return made

    def add(self, id: str, text: str | None, segment: str = SEGMENT, **metadata: Any) -> None:
        """A record in the tables."""
        self.add_all([(id, text, metadata)], segment)

    def add_all(self, records: list[tuple[str, str | None, dict[str, Any]]], segment: str = SEGMENT) -> None:
        """Records in the tables, in one transaction."""
        with closing(sqlite3.connect(self.chroma)) as connection, connection:
            for id, text, metadata in records:
                row = connection.execute(
                    "INSERT INTO embeddings (segment_id, embedding_id, seq_id) VALUES (?, ?, 0)", (segment, id)
                ).lastrowid
                fields = {"chroma:document": text, **metadata} if text is not None else metadata
                for key, value in fields.items():
                    column = {bool: "bool_value", int: "int_value", float: "float_value"}.get(
                        type(value), "string_value"
                    )
                    connection.execute(
                        f"INSERT INTO embedding_metadata (id, key, {column}) VALUES (?, ?, ?)", (row, key, value)
                    )

    def add_drawer(self, id: str, text: str, wing: str = "home", room: str = "cellar", **metadata: Any) -> None:
        """A drawer, cut into pieces if it is long."""
        fields = {"wing": wing, "room": room, "source_file": "", "added_by": "mcp", "id_recipe": "v3", **metadata}
        fields.setdefault("filed_at", "2026-03-02T10:00:00.123456")
        if len(text) <= PIECE:
            self.add(id, text, chunk_index=0, **fields)
            return
        self.add_all(
            [
                (
                    f"{id}_chunk_{start // PIECE:06d}",
                    text[start : start + PIECE],
                    {**fields, "chunk_index": start // PIECE, "parent_drawer_id": id},
                )
                for start in range(0, len(text), PIECE)
            ]
        )

    def add_entry(self, id: str, text: str, agent: str, filed_at: str, **metadata: Any) -> None:
        """An entry of a diary; the pieces of a long one carry the older key alone."""
        fields = {"wing": f"wing_{agent}", "room": "diary", "hall": "hall_diary", "topic": "work", "agent": agent}
        fields |= {"type": "diary_entry", "filed_at": filed_at, "date": filed_at[:10], **metadata}
        for start in range(0, len(text), PIECE):
            part = {} if len(text) <= PIECE else {"parent_entry_id": id}
            name = id if not part else f"{id}_chunk_{start // PIECE:06d}"
            self.add(name, text[start : start + PIECE], chunk_index=start // PIECE, **fields, **part)

    def queue(self, seq: int, operation: int, id: str, text: str | None = None, **metadata: Any) -> None:
        """An operation that has not reached the tables."""
        fields = {**metadata, **({"chroma:document": text} if text is not None else {})}
        with closing(sqlite3.connect(self.chroma)) as connection, connection:
            connection.execute(
                "INSERT INTO embeddings_queue (seq_id, operation, topic, id, metadata) VALUES (?, ?, ?, ?, ?)",
                (seq, operation, TOPIC, id, json.dumps(fields)),
            )

    def add_fact(
        self, id: str, subject: str, predicate: str, object: str, file: Path | None = None, **fields: Any
    ) -> None:
        """A fact, and the names of its ends."""
        with closing(sqlite3.connect(file or self.graph)) as connection, connection:
            for name in (subject, object):
                connection.execute("INSERT OR IGNORE INTO entities (id, name) VALUES (?, ?)", (entity_id(name), name))
            row = {
                "id": id,
                "subject": entity_id(subject),
                "predicate": predicate,
                "object": entity_id(object),
            } | fields
            marks = ", ".join("?" for _ in row)
            connection.execute(f"INSERT INTO triples ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def entity_id(name: str) -> str:
    return name.lower().replace(" ", "_").replace("'", "")
