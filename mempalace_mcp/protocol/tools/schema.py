"""JSON Schemas (2020-12) of arguments and answers, without the noise that costs every session tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import BaseModel

Schema = dict[str, Any]

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
    list: "array",
    dict: "object",
    NoneType: "null",
}


def input_schema(model: type[BaseModel]) -> Schema:
    """The schema of an argument model: inlined, no titles, an optional argument has just its own type."""
    full = model.model_json_schema()
    full.pop("description", None)
    return _slim(full, full.get("$defs", {}))


def _slim(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    merged = _resolve(schema, definitions)
    slim = {key: merged[key] for key in _KEPT if key in merged and not (key == "default" and merged[key] is None)}
    if "properties" in merged:
        slim["properties"] = {name: _slim(each, definitions) for name, each in merged["properties"].items()}
    if isinstance(merged.get("items"), dict):
        slim["items"] = _slim(merged["items"], definitions)
    if merged.get("additionalProperties") is False:
        slim["additionalProperties"] = False
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
    """The same with nested objects reduced to names and types: their bounds are told when one is broken."""
    properties = {name: _outline_nested(each) for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}


def _outline_nested(schema: Schema) -> Schema:
    if "items" in schema:
        return {**schema, "items": _outline_nested(schema["items"])}
    if "properties" not in schema:
        return schema
    types = {name: {"type": each["type"]} for name, each in schema["properties"].items()}
    return {"type": "object", "required": schema["required"], "properties": types}


def output_schema(answer: type) -> Schema:
    """The keys that an answer (a `TypedDict`) promises, with their types; what is inside them is not spelled out."""
    hints = get_type_hints(answer, include_extras=True)
    required = {key: hint for key, hint in hints.items() if get_origin(hint) is not NotRequired}
    schema: Schema = {"type": "object"}
    if required:
        schema["properties"] = {key: {"type": _json_type(hint)} for key, hint in required.items()}
        schema["required"] = list(required)
    return schema


def _json_type(hint: Any) -> str | list[str]:
    if isinstance(hint, UnionType):
        return [_JSON_TYPES[get_origin(each) or each] for each in get_args(hint)]
    return _JSON_TYPES[get_origin(hint) or hint]
