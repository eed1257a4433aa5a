"""Instants, dates and zones: how they are read, shown and stored.

Time zones: where the day begins. A palace has one, in which dates without a time or an offset are read.

Instants as integers: microseconds since 1970-01-01 UTC, read from and shown as ISO 8601.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import Enum
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from mempalace_mcp.core.errors import InvalidArgument

MACHINE = "machine"
"""Names the zone that the clock on the machine's wall shows."""

_UTC_NAMES = frozenset({"utc", "z", "gmt", "uct", "zulu", "universal"})
_OFFSET_OF_ZONE = re.compile(r"([+-])(\d{2})(?::?(\d{2}))?", re.ASCII)
_LOCAL_TIME = "/etc/localtime"
_DATABASE = "/zoneinfo/"
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone by name; two of one name are the same."""

    name: str
    rules: tzinfo = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    def start_of(self, day: date) -> datetime:
        """The first instant of a day, in UTC: midnight, or a moment later where the clocks were put forward at it.

        Raises:
            OverflowError: it lies beyond the first or the last year there is.
        """
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.rules)
        begins = midnight.astimezone(UTC)
        before = midnight.replace(fold=1).astimezone(UTC)
        if before >= begins:
            return begins
        # No clock has shown midnight: between the two lies the moment at which it was put forward.
        while begins - before > _SECOND:
            middle = before + (begins - before) // 2
            middle -= timedelta(microseconds=middle.microsecond)
            if middle.astimezone(self.rules).date() < day:
                before = middle
            else:
                begins = middle
        return begins


UTC_ZONE = Zone("UTC", UTC)


def read_zone(text: str) -> Zone:
    """The zone of an IANA name, `UTC`, an offset such as `+02:00`, or `machine`.

    Raises:
        ValueError: it is none of these.
    """
    name = text.strip().removeprefix(":")
    return machine_zone() if name.lower() == MACHINE else _named(name)


def machine_zone() -> Zone:
    """The zone that the operating system is set to."""
    _, found, name = os.path.realpath(_LOCAL_TIME).rpartition(_DATABASE)
    if found:
        with contextlib.suppress(ValueError):  # then it is read from the file, as where that is no link
            return _named(name.removeprefix("posix/").removeprefix("right/"))
    try:
        with Path(_LOCAL_TIME).open("rb") as file:
            return Zone(_LOCAL_TIME, ZoneInfo.from_file(file, _LOCAL_TIME))
    except (OSError, ValueError):
        return Zone(time.tzname[0] or MACHINE, SystemClock())


def _named(name: str) -> Zone:
    if name.lower().removeprefix("etc/") in _UTC_NAMES:
        return UTC_ZONE
    if offset := _OFFSET_OF_ZONE.fullmatch(name):
        return _fixed(offset)
    try:
        return Zone(name, ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "must be the name of a time zone as Europe/Berlin, UTC, or an offset as +02:00"
            + ("" if _has_database() else "; this machine has no time zones, which the package tzdata brings")
        ) from None


class SystemClock(tzinfo):
    """The zone of a machine that does not keep it in a file, as the operating system converts times."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Ahead of UTC by so much."""
        try:
            offset = None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()
        except (OSError, OverflowError, ValueError):  # some systems know no time before 1970
            offset = None
        return timedelta(seconds=-time.timezone) if offset is None else offset

    def dst(self, moment: datetime | None) -> timedelta:
        """Of no use to anybody here."""
        return timedelta(0)

    def tzname(self, moment: datetime | None) -> str:
        """As the operating system calls it."""
        return time.tzname[0]

    def fromutc(self, moment: datetime) -> datetime:
        """From a UTC time that is said to be of this zone."""
        try:
            local = moment.replace(tzinfo=UTC).astimezone()
            return local.replace(tzinfo=self)
        except (OSError, OverflowError, ValueError):
            return moment + self.utcoffset(None)


def _fixed(offset: re.Match[str]) -> Zone:
    sign, hours, minutes = offset[1], int(offset[2]), int(offset[3] or 0)
    ahead = timedelta(hours=hours, minutes=minutes)
    if minutes > 59 or ahead >= timedelta(days=1):
        raise ValueError("must be an offset below a day, as +02:00")
    if not ahead:
        return UTC_ZONE
    return Zone(f"{sign}{hours:02}:{minutes:02}", timezone(-ahead if sign == "-" else ahead))


def _has_database() -> bool:
    try:
        ZoneInfo("Europe/Berlin")
    except (KeyError, OSError):
        return False
    return True


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
_FORMATTED = 4096
"""Instants whose text is remembered: listings show the same ones again and again."""
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


@lru_cache(_FORMATTED)
def format_instant(instant: Instant) -> str:
    """ISO 8601 with `Z`; the fraction is left out when it is zero."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")


def format_optional_instant(instant: Instant | None) -> str | None:
    """Like `show`; None stays None."""
    return None if instant is None else format_instant(instant)


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

    def at(self, instant: Instant) -> Calendar:
        """The same calendar, as somebody reads it at that instant."""
        return replace(self, now=lambda: instant)

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
    start, end = start_of_day(first, zone), LAST_INSTANT if following is None else start_of_day(following, zone)
    if end <= start:
        raise ValueError  # a zone that changed sides of the date line has skipped that day
    if edge is Edge.START:
        return start
    return end if edge is Edge.AFTER or following is None else end - 1


def start_of_day(day: date, zone: Zone) -> Instant:
    """The first instant of a day there, or the first or last instant there is."""
    try:
        return from_datetime(zone.start_of(day))
    except OverflowError:
        return FIRST_INSTANT if day.year == 1 else LAST_INSTANT
