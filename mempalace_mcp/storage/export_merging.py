"""Stores the records of an export. What is there already stays: repeating an import changes nothing.

- A drawer that is not there is stored with its id, its times and its versions, in the trash or not.
- Of a drawer that says something else here, the text that was changed last wins; the other becomes a version. Whether
  it is in the trash is decided by the palace that it comes into.
- Of a version of a fact that is believed here and retracted there, the retraction is taken over. One that says what is
  believed here under another id is not stored again. A fact has one version at most that is believed: the last one.
- A tunnel between the same rooms with the same label is the same tunnel.
- Of all other records those of the palace stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Place, Span
from mempalace_mcp.core.text import name_key, read_entity, read_name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.export_kinds import Values
from mempalace_mcp.storage.graph_queries import as_name
from mempalace_mcp.storage.imports import ensure_file
from mempalace_mcp.storage.rows import content_hash, ensure_place, normalized_hash
from mempalace_mcp.storage.transactions import Transaction

ADDED, UNCHANGED, UPDATED, KEPT, NO_DRAWER = "added", "unchanged", "updated", "kept", "no_drawer"
OUTCOMES = (ADDED, UNCHANGED, UPDATED, KEPT, NO_DRAWER)
"""`updated`: the text of the export is newer, the one that was here is a version now. `kept`: the text here is newer,
the one of the export is a version now. `no_drawer`: the drawer to which the record belongs is not here."""

_PLAIN = ("occurred_at", "source_file", "superseded_by", "metadata", "content")
_STATE = ("wing", "room", *_PLAIN)
_INDEXED = ("occurred_at", "source_file", "content")
Cut = Callable[[str], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class _Version:
    """A state of a drawer that another one has replaced."""

    number: int
    replaced_at: Instant
    state: tuple[Any, ...]

    @property
    def says(self) -> tuple[Any, ...]:
        return _says(self.state)


class Merging:
    """Stores records in a transaction. `cut` cuts a text into its chunks."""

    def __init__(self, tx: Transaction, drawers: DrawerStore, cut: Cut) -> None:
        self._tx = tx
        self._connection: Connection = tx.connection
        self._drawers = drawers
        self._cut = cut

    def drawer(self, drawer: Values, versions: Sequence[Values]) -> str:
        """Store a drawer with all of its versions; returns what has become of it."""
        theirs = [_Version(each["version"], each["replaced_at"], _state_of(each)) for each in versions]
        row = self._connection.execute(
            f"SELECT d.id, d.updated_at, d.deleted_at, d.version, w.name, r.name, {', '.join(f'd.{n}' for n in _PLAIN)}"
            " FROM drawers d JOIN wings w ON w.id = d.wing JOIN rooms r ON r.id = d.room WHERE d.drawer_id = ?",
            (drawer["id"],),
        ).fetchone()
        if row is None:
            self._insert(drawer, theirs)
            return ADDED
        return self._merge(_Known(row[0], row[1], row[2], row[3], tuple(row[4:])), drawer, theirs)

    def record(self, kind: str, values: Values) -> str:
        """Store a record of another kind; returns what has become of it."""
        return _OTHERS[kind](self, values)

    def _insert(self, drawer: Values, versions: Sequence[_Version]) -> None:
        times = [drawer["created_at"], drawer["updated_at"], drawer["deleted_at"] or drawer["created_at"]]
        self._tx.advance(max(*times, *(each.replaced_at for each in versions)))
        columns = {
            "drawer_id": drawer["id"],
            "created_at": drawer["created_at"],
            "updated_at": drawer["updated_at"],
            "added_by": drawer["added_by"],
            "version": drawer["version"],
            **self._columns(_state_of(drawer)),
        }
        (row,) = self._connection.execute(
            f"INSERT INTO drawers ({', '.join(columns)}) VALUES (:{', :'.join(columns)}) RETURNING id", columns
        ).fetchone()
        self._write_versions(row, versions)
        self._index(row, drawer["id"], drawer["content"], drawer["deleted_at"])

    def _merge(self, mine: _Known, drawer: Values, theirs: Sequence[_Version]) -> str:
        own = [
            _Version(number, replaced_at, tuple(state))
            for number, replaced_at, *state in self._connection.execute(
                f"SELECT version, replaced_at, {', '.join(_STATE)} FROM versions WHERE drawer = ? ORDER BY version",
                (mine.row,),
            ).fetchall()
        ]
        state, updated_at = _state_of(drawer), drawer["updated_at"]
        differs = _says(state) != _says(mine.state)
        wins = differs and updated_at > mine.updated_at
        merged = own + _lacking(own, theirs)
        loser = mine.state if wins else state
        if differs and _says(loser) not in {each.says for each in merged}:
            merged.append(_Version(mine.version, max(updated_at, mine.updated_at), loser))
        if not wins and len(merged) == len(own):
            return UNCHANGED
        self._tx.advance(max(updated_at, *(each.replaced_at for each in merged)))
        self._connection.execute("DELETE FROM versions WHERE drawer = ?", (mine.row,))
        merged.sort(key=lambda each: (each.replaced_at, each.number))
        ordered = [_Version(number, each.replaced_at, each.state) for number, each in enumerate(merged, 1)]
        self._write_versions(mine.row, ordered)
        self._set(mine.row, {"version": len(ordered) + 1, "seq": self._tx.stamp.seq})
        if not wins:
            return KEPT
        self._set(mine.row, {"updated_at": updated_at, **self._columns(state)})
        if any(old != new for name, old, new in zip(_STATE, mine.state, state, strict=True) if name in _INDEXED):
            self._set(mine.row, {"deleted_at": None})
            self._index(mine.row, drawer["id"], drawer["content"], mine.deleted_at)
        return UPDATED

    def _columns(self, state: tuple[Any, ...]) -> dict[str, Any]:
        """What the table of drawers has of a state."""
        said = dict(zip(_STATE, state, strict=True))
        place = ensure_place(self._connection, Place(read_name(said["wing"], "wing"), read_name(said["room"], "room")))
        return {
            **{name: said[name] for name in _PLAIN},
            "wing": place.wing,
            "room": place.room,
            "content_hash": content_hash(said["content"]),
            "normalized_hash": normalized_hash(said["content"]),
            "seq": self._tx.stamp.seq,
        }

    def _set(self, row: int, columns: Mapping[str, Any]) -> None:
        sql = ", ".join(f"{name} = :{name}" for name in columns)
        self._connection.execute(f"UPDATE drawers SET {sql} WHERE id = :id", {**columns, "id": row})

    def _index(self, row: int, drawer_id: str, content: str, deleted_at: Instant | None) -> None:
        """Index a drawer that is not in the trash, and then put it there if it belongs there."""
        self._drawers.index_anew(self._tx, drawer_id, self._cut(content))
        if deleted_at is not None:
            self._set(row, {"deleted_at": deleted_at})
            self._connection.execute(
                "DELETE FROM pending WHERE chunk IN (SELECT id FROM chunks WHERE drawer = ?)", (row,)
            )

    def _write_versions(self, row: int, versions: Sequence[_Version]) -> None:
        self._connection.executemany(
            f"INSERT INTO versions (drawer, version, replaced_at, {', '.join(_STATE)})"
            f" VALUES (?, ?, ?, {', '.join('?' * len(_STATE))})",
            [(row, each.number, each.replaced_at, *each.state) for each in versions],
        )

    def _wing(self, values: Values) -> str:
        name = read_name(values["name"], "name")
        return self._insert_once("wings", {"key": name.key, "name": name.shown})

    def _room(self, values: Values) -> str:
        wing, room = read_name(values["wing"], "wing"), read_name(values["name"], "name")
        found = self._connection.execute("SELECT id FROM wings WHERE key = ?", (wing.key,)).fetchone()
        if found is not None:
            return self._insert_once("rooms", {"wing": found[0], "key": room.key, "name": room.shown})
        ensure_place(self._connection, Place(wing, room))
        return ADDED

    def _tunnel(self, values: Values) -> str:
        ends = {}
        for end in ("source", "target"):
            wing, room = (read_name(values[f"{end}_{level}"], level) for level in ("wing", "room"))
            ends[end] = ensure_place(self._connection, Place(wing, room)).room
        columns = {name: values[name] for name in ("label", "source_drawer_id", "target_drawer_id", "created_at")}
        same = self._connection.execute(
            "SELECT 1 FROM tunnels WHERE label = :label AND"
            " (source = :source AND target = :target OR source = :target AND target = :source) LIMIT 1",
            {"label": values["label"], **ends},
        ).fetchone()
        if same is not None:
            return UNCHANGED
        self._tx.advance(values["created_at"])
        return self._insert_once("tunnels", {"tunnel_id": values["id"], **ends, **columns})

    def _entity(self, values: Values) -> str:
        return self._name("entities", values["name"])

    def _predicate(self, values: Values) -> str:
        return self._name("predicates", values["name"])

    def _name(self, table: str, shown: str) -> str:
        name = read_entity(shown, "name")
        return self._insert_once(table, {"key": name.key, "name": name.shown})

    def _name_row(self, table: str, shown: str) -> int:
        self._name(table, shown)
        key = read_entity(shown, "name").key
        return int(self._connection.execute(f"SELECT id FROM {table} WHERE key = ?", (key,)).fetchone()[0])

    def _fact(self, values: Values) -> str:
        same = self._connection.execute(
            "SELECT id, retracted_at FROM facts WHERE fact_id = ? AND recorded_at = ?",
            (values["id"], values["recorded_at"]),
        ).fetchone()
        retracted_at = values["retracted_at"]
        if same is not None:
            if retracted_at is None or same[1] is not None:
                return UNCHANGED
            return self._retract(same[0], retracted_at)
        place = as_name(values["object"])
        said = {
            "subject": self._name_row("entities", values["subject"]),
            "predicate": self._name_row("predicates", values["predicate"]),
            "object": values["object"],
            "valid_from": values["valid_from"],
            "valid_to": values["valid_to"],
        }
        if retracted_at is None:
            if self._is_believed(said):
                return UNCHANGED
            retracted_at = self._give_way(values)
        self._tx.advance(max(values["recorded_at"], retracted_at or values["recorded_at"]))
        columns = {
            "fact_id": values["id"],
            **said,
            "object_entity": None if place is None else self._name_row("entities", place.shown),
            "recorded_at": values["recorded_at"],
            "retracted_at": retracted_at,
            "confidence": values["confidence"],
            "source_drawer_id": values["source_drawer_id"],
        }
        self._connection.execute(f"INSERT INTO facts ({', '.join(columns)}) VALUES (:{', :'.join(columns)})", columns)
        return ADDED

    def _is_believed(self, said: Mapping[str, Any]) -> bool:
        same = self._connection.dialect.same
        return (
            self._connection.execute(
                "SELECT 1 FROM facts WHERE subject = ? AND predicate = ? AND object = ? AND retracted_at IS NULL"
                f" AND {same('valid_from', '?')} AND {same('valid_to', '?')} LIMIT 1",
                tuple(said.values()),
            ).fetchone()
            is not None
        )

    def _give_way(self, values: Values) -> Instant | None:
        """Of the believed version of a fact that is here and the one that comes, let the later one be believed alone.
        Returns when the one that comes was retracted, if it was."""
        believed = self._connection.execute(
            "SELECT id, recorded_at FROM facts WHERE fact_id = ? AND retracted_at IS NULL", (values["id"],)
        ).fetchone()
        if believed is None:
            return None
        if believed[1] > values["recorded_at"]:
            return int(believed[1])
        self._retract(believed[0], values["recorded_at"])
        return None

    def _retract(self, row: int, instant: Instant) -> str:
        self._tx.advance(instant)
        self._connection.execute("UPDATE facts SET retracted_at = ? WHERE id = ?", (instant, row))
        return UPDATED

    def _diary(self, values: Values) -> str:
        agent = read_name(values["agent"], "agent")
        columns = {
            "agent": agent.key,
            "name": agent.shown,
            "topic": name_key(values["topic"]),
            "title": values["topic"],
        }
        return self._of_drawer("diary", values, columns)

    def _imported(self, values: Values) -> str:
        return self._of_drawer(
            "imported", values, {"file": ensure_file(self._tx, values["file"]), "digest": values["digest"]}
        )

    def _message(self, values: Values) -> str:
        return self._of_drawer("said", values, {"key": values["key"], "digest": values["digest"]})

    def _part(self, values: Values) -> str:
        columns = {name: values[name] for name in ("part", "digest", "gone")}
        return self._of_drawer("parts", values, {"file": ensure_file(self._tx, values["file"]), **columns})

    def _unidentified(self, values: Values) -> str:
        return self._of_drawer("unidentified", values, {"occurred_at": values["occurred_at"]})

    def _foreign_id(self, values: Values) -> str:
        return self._of_drawer("foreign_ids", values, {name: values[name] for name in ("id", "source", "digest")})

    def _file(self, values: Values) -> str:
        row, state, drawers = ensure_file(self._tx, values["path"]), values["state"], values["drawers"]
        if state is None and not drawers:
            return UNCHANGED
        changed = self._connection.execute(
            "UPDATE import_files SET state = ?, drawers = ? WHERE id = ? AND state IS NULL AND drawers = 0",
            (state, drawers, row),
        ).rowcount
        if changed:
            self._tx.mark_changed()
        return ADDED if changed else UNCHANGED

    def _of_drawer(self, table: str, values: Values, columns: Mapping[str, Any]) -> str:
        """Store a record that belongs to a drawer, or belonged to one that is purged."""
        drawer = None
        if values["drawer"] is not None:
            found = self._connection.execute(
                "SELECT id FROM drawers WHERE drawer_id = ?", (values["drawer"],)
            ).fetchone()
            if found is None:
                return NO_DRAWER
            (drawer,) = found
        return self._insert_once(table, {"drawer": drawer, **columns})

    def _insert_once(self, table: str, columns: Mapping[str, Any]) -> str:
        inserted = self._connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES (:{', :'.join(columns)}) ON CONFLICT DO NOTHING",
            columns,
        ).rowcount
        if not inserted:
            return UNCHANGED
        self._tx.mark_changed()
        return ADDED


@dataclass(frozen=True, slots=True)
class _Known:
    """A drawer as it is here."""

    row: int
    updated_at: Instant
    deleted_at: Instant | None
    version: int
    state: tuple[Any, ...]


_OTHERS: Mapping[str, Callable[[Merging, Values], str]] = MappingProxyType(
    {
        "wing": Merging._wing,
        "room": Merging._room,
        "diary": Merging._diary,
        "tunnel": Merging._tunnel,
        "entity": Merging._entity,
        "predicate": Merging._predicate,
        "fact": Merging._fact,
        "imported": Merging._imported,
        "message": Merging._message,
        "part": Merging._part,
        "unidentified": Merging._unidentified,
        "foreign_id": Merging._foreign_id,
        "file": Merging._file,
    }
)


def _lacking(own: Sequence[_Version], theirs: Sequence[_Version]) -> list[_Version]:
    """Those of their versions that are to be added: of a drawer that has gone on there all new ones; else, since both
    have replaced what they had in common at a time of their own, those that say what no own one says."""
    known, said = {(each.replaced_at, each.says) for each in own}, {each.says for each in own}
    if known <= {(each.replaced_at, each.says) for each in theirs}:
        return [each for each in theirs if (each.replaced_at, each.says) not in known]
    return [each for each in theirs if each.says not in said]


def _state_of(values: Values) -> tuple[Any, ...]:
    return tuple(values[name] for name in _STATE)


def _says(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """By this, states compare: places by their keys."""
    wing, room, *rest = state
    return (name_key(wing), name_key(room), *rest)
