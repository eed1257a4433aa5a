"""Diaries of agents: every entry is a drawer, remembered by agent and topic."""

from __future__ import annotations

from collections.abc import Sequence

from mempalace_mcp.core.model import DiaryEntry, DrawerFilter, NewDrawer, Page, Place, Span
from mempalace_mcp.core.text import MAX_NAME_CHARACTERS, Name, name_key, read_name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.queries import NEWEST, condition_of, decode_cursor, encode_cursor
from mempalace_mcp.storage.transactions import Transaction

ROOM = Name("diary", "diary")
WING_PREFIX = "wing_"
EVERYWHERE = DrawerFilter()

_ENTRY = "d.drawer_id, e.name, e.title, d.content, d.when_at"


class DiaryStore:
    """Entries by agent. Agents and topics are compared without case and shown as written."""

    def __init__(self, drawers: DrawerStore) -> None:
        self._drawers = drawers

    def write(
        self, tx: Transaction, agent: Name, entry: str, topic: str, wing: Name | None, spans: Sequence[Span]
    ) -> DiaryEntry:
        """Add an entry: a drawer in the room `diary` of the wing, by default `wing_<agent>`, dated now.

        The same words written twice are two entries.
        """
        place = Place(wing or _wing_of(agent), ROOM)
        drawer = NewDrawer(place, entry, added_by=agent.shown, occurred_at=tx.stamp.instant)
        drawer_id = self._drawers.file(tx, drawer, spans).drawer_id
        self.enter(tx, drawer_id, agent, topic)
        return DiaryEntry(drawer_id, agent.shown, topic, entry, tx.stamp.instant)

    def enter(self, tx: Transaction, drawer_id: str, agent: Name, topic: str) -> None:
        """Make a drawer an entry of an agent's diary, written when the drawer's text was."""
        tx.connection.execute(
            "INSERT INTO diary (drawer, agent, name, topic, title) SELECT id, ?, ?, ?, ? FROM drawers"
            " WHERE drawer_id = ? ON CONFLICT DO NOTHING",
            (agent.key, agent.shown, name_key(topic), topic, drawer_id),
        )

    def page(
        self,
        connection: Connection,
        agent: str,
        topic: str | None,
        limit: int,
        cursor: str | None,
        filter: DrawerFilter = EVERYWHERE,
    ) -> Page[DiaryEntry]:
        """The live entries of an agent, by key, latest written first; of one topic or of all.

        The filter is of the drawers that the entries are.

        Raises:
            InvalidArgument: the cursor is none, or one of another agent or topic.
        """
        key = None if topic is None else name_key(topic)
        question = ("diary", agent, key, filter)
        condition = condition_of(filter, connection.dialect)
        after, after_drawer = decode_cursor(cursor, question, NEWEST)
        source = (
            f"FROM diary e JOIN drawers d ON d.id = e.drawer AND {condition.sql} WHERE e.agent = :agent"
            f"{'' if key is None else ' AND e.topic = :topic'}"
        )
        values = condition.values | {
            "agent": agent,
            "topic": key,
            "after": after,
            "after_drawer": after_drawer,
            "limit": limit + 1,
        }
        (total,) = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        rows = connection.execute(
            f"SELECT d.when_at, e.drawer, {_ENTRY} {source} AND (d.when_at, e.drawer) < (:after, :after_drawer)"
            " ORDER BY d.when_at DESC, e.drawer DESC LIMIT :limit",
            values,
        ).fetchall()
        more = encode_cursor(rows[limit - 1][:2], question) if len(rows) > limit else None
        return Page([DiaryEntry(*row[2:]) for row in rows[:limit]], total, more)


def _wing_of(agent: Name) -> Name:
    return read_name(f"{WING_PREFIX}{agent.shown}"[:MAX_NAME_CHARACTERS], "agent_name")
