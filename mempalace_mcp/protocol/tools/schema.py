"""JSON Schemas (2020-12) of arguments and answers, without the noise that costs every session tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

Schema = dict[str, Any]

FAR = 10**6
"""A number beyond this bounds what is computed with, not what anybody asks for."""

_KEPT = (
    "type",
    "description",
    "enum",
    "default",
    "minimum",
    "maximum",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
)
_JSON_TYPES: Mapping[Any, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
}


def input_schema(model: type[BaseModel]) -> Schema:
    """The schema of an argument model: inlined, no titles, an optional argument has just its own type."""
    full = model.model_json_schema()
    full.pop("description", None)
    return _slim(full, full.get("$defs", {}))


def _slim(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Also without `additionalProperties`: some clients cannot convert it, and unknown arguments are refused anyway."""
    merged = _resolve(schema, definitions)
    slim = {key: merged[key] for key in _KEPT if key in merged and not (key == "default" and merged[key] is None)}
    if "properties" in merged:
        slim["properties"] = {name: _slim(each, definitions) for name, each in merged["properties"].items()}
    if isinstance(merged.get("items"), dict):
        slim["items"] = _slim(merged["items"], definitions)
    return slim


def _resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Put a reference's target, or an optional's only type, in its place; the outer keys win."""
    while "$ref" in schema or "anyOf" in schema:
        outer = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
        if "$ref" in schema:
            inner = definitions[schema["$ref"].rpartition("/")[2]]
            inner = {key: value for key, value in inner.items() if key != "description"}
        else:
            (inner,) = (each for each in schema["anyOf"] if each.get("type") != "null")
        schema = inner | outer
    return schema


def outline(schema: Schema) -> Schema:
    """The same with nested objects reduced to names and types, and without what goes without saying: that one counts
    from 1, the size of a text, a number that nobody reaches. What is not said here is told when it is broken."""
    properties = {name: _outline_bounds(_outline_nested(each)) for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}


def _outline_bounds(schema: Schema) -> Schema:
    unsaid = {"maxLength", "maximum"} if schema.get("maximum", 0) > FAR else {"maxLength"}
    return {key: value for key, value in schema.items() if key not in unsaid and (key, value) != ("minimum", 1)}


def _outline_nested(schema: Schema) -> Schema:
    if "items" in schema:
        return {**schema, "items": _outline_nested(schema["items"])}
    if "properties" not in schema:
        return schema
    types = {name: {"type": each["type"]} for name, each in schema["properties"].items()}
    return {"type": "object", "required": schema["required"], "properties": types}


def output_schema(answer: type) -> Schema:
    """Every key that an answer (a `TypedDict`) may have with its type, and the key of a refusal.

    None is required: clients hold refusals against the same schema. Typed ones drop what is not named here, so all is.
    """
    properties = {key: _value_schema(hint) for key, hint in get_type_hints(answer).items()}
    return {"type": "object", "properties": properties | {"error": {}}}


def _value_schema(hint: Any) -> Schema:
    if isinstance(hint, UnionType):
        return {}  # may be null; converters of clients take no list of types
    if get_origin(hint) is list:
        return {"type": "array", "items": _value_schema(get_args(hint)[0])}
    return {"type": _JSON_TYPES[get_origin(hint) or hint]}
