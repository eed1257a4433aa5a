"""The names of the knowledge graph: each is stored once, found by its key and shown as first written."""

from __future__ import annotations

import difflib
import sqlite3
from dataclasses import dataclass

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Resolved
from mempalace_mcp.core.text import Name, read_entity
from mempalace_mcp.storage.transaction import Transaction

MAX_SUGGESTIONS = 5

_CANDIDATES = 100
_SHORTEST_PART = 3
_RESEMBLANCE = 0.6
_AFTER_ALL_TEXT = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class StoredName:
    """An entity or predicate: its row, and how it is shown."""

    id: int
    name: str


def add_entity(tx: Transaction, name: Name) -> StoredName:
    """Store an entity whose key is new."""
    return _insert(tx, "entities", name)


def add_predicate(tx: Transaction, name: Name) -> StoredName:
    """Store a predicate whose key is new."""
    return _insert(tx, "predicates", name)


def as_name(object: str) -> Name | None:
    """The entity that an object names; None for one that cannot be a name, such as a long text."""
    try:
        return read_entity(object, "object")
    except InvalidArgument:
        return None


def resolve(connection: sqlite3.Connection, asked: str) -> tuple[StoredName | None, Resolved]:
    """The entity of that name, and how the name was understood; suggestions where there is none.

    Raises:
        InvalidArgument: it cannot be a name.
    """
    name = read_entity(asked, "entity")
    found = _find(connection, name)
    if found is not None:
        return found, Resolved(asked, found.name)
    return None, Resolved(asked, None, suggest(connection, name.key))


def suggest(connection: sqlite3.Connection, key: str) -> list[str]:
    """Names like the one asked for, best first: those it begins, those it is part of, those written much like it."""
    names = dict(_extensions(connection, key, MAX_SUGGESTIONS))
    if len(key) >= _SHORTEST_PART:
        names |= _containing(connection, key)
    neighbours = dict(_neighbours(connection, key))
    similar = difflib.get_close_matches(key, neighbours, MAX_SUGGESTIONS, _RESEMBLANCE)
    names |= {other: neighbours[other] for other in similar}
    return list(names.values())[:MAX_SUGGESTIONS]


def _find(connection: sqlite3.Connection, name: Name) -> StoredName | None:
    row = connection.execute("SELECT id, name FROM entities WHERE key = ?", (name.key,)).fetchone()
    return StoredName(*row) if row else None


def _insert(tx: Transaction, table: str, name: Name) -> StoredName:
    statement = f"INSERT INTO {table} (key, name) VALUES (?, ?)"
    identifier = tx.connection.execute(statement, (name.key, name.shown)).lastrowid
    assert identifier is not None
    return StoredName(identifier, name.shown)


def _extensions(connection: sqlite3.Connection, key: str, limit: int) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT key, name FROM entities WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
        (key, key + _AFTER_ALL_TEXT, limit),
    ).fetchall()


def _containing(connection: sqlite3.Connection, key: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT key, name FROM entities WHERE instr(key, ?) ORDER BY length(key), key LIMIT ?", (key, MAX_SUGGESTIONS)
    ).fetchall()


def _neighbours(connection: sqlite3.Connection, key: str) -> list[tuple[str, str]]:
    """Names around the place in the alphabet where this one would stand, by ever shorter beginnings."""
    around: dict[str, str] = {}
    for length in range(len(key), 0, -1):
        around |= _extensions(connection, key[:length], _CANDIDATES)
        if len(around) >= _CANDIDATES:
            break
    return list(around.items())
