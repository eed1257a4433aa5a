"""Instants as integers: microseconds since 1970-01-01 UTC, read from and shown as ISO 8601."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from enum import Enum

from mempalace_mcp.core.errors import InvalidArgument

Instant = int
"""Microseconds since the Unix epoch, UTC."""

SECOND: Instant = 1_000_000
DAY: Instant = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = r"\d{2}:\d{2}(:\d{2}([.,]\d{1,6}\d*)?)?"
_OFFSET = r"[Zz]|[+-]\d{2}(:?\d{2})?"
_INSTANT = re.compile(rf"{_DATE.pattern}[Tt ]{_TIME}({_OFFSET})?", re.ASCII)
_LONGEST = 40


class Edge(Enum):
    """Which instant of its UTC day a bare date stands for."""

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


LAST_INSTANT: Instant = from_datetime(datetime.max.replace(tzinfo=UTC))


def show(instant: Instant) -> str:
    """ISO 8601 with `Z`; the fraction is left out when it is zero."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")


def show_optional(instant: Instant | None) -> str | None:
    """Like `show`; None stays None."""
    return None if instant is None else show(instant)


def parse(text: str, argument: str, edge: Edge = Edge.START) -> Instant:
    """Read an ISO 8601 date or instant; without an offset it is UTC.

    A bare date means the first instant of that UTC day (`START`), its last microsecond (`LAST`) or the first instant
    of the next day (`AFTER`, for half-open intervals that include the day).

    Raises:
        InvalidArgument: it is neither, or no such day or time exists.
    """
    trimmed = text.strip()
    try:
        if len(trimmed) > _LONGEST:
            raise ValueError
        if _DATE.fullmatch(trimmed):
            return _of_date(trimmed, edge)
        if not _INSTANT.fullmatch(trimmed):
            raise ValueError
        moment = datetime.fromisoformat(trimmed.upper())
        return from_datetime(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{argument} is not a date or time: {trimmed[:_LONGEST]!r}",
            argument=argument,
            hint="Use ISO 8601, for example 2026-05-08 or 2026-05-08T14:30:00Z.",
        ) from None


def _of_date(text: str, edge: Edge) -> Instant:
    start = from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))
    if edge is Edge.START:
        return start
    return min(start + DAY, LAST_INSTANT) if edge is Edge.AFTER else start + DAY - 1
