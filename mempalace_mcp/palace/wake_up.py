"""The summary for a new session, in a few hundred tokens: places, latest diary entries, facts, newest drawers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import DiaryEntry, Drawer, DrawerFilter, Fact, RoomCount, WakeUp
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.token_estimate import estimate_tokens
from mempalace_mcp.storage.connection import Connection

MIN_TOKENS = 50
MAX_TOKENS = 8000
WINGS_SHOWN = 12
ROOMS_SHOWN = 6
ENTRIES_SHOWN = 5
DRAWERS_SHOWN = 12
FACTS_SHOWN = 12
LINE_CHARACTERS = 160
READ_CHARACTERS = 4 * LINE_CHARACTERS
"""The characters of a text that are read before its white space is collapsed."""

_NOTHING = "The palace is empty."
_NOTHING_HERE = "There is no drawer in this wing."


class WakeUpOperations:
    """The summary of the palace that a session begins with."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def wake_up(self, *, wing: str | None = None, agent_name: str | None = None, max_tokens: int = 600) -> WakeUp:
        """A summary of one wing or of all, of at most `max_tokens` as estimated."""
        arguments.read_limit(max_tokens, "max_tokens", MAX_TOKENS, MIN_TOKENS)
        chosen = DrawerFilter(wing=arguments.read_optional_key(wing, "wing"))
        reader = arguments.read_optional_key(agent_name, "agent_name")
        with self._stores.reader.read() as connection:
            rooms = self._stores.drawers.taxonomy(connection, chosen.wing)
            sections = self._sections(connection, rooms, chosen, reader)
        kept = _within(sections, max_tokens)
        written = "\n".join(kept)
        return WakeUp(
            text=written,
            tokens=estimate_tokens(written),
            drawers=sum(room.drawers for room in rooms),
            truncated=len(kept) < sum(map(len, sections)),
        )

    def _sections(
        self, connection: Connection, rooms: list[RoomCount], chosen: DrawerFilter, agent: str | None
    ) -> list[list[str]]:
        stores = self._stores
        entries = stores.diary.page(connection, agent, None, ENTRIES_SHOWN, None).items if agent else ()
        facts = stores.graph.recent(connection, stores.now(), FACTS_SHOWN)
        newest = stores.drawers.page(connection, chosen, 2 * DRAWERS_SHOWN + len(entries), None).items
        shown = {entry.drawer_id for entry in entries}
        others = [drawer for drawer in newest if drawer.drawer_id not in shown]
        drawers = sorted(others, key=lambda drawer: drawer.superseded_by is not None)[:DRAWERS_SHOWN]
        return [
            list(_places(rooms)) or [_NOTHING if chosen.is_empty else _NOTHING_HERE],
            _headed("Diary, newest first:", map(self._entry, entries)),
            _headed("Facts that hold now, newest first:", map(self._fact, facts)),
            _headed("Newest drawers:", map(self._drawer, drawers)),
        ]

    def _entry(self, entry: DiaryEntry) -> str:
        return f"- {self._date(entry.written_at)} [{entry.topic}] {entry.content[:READ_CHARACTERS]}"

    def _fact(self, fact: Fact) -> str:
        since = None if fact.valid_from is None else f"since {self._date(fact.valid_from)}"
        until = None if fact.valid_to is None else f"until {clock.format_instant(fact.valid_to)}"
        times = ", ".join(filter(None, (since, until)))
        return f"- {fact.subject} {fact.predicate} {fact.object}{f' ({times})' if times else ''}"

    def _drawer(self, drawer: Drawer) -> str:
        when = self._date(drawer.occurred_at or drawer.created_at)
        known = drawer.drawer_id + (f", superseded by {drawer.superseded_by}" if drawer.superseded_by else "")
        return f"- {when} {drawer.wing}/{drawer.room} ({known}): {drawer.content[:READ_CHARACTERS]}"

    def _date(self, instant: Instant) -> str:
        return self._stores.calendar.show_day(instant)


def _headed(heading: str, lines: Iterable[str]) -> list[str]:
    listed = [_line(line) for line in lines]
    return [heading, *listed] if listed else []


def _places(rooms: Iterable[RoomCount]) -> Iterator[str]:
    wings = [(wing, list(inside)) for wing, inside in groupby(rooms, key=lambda room: room.wing)]
    total = sum(room.drawers for _, inside in wings for room in inside)
    if not wings:
        return
    yield f"Palace: {_count(total, 'drawer')} in {_count(len(wings), 'wing')}."
    by_size = sorted(wings, key=lambda each: -sum(room.drawers for room in each[1]))
    for wing, inside in by_size[:WINGS_SHOWN]:
        largest = sorted(inside, key=lambda room: -room.drawers)[:ROOMS_SHOWN]
        named = ", ".join(f"{room.room} {room.drawers}" for room in largest)
        more = f", {_count(len(inside) - len(largest), 'more room')}" if len(inside) > len(largest) else ""
        yield _line(f"- {wing} ({sum(room.drawers for room in inside)}): {named}{more}")
    if len(wings) > WINGS_SHOWN:
        yield f"- {_count(len(wings) - WINGS_SHOWN, 'more wing')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(written: str) -> str:
    flat = " ".join(written.split())
    return flat if len(flat) <= LINE_CHARACTERS else flat[: LINE_CHARACTERS - 1] + "…"


def _within(sections: Sequence[Sequence[str]], tokens: int) -> list[str]:
    """The very first line, and as many whole lines as fit. The sections share the remaining tokens evenly."""
    kept = list(sections[0][:1])
    for place, section in enumerate([sections[0][1:], *sections[1:]]):
        room = tokens - estimate_tokens("\n".join(kept))
        fitting = _fitting(section, room // (len(sections) - place))
        is_bare_heading = place > 0 and len(fitting) == 1
        kept += [] if is_bare_heading else fitting
    return kept


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """The lines from the first on that fit together, each with a line end."""
    for count in range(len(lines), 0, -1):
        if estimate_tokens("\n".join(["", *lines[:count]])) <= room:
            return list(lines[:count])
    return []
