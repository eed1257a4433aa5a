"""Which kinds of content a request accepts, and in which it sends its own (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

JSON = "application/json"
EVENTS = "text/event-stream"


def accepts(scope: Scope, kind: str) -> bool:
    """May the answer be of that kind? Without an `Accept` of any; else the range that fits best decides."""
    parts = _parts(scope)
    if not parts or kind in parts:
        return True
    ranges = dict(map(_read, parts))
    for fitting in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if fitting in ranges:
            return ranges[fitting]
    return False


def names(scope: Scope, kind: str) -> bool:
    """Does the request ask for that kind by its name?"""
    return dict(map(_read, _parts(scope))).get(kind, False)


def sends_json(scope: Scope) -> bool:
    """Does the request say that its body is JSON? No page elsewhere can, without asking first."""
    content_type = Headers(scope=scope).get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == JSON


def with_types(scope: Scope, accept: str) -> Scope:
    """The same request, with JSON for a body, that accepts just that."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"accept", b"content-type")]
    return {**scope, "headers": [*kept, (b"accept", accept.encode()), (b"content-type", JSON.encode())]}


def _parts(scope: Scope) -> list[str]:
    """What the request's `Accept` lists."""
    given = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return [part for each in given.decode("latin-1").lower().split(",") if (part := each.strip())]


def _read(part: str) -> tuple[str, bool]:
    """A range, and whether it is wanted."""
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    return kind, not any(_is_zero(parameter) for parameter in parameters)


def _is_zero(parameter: str) -> bool:
    """A weight of zero says that it is not acceptable."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and set(value.strip()) <= {"0", "."} and value.strip() != ""
