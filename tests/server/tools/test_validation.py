from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import SearchMode
from mempalace_mcp.server.tools.drawers import add_drawer
from mempalace_mcp.server.tools.registry import build_tools
from mempalace_mcp.server.tools.schema import input_schema, nearest, read_arguments
from mempalace_mcp.server.tools.search import check_duplicate, search
from mempalace_mcp.server.tools.tool import Tool
from tests.server.tools.support import refusal

TABLE = build_tools("full")
DRAWER = {"wing": "w", "room": "r", "content": "c"}


def read(tool: Tool, arguments: dict[str, Any]) -> Any:
    return read_arguments(tool.arguments, arguments, input_schema(tool.arguments))


@pytest.mark.parametrize(
    ("tool", "arguments", "argument", "message", "hint"),
    [
        ("search", {"query": "tea", "limit": -5}, "limit", "limit cannot be -5", "whole number from 1 to 100"),
        ("search", {"query": "tea", "limit": 101}, "limit", "limit cannot be 101", "whole number from 1 to 100"),
        ("search", {"query": "tea", "limit": 10**9}, "limit", "limit cannot be 1000000000", "from 1 to 100"),
        ("search", {"query": "tea", "limit": 10**5000}, "limit", "a number of that size", "from 1 to 100"),
        ("search", {"query": "tea", "limit": True}, "limit", "limit cannot be true", "whole number"),
        ("search", {"query": "tea", "limit": 5.5}, "limit", "limit cannot be 5.5", "whole number"),
        ("search", {"query": "tea", "limit": "five"}, "limit", "limit cannot be 'five'", "whole number"),
        ("search", {"query": "tea", "limit": "101"}, "limit", "limit cannot be 101", "from 1 to 100"),
        ("search", {"query": "tea", "limit": [5]}, "limit", "limit cannot be a list of 1 entry", "whole number"),
        ("search", {"query": {"text": "tea"}}, "query", "query cannot be an object", "text of at most 65,536"),
        ("search", {"query": None}, "query", "query cannot be null", "text of at most 65,536"),
        ("search", {"query": "x" * 65_537}, "query", "text of 65,537 characters", "text of at most 65,536"),
        ("search", {"query": "tea", "mode": "vector"}, "mode", "'vector'", "one of hybrid, semantic, keyword"),
        ("search", {"query": "tea", "mode": 1}, "mode", "mode cannot be 1", "one of hybrid"),
        ("search", {"query": "tea", "wing": False}, "wing", "wing cannot be false", "Give text (Project or person)."),
        ("search", {}, "query", "query is missing", "text of at most 65,536"),
        ("search", {"query": "tea", "max_tokens": 10**7}, "max_tokens", "10000000", "whole number"),
        ("add_drawer", DRAWER | {"content": "x" * 5_000_000}, "content", "5,000,000 characters", "1,048,576"),
        ("add_drawer", DRAWER | {"metadata": "a=b"}, "metadata", "'a=b'", "an object"),
        ("add_drawer", DRAWER | {"metadata": [1]}, "metadata", "a list", "an object"),
        ("get_drawers", {"drawer_ids": ["d"] * 501}, "drawer_ids", "a list of 501 entries", "at most 500"),
        ("get_drawers", {"drawer_ids": {"id": "d_1"}}, "drawer_ids", "an object", "a list"),
        ("get_drawers", {"drawer_ids": "[5]"}, "drawer_ids[0]", "cannot be 5", "Give text."),
        ("get_drawers", {"drawer_ids": ["d_1"], "offset": -1}, "offset", "cannot be -1", "whole number from 0"),
        ("get_drawers", {"drawer_ids": ["d_1", 7]}, "drawer_ids[1]", "cannot be 7", "Give text."),
        ("delete_drawers", {"wing": "w", "dry_run": 1}, "dry_run", "dry_run cannot be 1", "true or false"),
        ("delete_drawers", {"wing": "w", "dry_run": "no"}, "dry_run", "'no'", "true or false"),
        ("check_duplicate", {"content": "c", "threshold": 1.5}, "threshold", "1.5", "a number from 0 to 1"),
        ("check_duplicate", {"content": "c", "threshold": True}, "threshold", "true", "a number from 0 to 1"),
        ("check_duplicate", {"content": "c", "threshold": float("nan")}, "threshold", "nan", "a number from 0 to 1"),
        ("check_duplicate", {"content": "c", "threshold": 10**400}, "threshold", "that size", "a number from 0 to 1"),
        ("kg_query", {"entity": "Ada", "depth": 6}, "depth", "depth cannot be 6", "from 1 to 5"),
        ("kg_query", {"entity": "Ada", "direction": "up"}, "direction", "'up'", "one of outgoing, incoming, both"),
        ("kg_add", {"subject": "a", "predicate": "b", "object": ["c"]}, "object", "a list", "Give text."),
        ("diary_read", {"agent_name": "a", "last_n": 1000}, "last_n", "1000", "from 1 to 100"),
        ("get_drawers", {}, "drawer_ids", "drawer_ids is missing", "a list of at most 500"),
        (
            "checkpoint",
            {"items": [DRAWER, DRAWER, {"wing": "w", "room": "r"}]},
            "items[2].content",
            "missing",
            "1,048,576",
        ),
        ("checkpoint", {"items": [DRAWER, "text"]}, "items[1]", "'text'", "an object with wing, room, content"),
        ("checkpoint", {"items": [DRAWER] * 501}, "items", "a list of 501 entries", "at most 500"),
        (
            "checkpoint",
            {"items": [], "facts": [{"subject": "a", "predicate": "b", "object": "c", "confidence": 2}]},
            "facts[0].confidence",
            "cannot be 2",
            "a number from 0 to 1",
        ),
        ("checkpoint", {"items": [], "diary": {"agent_name": "a"}}, "diary.entry", "missing", "1,048,576"),
        ("import_path", {"paths": []}, "paths", "a list of 0 entries", "a list of 1 to 100 entries (Files or folders)"),
        ("import_path", {"paths": ["/a", None]}, "paths[1]", "null", "Give text."),
    ],
)
def test_a_wrong_argument_is_named_shown_and_explained(
    tool: str, arguments: dict[str, Any], argument: str, message: str, hint: str
) -> None:
    shown = refusal(TABLE, tool, arguments)
    assert shown["code"] == "invalid_argument"
    assert shown["argument"] == argument
    assert shown["message"].startswith(argument)
    assert message in shown["message"]
    assert hint in shown["hint"]
    assert "fault" not in shown["message"]


