"""Instants as integers: microseconds since 1970-01-01 UTC, read from and shown as ISO 8601."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.zone import UTC_ZONE, Zone

Instant = int
"""Microseconds since the Unix epoch, UTC."""

SECOND: Instant = 1_000_000
DAY: Instant = 86_400 * SECOND

ACCEPTED = "2026-05-08, 2026-05, 2026, 2026-05-08T14:30:00Z (ISO 8601), now, today, yesterday or tomorrow"
"""The forms of dates and times, as refusals name them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)
_TIME = r"\d{2}:\d{2}(:\d{2}([.,]\d{1,6}\d*)?)?"
_OFFSET = r"[Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?"
_INSTANT = re.compile(rf"(?P<local>\d{{4}}-\d{{2}}-\d{{2}}[Tt ]{_TIME})(?: ?(?P<offset>{_OFFSET}))?", re.ASCII)
_LONGEST = 40
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}


class Edge(Enum):
    """Which instant a date, a month or a year stands for."""

    START = "start"
    LAST = "last"
    AFTER = "after"


def now() -> Instant:
    """The present instant by the system's clock."""
    return time.time_ns() // 1000


def from_datetime(moment: datetime) -> Instant:
    """The instant of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(instant: Instant) -> datetime:
    """The instant as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=instant)


FIRST_INSTANT: Instant = from_datetime(datetime.min.replace(tzinfo=UTC))
LAST_INSTANT: Instant = from_datetime(datetime.max.replace(tzinfo=UTC))


def show(instant: Instant) -> str:
    """ISO 8601 with `Z`; the fraction is left out when it is zero."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")


def show_optional(instant: Instant | None) -> str | None:
    """Like `show`; None stays None."""
    return None if instant is None else show(instant)


def day_of(instant: Instant, zone: Zone) -> date:
    """The day that a calendar in the zone shows at an instant."""
    moment = to_datetime(instant)
    try:
        return moment.astimezone(zone.rules).date()
    except OverflowError:
        return moment.date()


def parse(text: str, argument: str, edge: Edge = Edge.START, zone: Zone = UTC_ZONE) -> Instant:
    """Read an ISO 8601 date or instant, a month (`2026-05`) or a year; what has no offset is of the zone. Before the
    offset there may be a blank, as git writes it.

    A bare date, month or year means its first instant there (`START`), its last microsecond (`LAST`) or the first
    instant after it (`AFTER`, for half-open intervals that include it).

    Raises:
        InvalidArgument: it is neither, or no such day or time exists.
    """
    trimmed = text.strip()
    try:
        if len(trimmed) > _LONGEST:
            raise ValueError
        if period := _PERIOD.fullmatch(trimmed):
            return _edge_of(*_days_of(period), edge, zone)
        if not (instant := _INSTANT.fullmatch(trimmed)):
            raise ValueError
        offset = "Z" if instant["offset"] in ("UTC", "GMT") else instant["offset"] or ""
        moment = datetime.fromisoformat(f"{instant['local']}{offset}".upper())
        return from_datetime((moment if moment.tzinfo else moment.replace(tzinfo=zone.rules)).astimezone(UTC))
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{argument} is not a date or time: {trimmed[:_LONGEST]!r}", argument=argument, hint=f"Use {ACCEPTED}."
        ) from None


@dataclass(frozen=True, slots=True)
class Calendar:
    """Reads dates as the people of a palace write them: in its zone, and by words that depend on the present."""

    zone: Zone = UTC_ZONE
    now: Callable[[], Instant] = now

    def read(self, text: str, argument: str, edge: Edge = Edge.START) -> Instant:
        """As `parse`; also `now`, `today`, `yesterday` and `tomorrow`, which are dates but for the first.

        Raises:
            InvalidArgument: as `parse`.
        """
        word = text.strip().lower()
        if word == "now":
            return self.now()
        if word not in _DAYS:
            return parse(text, argument, edge, self.zone)
        day = day_of(self.now(), self.zone) + timedelta(days=_DAYS[word])
        return parse(day.isoformat(), argument, edge, self.zone)

    def show_day(self, instant: Instant) -> str:
        """The date of an instant here."""
        return day_of(instant, self.zone).isoformat()


def _days_of(period: re.Match[str]) -> tuple[date, date | None]:
    """The first day of a year, month or day, and the first one after it, if there is one."""
    year, month, day = (None if part is None else int(part) for part in period.groups())
    first = date(year or 0, month or 1, day or 1)
    try:
        if day is not None:
            return first, first + timedelta(days=1)
        if month is not None and month < 12:
            return first, first.replace(month=month + 1)
        return first, date(first.year + 1, 1, 1)
    except (ValueError, OverflowError):  # the last day of all
        return first, None


def _edge_of(first: date, following: date | None, edge: Edge, zone: Zone) -> Instant:
    start, end = _start_of(first, zone), LAST_INSTANT if following is None else _start_of(following, zone)
    if end <= start:
        raise ValueError  # a zone that changed sides of the date line has skipped that day
    if edge is Edge.START:
        return start
    return end if edge is Edge.AFTER or following is None else end - 1


def _start_of(day: date, zone: Zone) -> Instant:
    try:
        return from_datetime(zone.start_of(day))
    except OverflowError:
        return FIRST_INSTANT if day.year == 1 else LAST_INSTANT
