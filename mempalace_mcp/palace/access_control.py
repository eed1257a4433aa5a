"""The stores of a palace as a caller sees them who is limited to some of its wings.

Whatever the facade does, it does through its stores; so here is the one place where wings are kept apart. A drawer of
another wing is treated as one that does not exist, and filing into another wing is refused. Facts belong to no wing,
and say what drawers of any wing say: none of them is shown, counted or recorded.

What is not here is safe for other reasons: the lexicon and the index name chunks, and only `chunk_rows` turns them into
drawers; the indexer's methods are out of every caller's reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from mempalace_mcp.core.errors import Forbidden
from mempalace_mcp.core.model import (
    Chunk,
    DiaryEntry,
    Drawer,
    DrawerChanges,
    DrawerFilter,
    DrawerVersion,
    Duplicate,
    Fact,
    Filed,
    NewDrawer,
    Page,
    Place,
    Renaming,
    RoomCount,
    Span,
    Target,
    Tunnel,
)
from mempalace_mcp.core.navigation import NameCount, SharedRoom, Traversal, TunnelFigures
from mempalace_mcp.core.text import Name, name_key
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.diary import EVERYWHERE, DiaryStore
from mempalace_mcp.storage.drawers import ChunkRow, DrawerStore, unknown_drawer
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.transactions import Transaction


def limited(stores: Stores, wings: Sequence[str]) -> Stores:
    """The same stores with nothing in them but these wings, given by key."""
    within = tuple(sorted(wings))
    drawers = WingDrawers(stores.lexicon, within)
    return replace(stores, drawers=drawers, diary=WingDiary(drawers, within), graph=ClosedGraph(), within=within)


class WingDrawers(DrawerStore):
    """The drawers of some wings."""

    _within: tuple[str, ...]

    def __init__(self, lexicon: Lexicon, within: tuple[str, ...]) -> None:
        super().__init__(lexicon)
        self._within = within

    def file(self, tx: Transaction, drawer: NewDrawer, spans: Sequence[Span]) -> Filed:
        """File a text in one of the wings.

        Raises:
            Forbidden: it is for another wing.
        """
        self._verify(drawer.place.wing)
        return super().file(tx, drawer, spans)

    def update(self, tx: Transaction, drawer_id: str, changes: DrawerChanges, spans: Sequence[Span] | None) -> Drawer:
        """Change a drawer that stays within the wings.

        Raises:
            NotFound: no live drawer of these wings has that id.
            Forbidden: it would move to another wing.
        """
        if not self.get(tx.connection, [drawer_id]):
            raise unknown_drawer(drawer_id)
        if changes.wing is not None:
            self._verify(changes.wing)
        return super().update(tx, drawer_id, changes, spans)

    def move(self, tx: Transaction, drawer_ids: Sequence[str], target: Target) -> int:
        """Move those of the drawers that stand in these wings, within them.

        Raises:
            Forbidden: they would move to another wing.
        """
        if target.wing is not None:
            self._verify(target.wing, "to_wing")
        return super().move(tx, drawer_ids, target)  # limited by `_within`

    def look_at_renaming(self, connection: Connection, wing: Name, room: Name | None, new_name: Name) -> Renaming:
        """What renaming one of these wings, or a room of theirs, would do.

        Raises:
            Forbidden: it would become another wing.
        """
        if room is None:
            self._verify(new_name, "new_name")
        return super().look_at_renaming(connection, wing, room, new_name)

    def rename(self, tx: Transaction, wing: Name, room: Name | None, new_name: Name) -> Renaming:
        """Rename one of these wings, or a room of theirs.

        Raises:
            Forbidden: it is another wing, or would become one.
        """
        self._verify(wing)
        return super().rename(tx, wing, room, new_name)

    def move_back(self, tx: Transaction, move_id: int) -> int:
        """Undo a move as far as it was within these wings."""
        return super().move_back(tx, move_id)  # limited by `_within`

    def delete(self, tx: Transaction, drawer_ids: Sequence[str]) -> list[str]:
        """Move those of the drawers to the trash that stand in these wings."""
        return super().delete(tx, [drawer.drawer_id for drawer in self.get(tx.connection, drawer_ids)])

    def restore(self, tx: Transaction, drawer_ids: Sequence[str]) -> list[str]:
        """Bring those of the drawers back that stood in these wings."""
        return super().restore(tx, [drawer.drawer_id for drawer in self.get(tx.connection, drawer_ids, deleted=True)])

    def get(self, connection: Connection, drawer_ids: Sequence[str], *, deleted: bool = False) -> list[Drawer]:
        """Drawers of these wings by id."""
        found = super().get(connection, drawer_ids, deleted=deleted)
        return [drawer for drawer in found if self._holds(drawer.wing)]

    def page(self, connection: Connection, filter: DrawerFilter, limit: int, cursor: str | None) -> Page[Drawer]:
        """Live drawers of these wings that match."""
        return super().page(connection, self._limit(filter), limit, cursor)

    def matching(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[str]:
        """Ids of live drawers of these wings that match."""
        return super().matching(connection, self._limit(filter), limit)

    def count(self, connection: Connection, filter: DrawerFilter) -> int:
        """How many live drawers of these wings match."""
        return super().count(connection, self._limit(filter))

    def versions(self, connection: Connection, drawer_id: str) -> list[DrawerVersion]:
        """What a drawer of these wings said while it stood in one of them."""
        if not self.get(connection, [drawer_id], deleted=True):
            return []
        seen = [each for each in super().versions(connection, drawer_id) if self._holds(each.wing)]
        linked = [each.superseded_by for each in seen if each.superseded_by is not None]
        known = {drawer.drawer_id for drawer in self.get(connection, linked, deleted=True)}
        return [each if each.superseded_by in known else replace(each, superseded_by=None) for each in seen]

    def duplicates(self, connection: Connection, content: str, filter: DrawerFilter, limit: int) -> list[Duplicate]:
        """Live drawers of these wings that say the same."""
        return super().duplicates(connection, content, self._limit(filter), limit)

    def successors(self, connection: Connection, drawer_ids: Sequence[str]) -> dict[str, str]:
        """The newest ones that stand in these wings."""
        return super().successors(connection, drawer_ids)  # limited by `_within`

    def taxonomy(self, connection: Connection, wing: str | None) -> list[RoomCount]:
        """Rooms of these wings."""
        return [room for room in super().taxonomy(connection, wing) if self._holds(room.wing)]

    def wings_page(self, connection: Connection, limit: int, cursor: str | None) -> Page[NameCount]:
        """Those of these wings that hold drawers."""
        return super().wings_page(connection, limit, cursor)  # limited by `_within`

    def rooms_page(self, connection: Connection, wing: str | None, limit: int, cursor: str | None) -> Page[NameCount]:
        """Rooms of these wings."""
        return super().rooms_page(connection, wing, limit, cursor)  # limited by `_within`

    def dig(self, tx: Transaction, tunnel: Tunnel) -> tuple[Tunnel, bool]:
        """Make a tunnel between rooms of these wings.

        Raises:
            Forbidden: it would lead into another wing.
        """
        self._verify(tunnel.source.wing, "source_wing")
        self._verify(tunnel.target.wing, "target_wing")
        return super().dig(tx, tunnel)

    def fill(self, tx: Transaction, tunnel_id: str) -> bool:
        """Remove a tunnel between rooms of these wings."""
        return super().fill(tx, tunnel_id)  # limited by `_within`, as are those that follow

    def tunnels_page(
        self, connection: Connection, wing: str | None, room: str | None, limit: int, cursor: str | None
    ) -> Page[Tunnel]:
        """Tunnels between rooms of these wings, without the drawers that they are about."""
        return super().tunnels_page(connection, wing, room, limit, cursor)

    def shared_rooms(
        self, connection: Connection, wing_a: str | None, wing_b: str | None, limit: int, cursor: str | None
    ) -> Page[SharedRoom]:
        """Rooms of the same name in several of these wings."""
        return super().shared_rooms(connection, wing_a, wing_b, limit, cursor)

    def traverse(
        self, connection: Connection, room: str, wing: str | None, max_hops: int, limit: int, cursor: str | None
    ) -> Traversal:
        """The rooms of these wings that are reached through no other wing."""
        return super().traverse(connection, room, wing, max_hops, limit, cursor)

    def tunnel_figures(self, connection: Connection) -> TunnelFigures:
        """How these wings hang together."""
        return super().tunnel_figures(connection)

    def find_wing(self, connection: Connection, key: str) -> Name | None:
        """The wing of that key, if it is one of these."""
        return super().find_wing(connection, key) if key in self._within else None

    def find_room(self, connection: Connection, wing: str, room: str) -> Place | None:
        """The room of these keys, if its wing is one of these."""
        return super().find_room(connection, wing, room) if wing in self._within else None

    def chunk_rows(self, connection: Connection, chunk_ids: Sequence[int], filter: DrawerFilter) -> list[ChunkRow]:
        """Those of the chunks whose drawer stands in these wings."""
        return super().chunk_rows(connection, chunk_ids, self._limit(filter))

    def newest_pending(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[Chunk]:
        """Chunks of these wings that wait for their vectors."""
        return super().newest_pending(connection, self._limit(filter), limit)

    def newest_chunks(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[int]:
        """The first chunks of the newest drawers of these wings that match."""
        return super().newest_chunks(connection, self._limit(filter), limit)

    def _limit(self, filter: DrawerFilter) -> DrawerFilter:
        return replace(filter, within=self._within)

    def _holds(self, wing: str) -> bool:
        return name_key(wing) in self._within

    def _verify(self, wing: Name, argument: str = "wing") -> None:
        if wing.key not in self._within:
            allowed = ", ".join(self._within) or "none"
            raise Forbidden(
                f"your token does not reach the wing {wing.shown!r}", argument=argument, hint=f"It reaches: {allowed}."
            )


class WingDiary(DiaryStore):
    """The diary entries that stand in some wings."""

    def __init__(self, drawers: WingDrawers, within: tuple[str, ...]) -> None:
        super().__init__(drawers)
        self._within = within

    def page(
        self,
        connection: Connection,
        agent: str,
        topic: str | None,
        limit: int,
        cursor: str | None,
        filter: DrawerFilter = EVERYWHERE,
    ) -> Page[DiaryEntry]:
        """An agent's entries in these wings."""
        return super().page(connection, agent, topic, limit, cursor, replace(filter, within=self._within))


class ClosedGraph(GraphStore):
    """A graph that nobody may look into: listings that only add to something else are empty, all else is refused."""

    def add(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def invalidate(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def retract(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def supersede(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def query(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def path(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def timeline(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def statistics(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise _closed()

    def recent(self, *_: Any, **__: Any) -> list[Fact]:
        """None."""
        return []


def _closed() -> Forbidden:
    return Forbidden(
        "facts belong to no wing, and your token is limited to wings",
        argument="facts",
        hint="File what you know as a drawer, or use a token that is not limited.",
    )
