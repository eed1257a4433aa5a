from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp_types import ListToolsResult, Tool

from mempalace_mcp.protocol.tools.arguments import Arguments, Limit
from mempalace_mcp.protocol.tools.schema import Schema, input_schema, outline, output_schema
from mempalace_mcp.protocol.tools.table import CORE, FULL, build_tools

LISTING_BYTES = 16_000
DEFINITIONS = build_tools("full").definitions()


def subschemas(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in schema.get("properties", {}).values():
        yield from subschemas(each)
    if "items" in schema:
        yield from subschemas(schema["items"])


@pytest.mark.parametrize("prefix", ["", "mempalace_"])
def test_the_core_listing_as_sent_stays_under_16_kilobytes(prefix: str) -> None:
    tools = [Tool.model_validate(definition) for definition in build_tools("core", prefix=prefix).definitions()]
    result = ListToolsResult(tools=tools).model_dump_json(by_alias=True, exclude_none=True)
    response = f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'
    assert len(response.encode("utf-8")) < LISTING_BYTES


def test_every_definition_is_complete() -> None:
    hints = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    for definition in DEFINITIONS:
        assert set(definition) == {"name", "title", "description", "inputSchema", "outputSchema", "annotations"}
        assert set(definition["annotations"]) == hints
        assert all(isinstance(hint, bool) for hint in definition["annotations"].values())
        assert definition["description"].endswith(".")
        assert "{" not in definition["description"]


def test_every_schema_is_valid_and_an_object() -> None:
    for definition in DEFINITIONS:
        for key in ("inputSchema", "outputSchema"):
            Draft202012Validator.check_schema(definition[key])
            assert definition[key]["type"] == "object"


def test_input_schemas_are_closed_and_plain() -> None:
    for definition in DEFINITIONS:
        schema = definition["inputSchema"]
        assert schema["additionalProperties"] is False, definition["name"]
        assert set(schema.get("required", ())) <= set(schema["properties"])
        for each in subschemas(schema):
            assert isinstance(each["type"], str)
            assert not {"title", "anyOf", "$ref", "$defs"} & set(each)
            assert each.get("default", "") is not None


def test_every_number_and_list_is_bounded() -> None:
    for tool in FULL:
        for each in subschemas(input_schema(tool.arguments)):
            if each["type"] in ("integer", "number"):
                assert {"minimum", "maximum"} <= set(each), tool.name
            if each["type"] == "array":
                assert "maxItems" in each, tool.name


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