@pytest.mark.parametrize(
    ("tool", "arguments", "argument", "hint"),
    [
        ("search", {"query": "tea", "limt": 5}, "limt", "Did you mean limit? Known: query, wing,"),
        ("search", {"qery": "tea"}, "qery", "Did you mean query?"),
        ("diary_write", {"agent_name": "a", "content": "c"}, "content", "Known: agent_name, entry, topic, wing."),
        ("add_drawer", DRAWER | {"\ud800": 1}, "\\ud800", "Known: wing, room"),
        ("add_drawer", DRAWER | {"": 1}, "", "Known: wing, room"),
        ("kg_stats", {"entity": "Ada"}, "entity", "It takes no arguments."),
        ("checkpoint", {"items": [DRAWER, DRAWER | {"contents": ""}]}, "items[1].contents", "Did you mean content?"),
        ("checkpoint", {"items": [], "diary": {"agent": "a", "entry": "e"}}, "diary.agent", "agent_name"),
        ("status", {"x" * 100_000: 1}, "x" * 60, "It takes no arguments."),
    ],
)
def test_an_unknown_argument_is_refused_with_the_one_meant(
    tool: str, arguments: dict[str, Any], argument: str, hint: str
) -> None:
    shown = refusal(TABLE, tool, arguments)
    assert shown["code"] == "invalid_argument"
    assert shown["argument"] == argument or not argument
    assert "is not a known argument" in shown["message"]
    assert hint in shown["hint"]


def test_the_first_fault_is_told_and_the_others_are_counted() -> None:
    shown = refusal(TABLE, "search", {"query": 1, "limit": -1, "mode": "x"})
    assert shown["message"] == "query cannot be 1 (2 more faults in this call)"
    shown = refusal(TABLE, "search", {"query": "tea", "limit": -1, "mode": "x"})
    assert shown["message"] == "limit cannot be -1 (1 more fault in this call)"


def test_many_unknown_arguments_are_one_refusal() -> None:
    shown = refusal(TABLE, "search", {f"argument{number}": number for number in range(200_000)})
    assert shown["argument"] == "argument0"
    assert "199999 more faults" in shown["message"]


def test_an_unknown_argument_is_told_before_the_missing_one_it_explains() -> None:
    shown = refusal(TABLE, "add_drawer", {"wing": "w", "room": "r", "contnt": "c"})
    assert shown["argument"] == "contnt"
    assert shown["hint"].startswith("Did you mean content?")


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_optional_argument_is_an_absent_one(empty: str | None) -> None:
    names = ("wing", "room", "source_file", "since", "before", "limit", "mode", "max_tokens")
    arguments = read(search, {"query": "tea", **dict.fromkeys(names, empty)})
    assert arguments == read(search, {"query": "tea"})
    assert arguments.limit == 5
    assert arguments.mode is SearchMode.HYBRID
    assert read(check_duplicate, {"content": "c", "threshold": empty}).threshold == 0.9
    assert read(add_drawer, {**DRAWER, "metadata": empty, "occurred_at": empty}).given() == DRAWER


def test_an_empty_required_argument_stays_what_it_is() -> None:
    assert read(add_drawer, {**DRAWER, "content": ""}).content == ""


def test_a_whole_number_is_a_number() -> None:
    assert read(check_duplicate, {"content": "c", "threshold": 1}).threshold == 1.0


def nested(depth: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {"deepest": 1}
    for level in range(depth - 1):
        metadata = {"inner": metadata if level % 2 else [metadata]} if level % 2 else {"inner": metadata}
    return metadata


def test_metadata_may_be_nested_eight_levels_deep() -> None:
    assert read(add_drawer, {**DRAWER, "metadata": nested(8)}).metadata == nested(8)


@pytest.mark.parametrize("metadata", [nested(9), nested(100_000), {"a": [[[[[[[[]]]]]]]]}])
def test_deeper_metadata_is_refused(metadata: dict[str, Any]) -> None:
    shown = refusal(TABLE, "add_drawer", {**DRAWER, "metadata": metadata})
    assert shown["argument"] == "metadata"
    assert shown["message"] == "metadata is nested more than 8 levels deep"


def test_arguments_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read(search, {"query": "tea"}).limit = 7


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("limt", "limit"), ("mempalace_limit", "limit"), ("mit", "limit"), ("", None), ("zzz", None), ("x" * 10**6, None)],
)
def test_nearest(asked: str, meant: str | None) -> None:
    assert nearest(asked, ["query", "limit"]) == meant


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["query", "limit", "mode", "wing", "max_tokens", "\ud800"]), JSON))
def test_whatever_is_given_is_read_or_refused(arguments: dict[str, Any]) -> None:
    with suppress(InvalidArgument):
        read(search, arguments)
