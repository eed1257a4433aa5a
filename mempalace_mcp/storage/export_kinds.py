"""The records of an export: what each kind holds, and how it is read from the tables, page by page.

Records name what they refer to, a drawer by its id and a file by its path, so they hold no row numbers. A kind stands
behind those that it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mempalace_mcp.storage.connection import Connection

Values = Mapping[str, Any]
"""The fields of a record by name, as the tables hold them."""

FEW, MANY = 64, 5_000
"""Rows that are read at once: of those with a text of up to a megabyte, and of others."""


class Form(Enum):
    """What a field is, and how it is written in JSON."""

    NAME = "name"
    ENTITY = "name of an entity"
    TEXT = "text"
    DRAWER = "id of a drawer"
    FACT = "id of a fact"
    TUNNEL = "id of a tunnel"
    TIME = "instant, ISO 8601"
    WRITTEN = "instant, ISO 8601, by the palace's own clock"
    COUNT = "whole number"
    NUMBER = "whole number, written as a text, since it has up to 64 bits"
    SHARE = "number from 0 to 1"
    FLAG = "true or false"
    BYTES = "bytes, written as hexadecimal digits"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record: the column or expression that it is read from. An optional one can be null."""

    name: str
    column: str
    form: Form
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of records: `source` is what stands behind FROM, `key` orders the rows, `within` limits them to wings."""

    name: str
    source: str
    key: tuple[str, ...]
    within: str
    fields: tuple[Field, ...]
    page: int = MANY


_WINGS = "SELECT id FROM wings WHERE key IN {wings}"
_DRAWERS = f"d.wing IN ({_WINGS})"
_FACTS = f"f.source_drawer_id IN (SELECT d.drawer_id FROM drawers d WHERE {_DRAWERS})"
_OF_DRAWER = "{join} drawers d ON d.id = t.drawer"
_OF_FILE = "{join} import_files p ON p.id = t.file"
_DRAWER = Field("drawer", "d.drawer_id", Form.DRAWER)
_DRAWER_IF_KEPT = Field("drawer", "d.drawer_id", Form.DRAWER, True)
_FILE = Field("file", "p.path", Form.TEXT)


def _state(table: str) -> tuple[Field, ...]:
    """What a drawer and each of its versions say."""
    return (
        Field("occurred_at", f"{table}.occurred_at", Form.TIME, True),
        Field("source_file", f"{table}.source_file", Form.TEXT, True),
        Field("superseded_by", f"{table}.superseded_by", Form.DRAWER, True),
        Field("metadata", f"{table}.metadata", Form.OBJECT),
        Field("content", f"{table}.content", Form.TEXT),
    )


WING = Kind("wing", "wings w", ("w.key",), "w.key IN {wings}", (Field("name", "w.name", Form.NAME),))
DRAWER = Kind(
    "drawer",
    "drawers d {join} wings w ON w.id = d.wing {join} rooms r ON r.id = d.room",
    ("d.id",),  # what was filed at once is in this order alone, and neighbours in a source are found by it
    _DRAWERS,
    (
        Field("id", "d.drawer_id", Form.DRAWER),
        Field("wing", "w.name", Form.NAME),
        Field("room", "r.name", Form.NAME),
        Field("created_at", "d.created_at", Form.WRITTEN),
        Field("updated_at", "d.updated_at", Form.WRITTEN),
        Field("deleted_at", "d.deleted_at", Form.WRITTEN, True),
        Field("added_by", "d.added_by", Form.TEXT, True),
        Field("version", "d.version", Form.COUNT),
        Field("versions", "(SELECT count(*) FROM versions v WHERE v.drawer = d.id)", Form.COUNT),
        *_state("d"),
    ),
    FEW,
)
VERSION = Kind(
    "version",
    "drawers d {join} versions t ON t.drawer = d.id",
    ("d.id", "t.version"),
    _DRAWERS,
    (
        _DRAWER,
        Field("version", "t.version", Form.COUNT),
        Field("wing", "t.wing", Form.NAME),
        Field("room", "t.room", Form.NAME),
        Field("replaced_at", "t.replaced_at", Form.WRITTEN),
        *_state("t"),
    ),
    FEW,
)
FACT = Kind(
    "fact",
    "facts f {join} entities s ON s.id = f.subject {join} predicates p ON p.id = f.predicate",
    ("f.id",),
    _FACTS,
    (
        Field("id", "f.fact_id", Form.FACT),
        Field("subject", "s.name", Form.ENTITY),
        Field("predicate", "p.name", Form.ENTITY),
        Field("object", "f.object", Form.TEXT),
        Field("valid_from", "f.valid_from", Form.TIME, True),
        Field("valid_to", "f.valid_to", Form.TIME, True),
        Field("recorded_at", "f.recorded_at", Form.WRITTEN),
        Field("retracted_at", "f.retracted_at", Form.WRITTEN, True),
        Field("confidence", "f.confidence", Form.SHARE, True),
        Field("source_drawer_id", "f.source_drawer_id", Form.DRAWER, True),
    ),
)
FILE = Kind(
    "file",
    "import_files p",
    ("p.path",),
    # The state of a file says that all of it is here; without its other wings it would not be.
    "1 = 0",
    (
        Field("path", "p.path", Form.TEXT),
        Field("state", "p.state", Form.TEXT, True),
        Field("drawers", "p.drawers", Form.COUNT),
    ),
)

KINDS: tuple[Kind, ...] = (
    WING,
    Kind(
        "room",
        "rooms r {join} wings w ON w.id = r.wing",
        ("w.key", "r.key"),
        "w.key IN {wings}",
        (Field("wing", "w.name", Form.NAME), Field("name", "r.name", Form.NAME)),
    ),
    Kind(
        "tunnel",
        "tunnels t {join} rooms sr ON sr.id = t.source {join} wings sw ON sw.id = sr.wing"
        " {join} rooms tr ON tr.id = t.target {join} wings tw ON tw.id = tr.wing",
        ("t.id",),
        "sw.key IN {wings} AND tw.key IN {wings}",
        (
            Field("id", "t.tunnel_id", Form.TUNNEL),
            Field("source_wing", "sw.name", Form.NAME),
            Field("source_room", "sr.name", Form.NAME),
            Field("target_wing", "tw.name", Form.NAME),
            Field("target_room", "tr.name", Form.NAME),
            Field("label", "t.label", Form.TEXT),
            Field("source_drawer_id", "t.source_drawer_id", Form.DRAWER, True),
            Field("target_drawer_id", "t.target_drawer_id", Form.DRAWER, True),
            Field("created_at", "t.created_at", Form.WRITTEN),
        ),
    ),
    DRAWER,
    VERSION,
    Kind(
        "diary",
        f"diary t {_OF_DRAWER}",
        ("d.drawer_id",),
        _DRAWERS,
        (_DRAWER, Field("agent", "t.name", Form.NAME), Field("topic", "t.title", Form.TEXT)),
    ),
    Kind(
        "entity",
        "entities e",
        ("e.key",),
        f"e.id IN (SELECT f.subject FROM facts f WHERE {_FACTS} UNION"
        f" SELECT f.object_entity FROM facts f WHERE {_FACTS})",
        (Field("name", "e.name", Form.ENTITY),),
    ),
    Kind(
        "predicate",
        "predicates e",
        ("e.key",),
        f"e.id IN (SELECT f.predicate FROM facts f WHERE {_FACTS})",
        (Field("name", "e.name", Form.ENTITY),),
    ),
    FACT,
    Kind(
        "imported",
        f"imported t {_OF_DRAWER} {_OF_FILE}",
        ("d.drawer_id",),
        _DRAWERS,
        (_DRAWER, _FILE, Field("digest", "t.digest", Form.TEXT)),
    ),
    Kind(
        "message",
        "said t LEFT JOIN drawers d ON d.id = t.drawer",
        ("t.key",),
        _DRAWERS,
        (Field("key", "t.key", Form.NUMBER), _DRAWER_IF_KEPT, Field("digest", "t.digest", Form.NUMBER)),
    ),
    Kind(
        "part",
        f"parts t {_OF_FILE} LEFT JOIN drawers d ON d.id = t.drawer",
        ("p.path", "t.part"),
        _DRAWERS,
        (
            _FILE,
            Field("part", "t.part", Form.TEXT),
            _DRAWER_IF_KEPT,
            Field("digest", "t.digest", Form.TEXT),
            Field("gone", "t.gone", Form.FLAG),
        ),
    ),
    Kind(
        "unidentified",
        f"unidentified t {_OF_DRAWER}",
        ("d.drawer_id",),
        _DRAWERS,
        (_DRAWER, Field("occurred_at", "t.occurred_at", Form.TIME, True)),
    ),
    Kind(
        "foreign_id",
        "foreign_ids t LEFT JOIN drawers d ON d.id = t.drawer",
        ("t.id", "t.source"),
        _DRAWERS,
        (
            Field("id", "t.id", Form.TEXT),
            Field("source", "t.source", Form.TEXT),
            _DRAWER_IF_KEPT,
            Field("digest", "t.digest", Form.BYTES, True),
        ),
    ),
    FILE,
)
"""In the order in which they are written. The versions of a drawer follow it at once."""


class Extract:
    """The records of a palace, of some wings by key or of all; `connection` sees one moment of it."""

    def __init__(self, connection: Connection, wings: Sequence[str] | None = None) -> None:
        self._connection = connection
        self._wings = wings

    def count(self, kind: Kind) -> int:
        """How many records of a kind there are."""
        sql, values = self._source(kind)
        return int(self._connection.execute(f"SELECT count(*) FROM {sql}", values).fetchone()[0])

    def records(self) -> Iterator[tuple[Kind, Values]]:
        """All of them, in the order of their kinds and keys. Few are in memory at a time."""
        for kind in KINDS:
            if kind is VERSION:
                continue
            for record in self._read(kind):
                yield kind, record
                if kind is DRAWER and record["versions"]:
                    yield from ((VERSION, version) for version in self._read(VERSION, record["id"]))

    def _read(self, kind: Kind, drawer: str | None = None) -> Iterator[Values]:
        """The records of a kind, or those of one drawer."""
        source, values = self._source(kind, drawer)
        keys, columns = ", ".join(kind.key), ", ".join(field.column for field in kind.fields)
        names, width = [field.name for field in kind.fields], len(kind.key)
        beyond: dict[str, Any] = {}
        while True:
            after = f" AND ({keys}) > ({', '.join(f':{name}' for name in beyond)})" if beyond else ""
            rows = self._connection.execute(
                f"SELECT {keys}, {columns} FROM {source}{after} ORDER BY {keys} LIMIT {kind.page}", values | beyond
            ).fetchall()
            for row in rows:
                yield dict(zip(names, row[width:], strict=True))
            if len(rows) < kind.page:
                return
            beyond = {f"key_{number}": value for number, value in enumerate(rows[-1][:width])}

    def _source(self, kind: Kind, drawer: str | None = None) -> tuple[str, dict[str, Any]]:
        """What stands behind FROM, and the values that it names."""
        dialect = self._connection.dialect
        source, values = f"{kind.source} WHERE 1 = 1", dict[str, Any]()
        if self._wings is not None:
            source, values = f"{kind.source} WHERE {kind.within}", {"wings": dialect.array(list(self._wings))}
        if drawer is not None:
            source, values = f"{source} AND d.drawer_id = :drawer", values | {"drawer": drawer}
        return source.format(join=dialect.ordered_join, wings=dialect.members(":wings", str)), values
