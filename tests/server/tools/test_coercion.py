"""Arguments as clients really send them: numbers, truths and lists as text; and texts, which stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.server.tools.registry import FULL, build_tools
from mempalace_mcp.server.tools.schema import Schema, coerce, input_schema, read_arguments
from tests.server.tools.support import DRAWER, Client, refusal

TABLE = build_tools("full")
TOOLS = {tool.name: tool for tool in FULL}
FACT = {"subject": "a", "predicate": "b", "object": "c"}
ENTRY = {"agent_name": "a", "entry": "e"}
DATA = {"n": "5", "b": "true", "x": None}
NOT_TEXT = ("5", "5.0", " 5 ", "true", "null", "None", "[1]", '["a"]', '{"a": 1}', "Hybrid", " ", "", "0", "-1e5", "[")


def read(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    model = TOOLS[tool].arguments
    told: dict[str, Any] = read_arguments(model, arguments, input_schema(model)).model_dump(mode="json")
    return told


@pytest.mark.parametrize(
    ("tool", "sent", "meant"),
    [
        ("search", {"query": "x", "limit": "5"}, {"limit": 5}),
        ("search", {"query": "x", "limit": " 7\n"}, {"limit": 7}),
        ("search", {"query": "x", "limit": 5.0}, {"limit": 5}),
        ("search", {"query": "x", "limit": "5.0"}, {"limit": 5}),
        ("search", {"query": "x", "limit": "+1e1"}, {"limit": 10}),
        ("search", {"query": "x", "limit": 0}, {"limit": 5}),
        ("search", {"query": "x", "limit": "0"}, {"limit": 5}),
        ("search", {"query": "x", "limit": " ", "mode": None}, {"limit": 5, "mode": "hybrid"}),
        ("search", {"query": "x", "max_tokens": 0}, {"max_tokens": None}),
        ("search", {"query": "x", "mode": "Hybrid"}, {"mode": "hybrid"}),
        ("search", {"query": "x", "mode": " KEYWORD "}, {"mode": "keyword"}),
        ("kg_query", {"entity": "x", "direction": "Outgoing", "depth": "2"}, {"direction": "outgoing", "depth": 2}),
        ("check_duplicate", {"content": "x", "threshold": "0.5"}, {"threshold": 0.5}),
        ("check_duplicate", {"content": "x", "threshold": "1"}, {"threshold": 1.0}),
        ("check_duplicate", {"content": "x", "threshold": ".75"}, {"threshold": 0.75}),
        ("search", {"query": "x", "limit": "4."}, {"limit": 4}),
        ("check_duplicate", {"content": "x", "threshold": 0}, {"threshold": 0.0}),
        ("kg_add", {**FACT, "confidence": ""}, {"confidence": None}),
        ("delete_drawers", {"wing": "w", "dry_run": "false"}, {"dry_run": False}),
        ("delete_drawers", {"wing": "w", "dry_run": " TRUE "}, {"dry_run": True}),
        ("delete_drawers", {"wing": "w", "drawer_ids": []}, {"drawer_ids": None}),
        ("delete_drawers", {"wing": "w", "drawer_ids": "[]"}, {"drawer_ids": None}),
        ("get_drawers", {"drawer_ids": "d_1"}, {"drawer_ids": ["d_1"]}),
        ("get_drawers", {"drawer_ids": '["d_1", "d_2"]'}, {"drawer_ids": ["d_1", "d_2"]}),
        ("get_drawers", {"drawer_ids": ' [\n"d_1"] '}, {"drawer_ids": ["d_1"]}),
        ("get_drawers", {"drawer_ids": ["d_1"], "offset": "20"}, {"offset": 20}),
        ("add_drawer", {**DRAWER, "metadata": '{"n": "5", "e": []}'}, {"metadata": {"n": "5", "e": []}}),
        ("add_drawer", {**DRAWER, "metadata": DATA}, {"metadata": DATA}),
        ("update_drawer", {"drawer_id": "d", "metadata": {}}, {"metadata": {}}),
        ("update_drawer", {"drawer_id": "d", "metadata": "{}"}, {"metadata": {}}),
        ("checkpoint", {"items": json.dumps([DRAWER])}, {"items[0]": DRAWER}),
        ("checkpoint", {"items": DRAWER}, {"items[0]": DRAWER}),
        ("checkpoint", {"items": json.dumps(DRAWER)}, {"items[0]": DRAWER}),
        ("checkpoint", {"items": [json.dumps(DRAWER)]}, {"items[0]": DRAWER}),
        ("checkpoint", {"items": [{**DRAWER, "metadata": '{"a": 1}'}]}, {"items[0]": {"metadata": {"a": 1}}}),
        ("checkpoint", {"items": [{**DRAWER, "added_by": None}]}, {"items[0]": {"added_by": None}}),
        ("checkpoint", {"items": [], "facts": [{**FACT, "confidence": "0.5"}]}, {"facts[0]": {"confidence": 0.5}}),
        ("checkpoint", {"items": [], "facts": FACT}, {"facts[0]": FACT}),
        ("checkpoint", {"items": [DRAWER], "facts": None, "diary": {}}, {"facts": None, "diary": None}),
        ("checkpoint", {"items": [DRAWER], "facts": [], "diary": "{}"}, {"facts": None, "diary": None}),
        ("checkpoint", {"items": [], "diary": json.dumps(ENTRY)}, {"diary": ENTRY}),
        ("checkpoint", {"items": None, "facts": [FACT]}, {"items": None, "facts[0]": FACT}),
        ("checkpoint", {"items": "", "diary": ENTRY}, {"items": None, "diary": ENTRY}),
        ("checkpoint", {"items": [], "diary": {**ENTRY, "topic": None}}, {"diary": {"topic": "general"}}),
        ("diary_read", {"agent_name": "a", "last_n": "3"}, {"last_n": 3}),
        ("wake_up", {"max_tokens": "600"}, {"max_tokens": 600}),
        ("import_path", {"paths": "/notes", "dry_run": "True"}, {"paths": ["/notes"], "dry_run": True}),
        ("history", {"session": "2", "limit": "9"}, {"session": 2, "limit": 9}),
    ],
)  # fmt: skip
def test_what_has_one_meaning_is_taken_as_that(tool: str, sent: dict[str, Any], meant: dict[str, Any]) -> None:
    told = read(tool, sent)
    for name, value in meant.items():
        if name.endswith("[0]"):
            (entry,) = told[name.removesuffix("[0]")]
            assert value.items() <= entry.items()
        elif isinstance(value, dict) and name == "diary":
            assert value.items() <= told[name].items()
        else:
            assert told[name] == value
            assert type(told[name]) is type(value)


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    [
        ("search", {"query": "x", "limit": "5 hits"}, "limit"),
        ("search", {"query": "x", "limit": "5,0"}, "limit"),
        ("search", {"query": "x", "limit": "0x5"}, "limit"),
        ("search", {"query": "x", "limit": "."}, "limit"),
        ("search", {"query": "x", "limit": ".e1"}, "limit"),
        ("search", {"query": "x", "limit": "٣"}, "limit"),
        ("search", {"query": "x", "limit": "9" * 5000}, "limit"),
        ("search", {"query": "x", "limit": "1e99"}, "limit"),
        ("search", {"query": "x", "limit": "NaN"}, "limit"),
        ("search", {"query": "x", "limit": "true"}, "limit"),
        ("search", {"query": "x", "limit": False}, "limit"),
        ("search", {"query": "x", "limit": "[5]"}, "limit"),
        ("search", {"query": 5}, "query"),
        ("search", {"query": ["x"]}, "query"),
        ("search", {"query": None}, "query"),
        ("search", {"query": "x", "mode": "hybrids"}, "mode"),
        ("check_duplicate", {"content": "x", "threshold": "90%"}, "threshold"),
        ("check_duplicate", {"content": "x", "threshold": "1e99"}, "threshold"),
        ("delete_drawers", {"wing": "w", "dry_run": "0"}, "dry_run"),
        ("delete_drawers", {"wing": "w", "dry_run": 0}, "dry_run"),
        ("delete_drawers", {"wing": "w", "dry_run": "off"}, "dry_run"),
        ("get_drawers", {"drawer_ids": [5]}, "drawer_ids[0]"),
        ("get_drawers", {"drawer_ids": 5}, "drawer_ids"),
        ("get_drawers", {"drawer_ids": None}, "drawer_ids"),
        ("get_drawers", {"drawer_ids": [None]}, "drawer_ids[0]"),
        ("get_drawers", {"drawer_ids": '["d_1", 5]'}, "drawer_ids[1]"),
        ("add_drawer", {**DRAWER, "metadata": "[1]"}, "metadata"),
        ("add_drawer", {**DRAWER, "metadata": '{"a": NaN}'}, "metadata"),
        ("add_drawer", {**DRAWER, "metadata": '{"a": 1'}, "metadata"),
        ("add_drawer", {**DRAWER, "metadata": '{"a": ' * 100_000}, "metadata"),
        ("add_drawer", {**DRAWER, "metadata": "[" + "[]," * 200_000 + "[]]"}, "metadata"),
        ("checkpoint", {"items": "text"}, "items"),
        ("checkpoint", {"items": ["text"]}, "items[0]"),
        ("checkpoint", {"items": {"0": DRAWER}}, "items"),
        ("checkpoint", {"items": [], "facts": ['{"subject": 5}']}, "facts[0].subject"),
        ("checkpoint", {"items": [], "diary": '{"agent_name": "a"}'}, "diary.entry"),
        ("import_path", {"paths": "[]"}, "paths"),
    ],
)
def test_what_has_no_single_meaning_is_refused(tool: str, arguments: dict[str, Any], argument: str) -> None:
    shown = refusal(TABLE, tool, arguments)
    assert (shown["code"], shown["argument"]) == ("invalid_argument", argument)
    assert shown["hint"]


def texts(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the arguments of a schema hold text that may be anything."""
    for name, each in schema.get("properties", {}).items():
        inner = each.get("items", each)
        if each["type"] == "string" and "enum" not in each:
            yield (*path, name)
        elif "properties" in inner:
            yield from texts(inner, (*path, name))


