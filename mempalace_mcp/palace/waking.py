"""The few hundred tokens that a new session needs: places, the diary's last words, facts, what was filed last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby

from mempalace_mcp.core import clock, text
from mempalace_mcp.core.model import DrawerFilter, RoomCount, WakeUp
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.tokens import CHARACTERS_PER_TOKEN, estimate_tokens

MIN_TOKENS = 50
MAX_TOKENS = 8000
WINGS_SHOWN = 12
ROOMS_SHOWN = 6
ENTRIES_SHOWN = 5
DRAWERS_SHOWN = 12
FACTS_SHOWN = 12
LINE_CHARACTERS = 160


class Waking:
    """Summarizes the palace for an agent that wakes up in it."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def wake_up(self, *, wing: str | None = None, agent_name: str | None = None, max_tokens: int = 600) -> WakeUp:
        """An overview within `max_tokens` (estimated at 4 characters each), of one wing or of all."""
        arguments.read_limit(max_tokens, "max_tokens", MAX_TOKENS, MIN_TOKENS)
        given, agent = arguments.present(wing), arguments.present(agent_name)
        chosen = DrawerFilter(wing=text.read_name(given, "wing").key if given else None)
        reader = text.read_name(agent, "agent_name").key if agent else None
        with self._stores.reader.read() as connection:
            rooms = self._stores.drawers.taxonomy(connection, chosen.wing)
            lines = list(self._lines(connection, rooms, chosen, reader))
        kept = _within(lines, max_tokens)
        written = "\n".join(kept)
        return WakeUp(
            text=written,
            tokens=estimate_tokens(written),
            drawers=sum(room.drawers for room in rooms),
            truncated=len(kept) < len(lines),
        )

    def _lines(
        self, connection: sqlite3.Connection, rooms: list[RoomCount], chosen: DrawerFilter, agent: str | None
    ) -> Iterator[str]:
        yield from _places(rooms)
        if agent is not None:
            yield from self._diary(connection, agent)
        yield from self._facts(connection)
        yield from self._drawers(connection, chosen)

    def _diary(self, connection: sqlite3.Connection, agent: str) -> Iterator[str]:
        entries = self._stores.diary.page(connection, agent, None, ENTRIES_SHOWN, None).items
        if entries:
            yield "Diary, newest first:"
        for entry in entries:
            yield _line(f"- {clock.show(entry.written_at)[:10]} [{entry.topic}] {entry.content}")

    def _facts(self, connection: sqlite3.Connection) -> Iterator[str]:
        facts = self._stores.graph.recent(connection, self._stores.now(), FACTS_SHOWN)
        if facts:
            yield "Facts that hold now, newest first:"
        for fact in facts:
            since = f" (since {clock.show(fact.valid_from)[:10]})" if fact.valid_from is not None else ""
            yield _line(f"- {fact.subject} {fact.predicate} {fact.object}{since}")

    def _drawers(self, connection: sqlite3.Connection, chosen: DrawerFilter) -> Iterator[str]:
        drawers = self._stores.drawers.page(connection, chosen, DRAWERS_SHOWN, None).items
        if drawers:
            yield "Filed last:"
        for drawer in drawers:
            when = clock.show(drawer.occurred_at or drawer.created_at)[:10]
            yield _line(f"- {when} {drawer.wing}/{drawer.room} ({drawer.drawer_id}): {drawer.content}")


def _places(rooms: Iterable[RoomCount]) -> Iterator[str]:
    wings = [(wing, list(inside)) for wing, inside in groupby(rooms, key=lambda room: room.wing)]
    total = sum(room.drawers for _, inside in wings for room in inside)
    yield f"Palace: {total} drawers in {len(wings)} wings." if wings else "The palace is empty."
    by_size = sorted(wings, key=lambda each: -sum(room.drawers for room in each[1]))
    for wing, inside in by_size[:WINGS_SHOWN]:
        largest = sorted(inside, key=lambda room: -room.drawers)[:ROOMS_SHOWN]
        named = ", ".join(f"{room.room} {room.drawers}" for room in largest)
        more = f", {len(inside) - len(largest)} more rooms" if len(inside) > len(largest) else ""
        yield _line(f"- {wing} ({sum(room.drawers for room in inside)}): {named}{more}")
    if len(wings) > WINGS_SHOWN:
        yield f"- {len(wings) - WINGS_SHOWN} more wings"


def _line(written: str) -> str:
    flat = " ".join(written.split())
    return flat if len(flat) <= LINE_CHARACTERS else flat[: LINE_CHARACTERS - 1] + "…"


def _within(lines: list[str], tokens: int) -> list[str]:
    """As many whole lines as fit."""
    room = tokens * CHARACTERS_PER_TOKEN
    kept = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept
