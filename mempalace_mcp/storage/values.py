"""Results and refusals of units of work as text, and back: the values of `core.model` and the errors of `core.errors`.

What JSON knows stands for itself, except that an object always has one member: a type, and what it is made of.

    [{"Filed": {"drawer_id": "d_06...", "created": true, "near_duplicate_of": null}}]

Types are looked up in a closed table: whatever a text says, it makes nothing but values.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from enum import Enum
from inspect import signature
from types import MappingProxyType, NoneType
from typing import Any

from mempalace_mcp.core import errors, model
from mempalace_mcp.core.text import Name

_CORE = "mempalace_mcp.core."
_SCALARS = frozenset({NoneType, bool, int, float, str})
_KINDS: Mapping[str, type] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (Name, *vars(model).values(), *vars(errors).values())
        if isinstance(kind, type) and kind.__module__.startswith(_CORE)
    }
)
_PARTS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {kind: ("value",) if issubclass(kind, Enum) else tuple(signature(kind).parameters) for kind in _KINDS.values()}
)
"""What a type is made of: the parameters of its constructor, which are its attributes too."""


def encode(value: object) -> str:
    """The value as text.

    Raises:
        TypeError: it is, or holds, something of another type.
    """
    return json.dumps(_to_json(value), separators=(",", ":"))


def decode(text: str) -> Any:
    """The value that was encoded.

    Raises:
        ValueError: it was not, or by a version that knew other types.
    """
    try:
        return _from_json(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"this stands for no value: {error!r}") from error


def _to_json(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_to_json(each) for each in value]
    return {kind.__name__: _content(kind, value)}


def _content(kind: type, value: Any) -> Any:
    if kind is tuple:
        return [_to_json(each) for each in value]
    if kind is bytes:
        return base64.b64encode(value).decode("ascii")
    if kind is dict and all(type(key) is str for key in value):
        return {key: _to_json(each) for key, each in value.items()}
    if kind in _PARTS:
        return {part: _to_json(getattr(value, part)) for part in _PARTS[kind]}
    raise TypeError(f"this type has no text: {kind.__name__}")


def _from_json(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_from_json(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((name, content),) = plain.items()
    if name == "tuple":
        return tuple(_from_json(content))
    if name == "bytes":
        return base64.b64decode(content, validate=True)
    parts = {key: _from_json(each) for key, each in content.items()}
    return parts if name == "dict" else _KINDS[name](**parts)