TEXTS = [(name, path) for name, tool in TOOLS.items() for path in texts(input_schema(tool.arguments))]


def place(schema: Schema, path: tuple[str, ...], value: str) -> Any:
    """Arguments with that value there, and an entry or an object around it where one belongs."""
    name, *rest = path
    inner = schema["properties"][name]
    if not rest:
        return {name: value}
    nested = place(inner.get("items", inner), tuple(rest), value)
    return {name: [nested] if inner["type"] == "array" else nested}


@pytest.mark.parametrize(("tool", "path"), TEXTS, ids=lambda each: each if isinstance(each, str) else ".".join(each))
def test_a_text_argument_is_never_touched(tool: str, path: tuple[str, ...]) -> None:
    schema = input_schema(TOOLS[tool].arguments)
    for text in NOT_TEXT:
        arguments = place(schema, path, text)
        assert json.dumps(coerce(arguments, schema)) == json.dumps(arguments)


def test_every_text_argument_is_among_them() -> None:
    assert len(TEXTS) > 70
    assert ("checkpoint", ("items", "content")) in TEXTS
    assert ("checkpoint", ("diary", "entry")) in TEXTS
    assert ("kg_supersede", ("old_object",)) in TEXTS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NOT_TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(TOOLS)), st.data())
def test_whatever_is_sent_is_understood_alike_the_second_time(tool: str, data: st.DataObject) -> None:
    schema = input_schema(TOOLS[tool].arguments)
    names = [*schema["properties"], "unknown"]
    arguments = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4))
    once = coerce(arguments, schema)
    assert json.dumps(coerce(once, schema)) == json.dumps(once)


