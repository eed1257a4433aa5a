"""Arguments of tools: models from signatures, JSON Schemas, coercion of client input, and refusals in plain words.

Types, counts and sizes are checked here. `palace.arguments` says what a name, a date or a text may be.

Clients turn numbers, lists and objects into text. `coerce` takes a value back if it has one meaning for its argument;
validation refuses everything else. Where an argument is text, the value is never touched.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, NotRequired, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import MAX_CONTENT_BYTES, MAX_QUERY_BYTES, verify_text
from mempalace_mcp.palace.arguments import MAX_IDS, MAX_LIMIT
from mempalace_mcp.server.jsonrpc import load

MAX_METADATA_DEPTH = 8

UNKNOWN_ARGUMENT = "unknown_argument"
UNUSABLE = "unusable"
"""Types of our own validation errors. Their message continues a sentence that begins with the argument's path."""

SHOWN_CHARACTERS = 60


def readable(name: object) -> str:
    """A name that a caller chose, shortened and valid UTF-8."""
    return str(name)[:SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()


class Arguments(BaseModel):
    """The base of all models of arguments: strict types, no unknown names; an empty optional argument is absent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        fields = cls.model_fields
        unknown = [name for name in given if name not in fields]
        if unknown:
            raise PydanticCustomError(
                UNKNOWN_ARGUMENT, "is not known", {"name": readable(unknown[0]), "others": len(unknown) - 1}
            )
        return {
            name: value
            for name, value in given.items()
            if fields[name].is_required() or (value is not None and value != "")
        }

    def given(self) -> dict[str, Any]:
        """The arguments that have a value, by name, as keyword arguments for the tool."""
        return {name: _plain(value) for name, value in vars(self).items() if value is not None}


def _plain(value: Any) -> Any:
    """Nested arguments as dictionaries, anything else as it is."""
    if isinstance(value, Arguments):
        return value.given()
    return [_plain(each) for each in value] if isinstance(value, list) else value


def arguments_of(function: Callable[..., object]) -> type[Arguments]:
    """The model of the arguments that a tool's function takes behind its first parameter.

    `**group: Unpack[T]` stands for the keys of the `TypedDict` T. Keyword-only parameters come after them.
    """
    # Modules of tools do without `from __future__ import annotations`: to parse their types at start takes 30 ms.
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = signature(function).parameters.values()
    fields: dict[str, Any] = {}
    for each in sorted(parameters, key=lambda each: each.kind is Parameter.KEYWORD_ONLY):
        if each.kind is Parameter.VAR_KEYWORD:
            fields |= _fields_of(*get_args(hints[each.name]))
        else:
            fields[each.name] = hints[each.name], ... if each.default is Parameter.empty else each.default
    return create_model(function.__name__, __base__=Arguments, **fields)


def _fields_of(group: type) -> dict[str, Any]:
    """Type and default of each key of a `TypedDict`; a key that is not required and has no default may be None."""
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        if get_origin(hint) is not NotRequired:
            fields[name] = hint, ...
            continue
        (inner,) = get_args(hint)
        defaults = [each.default for each in get_args(inner) if isinstance(each, FieldInfo) and not each.is_required()]
        fields[name] = (inner, defaults[0]) if defaults else (inner | None, None)
    return fields


class Nested:
    """Marks a `TypedDict` in an argument, `Annotated[T, Nested()]`: it is read as strictly as a tool's arguments."""

    def __get_pydantic_core_schema__(self, group: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(create_model(group.__name__, __base__=Arguments, **_fields_of(group)))


def _verify_depth(metadata: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        level = [child for container in level for child in _children(container)]
    if level:
        raise PydanticCustomError(UNUSABLE, f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    return metadata


def _children(container: Any) -> list[Any]:
    """The containers directly inside a container."""
    values = container.values() if isinstance(container, dict) else container
    return [value for value in values if isinstance(value, dict | list)]


Content = Annotated[str, Field(max_length=MAX_CONTENT_BYTES)]
Query = Annotated[str, Field(max_length=MAX_QUERY_BYTES)]
Cursor = Annotated[str, Field(description="The next_cursor")]
Ids = Annotated[list[str], Field(max_length=MAX_IDS)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Share = Annotated[float, Field(ge=0, le=1)]
Metadata = Annotated[dict[str, Any], AfterValidator(_verify_depth)]

Schema = dict[str, Any]

FAR = 10**6
"""A maximum beyond this is not worth its tokens in the list of tools."""

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
    """The schema of an argument model: references inlined, no titles, no `null` for optional arguments."""
    full = model.model_json_schema()
    full.pop("description", None)
    return _slim(full, full.get("$defs", {}))


def _slim(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    # `additionalProperties` is left out: some clients cannot convert it, and unknown arguments are refused anyway.
    merged = _resolve(schema, definitions)
    slim = {key: merged[key] for key in _KEPT if key in merged and not (key == "default" and merged[key] is None)}
    if "properties" in merged:
        slim["properties"] = {name: _slim(each, definitions) for name, each in merged["properties"].items()}
    if isinstance(merged.get("items"), dict):
        slim["items"] = _slim(merged["items"], definitions)
    return slim


def _resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Replace a reference by its target, and an optional by its only type. Keys of the outer schema win."""
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
    """The schema as `tools/list` shows it: shorter, as every session pays for its tokens.

    Nested objects have names and types alone. A minimum of 0 or 1, sizes of texts and lists, and large maxima are left
    out; a refusal names them.
    """
    properties = {name: _outline_bounds(_outline_nested(each)) for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}


def _outline_bounds(schema: Schema) -> Schema:
    unsaid = {"maxLength", "maxItems"}
    unsaid |= {"maximum"} if schema.get("maximum", 0) > FAR else set()
    unsaid |= {"minimum"} if schema.get("minimum") in (0, 1) else set()
    return {key: value for key, value in schema.items() if key not in unsaid}


def _outline_nested(schema: Schema) -> Schema:
    if "items" in schema:
        return {**schema, "items": _outline_nested(schema["items"])}
    if "properties" not in schema:
        return schema
    types = {name: _slim_type(each) for name, each in schema["properties"].items()}
    return {"type": "object", "required": schema["required"], "properties": types}


def _slim_type(schema: Schema) -> Schema:
    return {key: schema[key] for key in ("type", "items") if key in schema}


def output_schema(answer: type) -> Schema:
    """The schema of an answer, from its `TypedDict`; refusals fit it too.

    No key is required, since clients validate refusals against the same schema. Every key is named, since typed clients
    drop those that are not.
    """
    properties = {key: _value_schema(hint) for key, hint in get_type_hints(answer).items()}
    return {"type": "object", "properties": properties | {"error": {}}}


def _value_schema(hint: Any) -> Schema:
    if isinstance(hint, UnionType):
        return {}  # may be null; converters of clients take no list of types
    if get_origin(hint) is list:
        return {"type": "array", "items": _value_schema(get_args(hint)[0])}
    return {"type": _JSON_TYPES[get_origin(hint) or hint]}


_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_TRUTHS: Mapping[str, bool] = {"true": True, "false": False}


def coerce(value: Any, schema: Schema) -> Any:
    """The value in the type of its schema if it has one meaning in it; otherwise the value as it is."""
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
    """The value that a text stands for where another type is wanted."""
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
    """The number, or None if it is not whole and the schema wants an integer."""
    if digits.lstrip("+-").isdecimal():
        return int(digits)
    number = float(digits)
    if schema["type"] == "number":
        return number
    return int(number) if number.is_integer() else None


def _list(text: str, schema: Schema) -> Any:
    """The list that a text is in JSON, or a list of the text as its one entry."""
    found = _parsed(text.strip())
    if isinstance(found, list | dict):
        return coerce(found, schema)
    return [text] if schema["items"]["type"] == "string" else text


def _parsed(text: str) -> Any:
    """The list or object that a text is in JSON, or None for anything else."""
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
    """True for `[]`, `{}` and a count of 0: some clients send these for arguments that they mean to leave out."""
    match schema["type"]:
        case "integer":
            return value == 0 and not isinstance(value, bool) and schema.get("minimum", 0) > 0
        case "array":
            return bool(value == [])
        case "object":
            return bool(value == {}) and "properties" in schema
    return False


A = TypeVar("A", bound=Arguments)

_SHOWN_NUMBER = 10**15


def read_arguments(model: type[A], arguments: Mapping[str, Any], schema: Schema) -> A:
    """Coerce and validate arguments. `schema` is that of the model; refusals say from it what is allowed.

    Raises:
        InvalidArgument: the first fault, and how many others there are. An unknown name comes before everything else,
            because it usually explains the argument that is missing.
    """
    try:
        return model.model_validate(coerce(dict(arguments), schema))
    except ValidationError as error:
        raise _refusal(error, schema) from None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar, if one is similar at all."""
    names = list(known)
    beginning = name[:SHOWN_CHARACTERS]
    with_other_prefix = (each for each in names if beginning and (each.endswith(beginning) or beginning.endswith(each)))
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
    return f"{path} cannot be {_format_value(fault['input'])}", path, hint


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
    """The values that a schema accepts, in words."""
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


def _format_value(value: Any) -> str:
    """A refused value in a message: short ones as JSON, long ones by their size."""
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
