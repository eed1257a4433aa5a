"""What clients make of arguments on the way, put back: a number or a list that arrives as text is taken as that.

Only what has one meaning for its argument is taken; all else stays as it came, and validation refuses it. Where text is
wanted, text is never touched. The schema of an argument says what is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mempalace_mcp.protocol.strict_json import load
from mempalace_mcp.protocol.tools.schema import Schema

_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_TRUTHS: Mapping[str, bool] = {"true": True, "false": False}


def coerce(value: Any, schema: Schema) -> Any:
    """The value in the type that its schema wants, if it can be meant as nothing else; otherwise the value as it is."""
    if schema["type"] == "string" and "enum" not in schema:
        return value
    if isinstance(value, str):
        return _from_text(value, schema)
    match schema["type"]:
        case "integer" if isinstance(value, float) and value.is_integer():
            return int(value)
        case "array" if isinstance(value, list):
            return [coerce(each, schema["items"]) for each in value]
        case "array" if isinstance(value, dict) and value.keys() <= schema["items"].get("properties", {}).keys():
            return [coerce(value, schema["items"])]
        case "object" if isinstance(value, dict) and "properties" in schema:
            return _properties(value, schema)
    return value


def _from_text(text: str, schema: Schema) -> Any:
    """What a text stands for where something else is wanted."""
    meant = text.strip()
    if not meant:
        return ""
    match schema["type"]:
        case "string":
            return next((choice for choice in schema["enum"] if choice == meant.lower()), text)
        case "boolean":
            return _TRUTHS.get(meant.lower(), text)
        case "integer" | "number" if _NUMBER.fullmatch(meant):
            number = _number(meant, schema)
            return text if number is None else number
        case "array":
            return _list(text, schema)
        case "object":
            found = _parsed(meant)
            return coerce(found, schema) if isinstance(found, dict) else text
    return text


def _number(digits: str, schema: Schema) -> int | float | None:
    """The number that is written, or None where a whole one is wanted and it is none."""
    if digits.lstrip("+-").isdecimal():
        return int(digits)
    number = float(digits)
    if schema["type"] == "number":
        return number
    return int(number) if number.is_integer() else None


def _list(text: str, schema: Schema) -> Any:
    """The list that is written as JSON, or the one entry that is."""
    found = _parsed(text.strip())
    if isinstance(found, list | dict):
        return coerce(found, schema)
    return [text] if schema["items"]["type"] == "string" else text


def _parsed(text: str) -> Any:
    """The list or object that a text is in JSON, or None: numbers and strings in quotes are not what anybody means."""
    if text[0] not in "[{":
        return None
    try:
        value, fault = load(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return None if fault else value


def _properties(given: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    required: Sequence[str] = schema.get("required", ())
    known: Mapping[str, Schema] = schema["properties"]
    coerced = {name: coerce(value, known[name]) if name in known else value for name, value in given.items()}
    return {
        name: value
        for name, value in coerced.items()
        if name in required or name not in known or not _is_empty(value, known[name])
    }


def _is_empty(value: Any, schema: Schema) -> bool:
    """True for what clients send that fill in whatever they leave out: no entry, no property, a count of nothing."""
    match schema["type"]:
        case "integer":
            return value == 0 and not isinstance(value, bool) and schema.get("minimum", 0) > 0
        case "array":
            return bool(value == [])
        case "object":
            return bool(value == {}) and "properties" in schema
    return False
