from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp_types import ListToolsResult, Tool

from mempalace_mcp.server.tools.registry import CORE, FULL, Profile, build_tools
from mempalace_mcp.server.tools.schema import Arguments, Limit, Schema, input_schema, outline, output_schema

CORE_BYTES, FULL_BYTES = 16_000, 32_000
PLAIN = {
    "type", "description", "enum", "default", "minimum", "maximum", "minItems", "maxItems", "required", "properties",
    "items",
}  # fmt: skip
DEFINITIONS = build_tools("full").definitions()


def subschemas(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in schema.get("properties", {}).values():
        yield from subschemas(each)
    if "items" in schema:
        yield from subschemas(schema["items"])


@pytest.mark.parametrize("prefix", ["", "mempalace_"])
@pytest.mark.parametrize(("profile", "most"), [("core", CORE_BYTES), ("full", FULL_BYTES)])
def test_the_listing_as_sent_stays_within_its_budget(profile: Profile, most: int, prefix: str) -> None:
    tools = [Tool.model_validate(definition) for definition in build_tools(profile, prefix=prefix).definitions()]
    result = ListToolsResult(tools=tools).model_dump_json(by_alias=True, exclude_none=True)
    response = f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'
    assert len(response.encode("utf-8")) < most


def test_the_listing_stays_within_its_budget_however_it_is_written() -> None:
    assert len(json.dumps({"tools": build_tools("core").definitions()})) < CORE_BYTES
    assert len(json.dumps({"tools": DEFINITIONS})) < FULL_BYTES


def test_every_definition_is_complete() -> None:
    writing = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    for definition in DEFINITIONS:
        told = set(definition) - {"title"}
        assert told == {"name", "description", "inputSchema", "outputSchema", "annotations"}
        hints = definition["annotations"]
        assert set(hints) == ({"readOnlyHint"} if hints["readOnlyHint"] else writing)
        assert all(isinstance(hint, bool) for hint in definition["annotations"].values())
        assert definition["description"].endswith(".")
        assert "{" not in definition["description"]


def test_a_title_says_more_than_the_name() -> None:
    titles = {definition["name"]: definition["title"] for definition in DEFINITIONS if "title" in definition}
    assert titles["kg_invalidate"] == "End fact"
    assert all(title.lower() != name.replace("_", " ") for name, title in titles.items())


SAY_IT_THEMSELVES = {
    "content", "entity", "entry", "items", "facts", "diary", "limit", "last_n", "max_tokens", "metadata", "mode",
    "query", "subject", "predicate", "object", "old_object", "new_object", "confidence", "direction", "topic",
    "min_score", "explain",
    "drawer_id",
}  # fmt: skip


@pytest.mark.parametrize("profile", ["core", "full"])
def test_what_the_name_of_an_argument_does_not_say_is_told_where_it_is_first_met(profile: Profile) -> None:
    told = set(SAY_IT_THEMSELVES)
    for definition in build_tools(profile).definitions():
        words = set(re.findall(r"\w+", definition["description"]))
        for name, each in definition["inputSchema"]["properties"].items():
            if "description" in each or words & {name, name.rpartition("_")[2]}:
                told.add(name)
            assert name in told, f"{definition['name']}: {name}"


def test_every_schema_is_valid_and_an_object() -> None:
    for definition in DEFINITIONS:
        for key in ("inputSchema", "outputSchema"):
            Draft202012Validator.check_schema(definition[key])
            assert definition[key]["type"] == "object"


def test_input_schemas_hold_nothing_that_a_converter_is_known_to_fail_at() -> None:
    for definition in DEFINITIONS:
        schema = definition["inputSchema"]
        assert set(schema.get("required", ())) <= set(schema["properties"])
        for each in subschemas(schema):
            assert set(each) <= PLAIN, definition["name"]
            assert isinstance(each["type"], str)
            assert each.get("default", "") is not None
            assert ("items" in each) is (each["type"] == "array")


def test_output_schemas_name_every_field_and_require_none() -> None:
    for definition in DEFINITIONS:
        schema = definition["outputSchema"]
        assert set(schema) == {"type", "properties"}
        properties = {**schema["properties"]}
        assert properties.pop("error") == {}
        for each in properties.values():
            assert each == {} or isinstance(each["type"], str)
            assert set(each) == ({"type", "items"} if each.get("type") == "array" else {"type"} & set(each))


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
    limit = {"type": "integer", "default": 5, "maximum": 100}
    assert outline(input_schema(Outer)) == {
        "type": "object",
        "required": ["inner"],
        "properties": {"inner": outlined, "inners": {"type": "array", "items": outlined}, "limit": limit},
    }


def test_an_output_schema_lists_all_that_may_be_there() -> None:
    class Answer(TypedDict):
        text: str
        number: int
        score: float
        done: bool
        rows: list[dict[str, Any]]
        names: list[str]
        found: dict[str, Any] | None
        cursor: str | None
        hint: NotRequired[str]

    properties = {
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "score": {"type": "number"},
        "done": {"type": "boolean"},
        "rows": {"type": "array", "items": {"type": "object"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "found": {},
        "cursor": {},
        "hint": {"type": "string"},
        "error": {},
    }
    assert output_schema(Answer) == {"type": "object", "properties": properties}


def test_descriptions_of_tools_are_one_or_two_sentences() -> None:
    for tool in CORE:
        assert 1 <= tool.description.count(". ") + 1 <= 3, tool.name
        assert len(tool.description) <= 200, tool.name
