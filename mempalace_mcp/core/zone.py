"""Time zones: where the day begins. A palace has one, in which dates without a time or an offset are read."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

MACHINE = "machine"
"""Names the zone that the clock on the machine's wall shows."""

_UTC_NAMES = frozenset({"utc", "z", "gmt", "uct", "zulu", "universal"})
_OFFSET = re.compile(r"([+-])(\d{2})(?::?(\d{2}))?", re.ASCII)
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
    if offset := _OFFSET.fullmatch(name):
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
