"""The ids under which drawers and facts were known in the memories that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Transaction


@dataclass(frozen=True, slots=True)
class ForeignItem:
    """What became of an item of another memory. `drawer_id` is None for a fact, and for a drawer that was purged.

    `digest` is that of the text as it was there, `present` that of the drawer's text now.
    """

    drawer_id: str | None
    live: bool
    digest: bytes | None
    present: bytes | None


@dataclass(frozen=True, slots=True)
class MigratedText:
    """A drawer as it is read back: its text with the digest stored beside it, and the digest of the text that it came
    from. `content` is None once it is purged."""

    id: str
    live: bool
    digest: bytes
    present: bytes | None
    content: str | None


def find_items(connection: Connection, source: str, ids: Sequence[str]) -> dict[str, ForeignItem]:
    """Those of the items that came already, by id."""
    dialect = connection.dialect
    rows = connection.execute(
        "SELECT f.id, d.drawer_id, d.deleted_at IS NULL, f.digest, d.content_hash"
        f" FROM {dialect.listed('?', 'wanted', str)}"
        f" {dialect.ordered_join} foreign_ids f ON f.id = wanted.value AND f.source = ?"
        " LEFT JOIN drawers d ON d.id = f.drawer",
        (dialect.array(ids), source),
    )
    return {id: ForeignItem(drawer_id, bool(live), digest, present) for id, drawer_id, live, digest, present in rows}


def find_drawers(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The drawers that were known under these ids anywhere, by id; the one filed last where there are several."""
    dialect = connection.dialect
    rows = connection.execute(
        f"SELECT f.id, d.drawer_id FROM {dialect.listed('?', 'wanted', str)}"
        f" {dialect.ordered_join} foreign_ids f ON f.id = wanted.value JOIN drawers d ON d.id = f.drawer ORDER BY d.id",
        (dialect.array(ids),),
    )
    return dict(rows.fetchall())


def save_item(tx: Transaction, source: str, ids: Iterable[str], drawer_id: str | None, digest: bytes | None) -> None:
    """Remember what an item has become: a drawer, or a fact. Of several ids the first is the one it is known by."""
    for position, id in enumerate(ids):
        tx.connection.execute(
            "INSERT INTO foreign_ids (id, source, drawer, digest)"
            " VALUES (?, ?, (SELECT d.id FROM drawers d WHERE d.drawer_id = ?), ?) ON CONFLICT (id, source)"
            " DO UPDATE SET drawer = excluded.drawer, digest = excluded.digest",
            (id, source, drawer_id, None if position else digest),
        )


def migrated_texts(connection: Connection, source: str, after: str, limit: int) -> list[MigratedText]:
    """The drawers that came from a source, by id, those in the trash or purged included; a page of them."""
    rows = connection.execute(
        "SELECT f.id, d.deleted_at IS NULL, f.digest, d.content_hash, d.content"
        " FROM foreign_ids f LEFT JOIN drawers d ON d.id = f.drawer"
        " WHERE f.source = ? AND f.id > ? AND f.digest IS NOT NULL ORDER BY f.id LIMIT ?",
        (source, after, limit),
    )
    return [MigratedText(id, bool(live), *rest) for id, live, *rest in rows]
