from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mempalace_mcp.protocol.tools.arguments import Arguments, Limit
from mempalace_mcp.protocol.tools.schema import Schema, input_schema, outline, output_schema
from mempalace_mcp.protocol.tools.table import CORE, FULL, build_tools

KILOBYTE = 1000
ENVELOPE = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "ttlMs": 0, "cacheScope": "public"}}
DEFINITIONS = build_tools("full").definitions()
NAMES = [definition["name"] for definition in DEFINITIONS]


def subschemas(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in schema.get("properties", {}).values():
        yield from subschemas(each)
    if "items" in schema:
        yield from subschemas(schema["items"])


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("prefix", ["", "mempalace_"])
def test_the_core_listing_as_sent_stays_under_14_kilobytes(prefix: str) -> None:
    listing = {**ENVELOPE["result"], "tools": build_tools("core", prefix=prefix).definitions()}  # type: ignore[dict-item]
    assert len(compact({**ENVELOPE, "result": listing})) < 14 * KILOBYTE + (0 if not prefix else 100)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_every_definition_is_complete(definition: dict[str, Any]) -> None:
    assert set(definition) == {"name", "title", "description", "inputSchema", "outputSchema", "annotations"}
    hints = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert set(definition["annotations"]) == hints
    assert all(isinstance(hint, bool) for hint in definition["annotations"].values())
    assert definition["description"].endswith(".")
    assert "{" not in definition["description"]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_every_schema_is_valid_and_an_object(definition: dict[str, Any]) -> None:
    for key in ("inputSchema", "outputSchema"):
        Draft202012Validator.check_schema(definition[key])
        assert definition[key]["type"] == "object"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_input_schemas_are_closed_and_plain(definition: dict[str, Any]) -> None:
    schema = definition["inputSchema"]
    assert schema["additionalProperties"] is False
    for each in subschemas(schema):
        assert isinstance(each["type"], str)
        assert not {"title", "anyOf", "$ref", "$defs"} & set(each)
        assert each.get("default", "") is not None
    for name in schema.get("required", ()):
        assert name in schema["properties"]


@pytest.mark.parametrize("tool", FULL, ids=NAMES)
def test_every_number_and_list_is_bounded(tool: Any) -> None:
    for each in subschemas(input_schema(tool.arguments)):
        if each["type"] in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(each)
        if each["type"] == "array":
            assert "maxItems" in each


def test_an_outline_keeps_the_names_and_types_of_nested_objects() -> None:
    class Inner(Arguments):
        text: str
        limit: Limit = 5

    class Outer(Arguments):
        inner: Inner
        inners: list[Inner] | None = None
        limit: Limit = 5

    outlined = {
        "type": "object",
        "required": ["text"],
        "properties": {"text": {"type": "string"}, "limit": {"type": "integer"}},
    }
    limit = {"type": "integer", "default": 5, "minimum": 1, "maximum": 100}
    assert outline(input_schema(Outer)) == {
        "type": "object",
        "required": ["inner"],
        "properties": {"inner": outlined, "inners": {"type": "array", "items": outlined}, "limit": limit},
        "additionalProperties": False,
    }


def test_an_output_schema_lists_what_is_promised() -> None:
    class Answer(TypedDict):
        text: str
        number: int
        score: float
        done: bool
        rows: list[dict[str, Any]]
        found: dict[str, Any] | None
        cursor: str | None
        hint: NotRequired[str]

    types = {
        "text": "string",
        "number": "integer",
        "score": "number",
        "done": "boolean",
        "rows": "array",
        "found": ["object", "null"],
        "cursor": ["string", "null"],
    }
    assert output_schema(Answer) == {
        "type": "object",
        "properties": {key: {"type": each} for key, each in types.items()},
        "required": list(types),
    }


def test_descriptions_of_tools_are_one_or_two_sentences() -> None:
    for tool in CORE:
        assert 1 <= tool.description.count(". ") + 1 <= 3, tool.name
        assert len(tool.description) <= 200, tool.name