def test_texts_that_look_like_something_else_are_filed_and_found_as_they_are(client: Client) -> None:
    for text in ("5", "true", "[1]", '{"a": 1}', " null "):
        drawer_id = client.add(content=text, wing="5", room="true")
        (drawer,) = client.call("get_drawers", drawer_ids=drawer_id)["drawers"]
        assert (drawer["content"], drawer["wing"], drawer["room"]) == (text, "5", "true")
        fact = client.call("kg_add", subject="5", predicate="true", object=text)["fact"]
        assert (fact["subject"], fact["predicate"], fact["object"]) == ("5", "true", text)


def test_ids_in_one_text_are_so_many_ids(client: Client) -> None:
    one, two = client.add(content="One."), client.add(content="Two.")
    for text in (f"{one},{two}", f" {one}, {two} ", f"{one}\n{two}", f"['{one}', '{two}']", f"[{one};{two}]"):
        told = client.call("get_drawers", drawer_ids=text)
        assert [drawer["drawer_id"] for drawer in told["drawers"]] == [one, two], text
    assert client.call("get_drawers", drawer_ids=[f'"{two}"', one])["count"] == 2
    assert client.call("update_drawer", drawer_id=f' ["{two}"]\n', content="Three.")["drawer_id"] == two
    assert client.refuse("update_drawer", drawer_id=f"{one},{two}", content="Three.")["argument"] == "drawer_id"
    for text in (f"{one} and {two}", f"{one},d_1", "[]x", "','", f"{one}|{two}"):
        assert client.refuse("get_drawers", drawer_ids=[text])["argument"] == "drawer_ids[0]", text
    assert client.refuse("get_drawers", drawer_ids=[",".join([one] * 501)])["argument"] == "drawer_ids"


def test_a_dry_run_that_was_sent_as_text_deletes_nothing_and_its_opposite_does(client: Client) -> None:
    client.add()
    assert client.call("delete_drawers", wing="Kitchen", dry_run="true", drawer_ids=[])["deleted"] == 0
    assert client.call("list_drawers", limit="100")["total"] == 1
    assert client.call("delete_drawers", wing="Kitchen", dry_run="False")["deleted"] == 1
