"""From a tool's raw arguments to its model, or to one refusal in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import verify_text
from mempalace_mcp.protocol.tools.arguments import SHOWN_CHARACTERS, UNKNOWN_ARGUMENT, UNUSABLE, Arguments, readable
from mempalace_mcp.protocol.tools.coercion import coerce
from mempalace_mcp.protocol.tools.schema import Schema

A = TypeVar("A", bound=Arguments)

_SHOWN_NUMBER = 10**15


def read_arguments(model: type[A], arguments: Mapping[str, Any], schema: Schema) -> A:
    """Validate, after putting right what a client turned into text; `schema` is the model's own, from which the refusal
    tells what is allowed.

    Raises:
        InvalidArgument: the first fault, and how many others there are. An unknown name comes before everything else,
            because it usually explains the argument that is missing.
    """
    try:
        return model.model_validate(coerce(dict(arguments), schema))
    except ValidationError as error:
        raise _refusal(error, schema) from None


def nearest(asked: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant, if one is like it."""
    names = list(known)
    beginning = asked[:SHOWN_CHARACTERS]
    with_other_prefix = (name for name in names if beginning and (name.endswith(beginning) or beginning.endswith(name)))
    return next(with_other_prefix, None) or next(iter(difflib.get_close_matches(beginning, names, 1)), None)


def _refusal(error: ValidationError, schema: Schema) -> InvalidArgument:
    faults = error.errors(include_url=False)
    first = faults[0]
    others = len(faults) - 1
    if first["type"] == UNKNOWN_ARGUMENT:
        others += first["ctx"]["others"]
        message, path, hint = _unknown(first, schema)
    else:
        message, path, hint = _fault(first, schema)
    if others:
        message += f" ({others} more {'fault' if others == 1 else 'faults'} in this call)"
    return InvalidArgument(message, argument=path, hint=hint)


def _unknown(fault: ErrorDetails, schema: Schema) -> tuple[str, str, str]:
    name = fault["ctx"]["name"]
    known = list(_schema_at(schema, fault["loc"]).get("properties", ()))
    path = _path((*fault["loc"], name))
    meant = nearest(name, known)
    hint = f"Known: {', '.join(known)}." if known else "It takes no arguments."
    return f"{path} is not a known argument", path, f"Did you mean {meant}? {hint}" if meant else hint


def _fault(fault: ErrorDetails, schema: Schema) -> tuple[str, str, str]:
    path = _path(fault["loc"])
    hint = f"Give {_allowed(_schema_at(schema, fault['loc']))}."
    if fault["type"] == "missing":
        return f"{path} is missing", path, hint
    if fault["type"] == UNUSABLE:
        return f"{path} {fault['msg']}", path, hint
    if fault["type"] == "string_unicode":
        verify_text(fault["input"], path)
    return f"{path} cannot be {_shown(fault['input'])}", path, hint


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{readable(step)}" if path else readable(step)
    return path or "arguments"


def _schema_at(schema: Schema, location: Sequence[str | int]) -> Schema:
    for step in location:
        schema = schema.get("items", {}) if isinstance(step, int) else schema.get("properties", {}).get(step, {})
    return schema


def _allowed(schema: Schema) -> str:
    """What a schema accepts, in words."""
    words = _allowed_type(schema)
    return f"{words} ({schema['description']})" if "description" in schema else words


def _allowed_type(schema: Schema) -> str:
    match schema:
        case {"enum": choices}:
            return f"one of {', '.join(map(str, choices))}"
        case {"type": "integer" | "number" as kind}:
            bounds = f" from {schema['minimum']} to {schema['maximum']}" if "maximum" in schema else ""
            return f"a{' whole' if kind == 'integer' else ''} number{bounds}"
        case {"type": "string", "maxLength": most}:
            return f"text of at most {most:,} characters"
        case {"type": "array", "maxItems": most}:
            least = f"{schema['minItems']} to" if "minItems" in schema else "at most"
            return f"a list of {least} {most:,} entries"
        case {"type": "object", "properties": properties}:
            return f"an object with {', '.join(properties)}"
    return {"string": "text", "boolean": "true or false", "object": "an object", "array": "a list"}[schema["type"]]


def _shown(value: Any) -> str:
    """A refused value as JSON would name it; long ones by their size."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case "":
            return "empty"
        case str():
            return repr(value) if len(value) <= SHOWN_CHARACTERS else f"text of {len(value):,} characters"
        case int():
            return str(value) if abs(value) < _SHOWN_NUMBER else "a number of that size"
        case float():
            return str(value)
        case list():
            return f"a list of {len(value):,} {'entry' if len(value) == 1 else 'entries'}"
    return "an object"
