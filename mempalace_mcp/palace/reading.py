"""Reading what was filed: by id, by listing, by agent, by place."""

from __future__ import annotations

from collections.abc import Sequence

from mempalace_mcp.core import text
from mempalace_mcp.core.model import DiaryEntry, Drawer, DrawerVersion, Found, Page, Taxonomy
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores


class Reading:
    """What finds drawers without searching."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def get_drawers(self, drawer_ids: Sequence[str]) -> Found:
        """Live drawers by id, in the order asked, verbatim."""
        wanted = arguments.read_ids(drawer_ids)
        with self._stores.reader.read() as connection:
            drawers = self._stores.drawers.get(connection, wanted)
        found = {drawer.drawer_id for drawer in drawers}
        return Found(drawers, [each for each in wanted if each not in found])

    def versions(self, drawer_id: str) -> list[DrawerVersion]:
        """What a drawer said before each of its updates, oldest first."""
        known = arguments.read_id(drawer_id)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.versions(connection, known)

    def list_drawers(
        self,
        *,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        since: str | None = None,
        before: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Drawer]:
        """Live drawers, newest first."""
        chosen = arguments.read_filter(self._stores.calendar, wing, room, source_file, since, before)
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.page(connection, chosen, limit, arguments.present(cursor))

    def diary_read(
        self, agent_name: str, *, last_n: int = 10, topic: str | None = None, cursor: str | None = None
    ) -> Page[DiaryEntry]:
        """An agent's diary, newest first."""
        agent = text.read_name(agent_name, "agent_name")
        arguments.read_limit(last_n, "last_n")
        given = arguments.present(topic)
        subject = text.read_name(given, "topic").shown if given else None
        with self._stores.reader.read() as connection:
            return self._stores.diary.page(connection, agent.key, subject, last_n, arguments.present(cursor))

    def get_taxonomy(self, *, wing: str | None = None) -> Taxonomy:
        """Wings and rooms with their live drawers."""
        given = arguments.present(wing)
        key = text.read_name(given, "wing").key if given else None
        with self._stores.reader.read() as connection:
            rooms = self._stores.drawers.taxonomy(connection, key)
        return Taxonomy(rooms, sum(room.drawers for room in rooms))
