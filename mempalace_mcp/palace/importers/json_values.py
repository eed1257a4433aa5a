"""Parts of JSON that others wrote, of which nothing is certain: what is not as expected counts as empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def parsed(value: Any) -> Json | None:
    """The object in a text or in bytes; None if there is none."""
    try:
        read = json.loads(value) if isinstance(value, str | bytes) else None
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, Mapping) else None


def inner(value: Any, name: str) -> Json:
    """The object under a name, empty if there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def entries(value: Any, name: str) -> list[Any]:
    """The array under a name, empty if there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def objects(value: Any, name: str) -> list[Json]:
    """The objects in the array under a name."""
    return [each for each in entries(value, name) if isinstance(each, Mapping)]


def string(value: Any) -> str:
    """The value if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""
