"""Values as other programs write them: times, JSON, tags. What is wrong reads as absent."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import FIRST_INSTANT, LAST_INSTANT, SECOND, Edge, Instant, Zone
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace.importers.dates import read_date

_MILLISECONDS_FROM = 100_000_000_000
"""A number of seconds as large as this lies in the year 5138; so it counts milliseconds."""


def read_time(value: object, zone: Zone, edge: Edge = Edge.START) -> Instant | None:
    """A date or time in a form that people and programs write, or a number of seconds or milliseconds since 1970. One
    that is ambiguous is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _of_number(value)
    if not isinstance(value, str) or not value.strip():
        return None
    with suppress(InvalidArgument):
        return clock.parse(value, "time", edge, zone)
    read = read_date(value)  # the forms that are no ISO 8601
    with suppress(InvalidArgument):
        return clock.parse(read, "time", edge, zone) if isinstance(read, str) else None
    return None


def _of_number(value: float) -> Instant | None:
    if not math.isfinite(value) or value <= 0:
        return None
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
    instant = round(seconds * SECOND)
    return instant if FIRST_INSTANT <= instant <= LAST_INSTANT else None


def read_json(value: object, kind: type[Any]) -> Any:
    """The JSON in a text if it is of that kind, else an empty one."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return kind()
    return value if isinstance(value, kind) else kind()


def read_tags(value: object) -> list[str]:
    """Tags: a list, JSON of one, or a text with commas between them."""
    listed = value if isinstance(value, list) else read_json(value, list)
    if not listed and isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        listed = value.split(",")
    return [tag for each in listed if isinstance(each, str | int) and (tag := str(each).strip().lstrip("#"))]


def text_of(value: object) -> str:
    """The value if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""
