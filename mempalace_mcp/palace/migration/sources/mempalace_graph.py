"""The knowledge graph of MemPalace 3.x: facts with the time during which they hold, and when they were recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import UTC_ZONE, Edge
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.foreign_database import ForeignDatabase, open_foreign
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options
from mempalace_mcp.palace.migration.values import read_time, text_of

_FIELDS = ("id", "predicate", "valid_from", "valid_to", "confidence", "source_drawer_id", "extracted_at")
"""Of these, versions before the present one lack some."""


def read_graphs(files: Sequence[Path], options: Options) -> Iterator[Item]:
    """The facts of all files; one that several of them have comes once. A file that cannot be read is left out."""
    seen: set[bytes] = set()
    for file in files:
        try:
            with open_foreign(file, options.scratch) as database:
                yield from _read(database, seen)
        except PalaceError as error:
            yield LeftOut(str(file), f"the knowledge graph cannot be read: {error.message}")


def _read(database: ForeignDatabase, seen: set[bytes]) -> Iterator[Item]:
    columns = database.columns("triples")
    if not columns:
        return
    fields = [f"t.{name}" if name in columns else "NULL" for name in _FIELDS]
    named = "name" in database.columns("entities")
    ends = (
        "(SELECT name FROM entities WHERE id = t.subject), (SELECT name FROM entities WHERE id = t.object)"
        if named
        else "NULL, NULL"
    )
    sql = f"SELECT t.subject, t.object, {ends}, {', '.join(fields)} FROM triples t ORDER BY t.rowid"
    for subject_id, object_id, subject, object, *values in database.rows(sql):
        fact = dict(zip(_FIELDS, values, strict=True))
        triple = tuple(map(text_of, (subject or subject_id, fact["predicate"], object or object_id)))
        said = hashlib.blake2b(repr((triple, fact["valid_from"], fact["valid_to"])).encode("utf-8", "replace"))
        if said.digest() in seen:
            yield LeftOut(str(fact["id"]), "facts that the graph has twice", is_derived=True)
            continue
        seen.add(said.digest())
        yield _fact(triple, fact)


def _fact(triple: tuple[str, ...], fact: dict[str, Any]) -> Item:
    """The fact; times that cannot be read would make it hold when it did not, so it is left out with them."""
    times = {
        "valid_from": read_time(fact["valid_from"], UTC_ZONE),
        "valid_to": read_time(fact["valid_to"], UTC_ZONE, Edge.AFTER),
    }
    for name, instant in times.items():
        if instant is None and fact[name] not in (None, ""):
            return LeftOut(f"{fact['id']} ({name} {fact[name]!r})", f"a fact has a {name} that is no date")
    confidence = fact["confidence"]
    return FactItem(
        id=f"fact:{fact['id']}",
        subject=triple[0],
        predicate=triple[1],
        object=triple[2],
        valid_from=times["valid_from"],
        valid_to=times["valid_to"],
        recorded_at=read_time(fact["extracted_at"], UTC_ZONE),
        confidence=confidence if isinstance(confidence, int | float) else None,
        source_id=text_of(fact["source_drawer_id"]) or None,
    )
