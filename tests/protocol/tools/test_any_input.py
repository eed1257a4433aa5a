"""Whatever is sent to whichever tool is answered or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.protocol.tools.schema import Schema, input_schema
from mempalace_mcp.protocol.tools.table import CORE
from tests.protocol.tools.support import Client, open_client

TEXT = st.text(st.characters(codec=None), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
LIKELY_TEXT = st.sampled_from(
    [
        "",
        " ",
        "Ada",
        "tea",
        "2026-05-08",
        "2026-05-08T10:00:00+02:00",
        "0001-01-01",
        "9999-12-31",
        "d_" + "0" * 24,
        "\0",
        "%",
    ]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with open_client(tmp_path_factory.mktemp("any") / "palace") as client:
        yield client


def likely(schema: Schema) -> st.SearchStrategy[Any]:
    """What fits the schema, or nearly, so that many calls get past the first check."""
    match schema:
        case {"enum": choices}:
            return st.sampled_from(choices)
        case {"type": "object", "properties": properties, **rest}:
            parts = {name: likely(each) for name, each in properties.items()}
            required = {name: parts.pop(name) for name in rest.get("required", ())}
            return st.fixed_dictionaries(required, optional=parts)
        case {"type": "array", "items": items}:
            return st.lists(likely(items), max_size=3)
        case {"type": "integer"}:
            return st.integers(schema["minimum"] - 1, schema["maximum"] + 1)
        case {"type": "number"}:
            return st.floats(schema["minimum"], schema["maximum"])
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "object"}:
            return st.dictionaries(TEXT, JSON, max_size=2)
    return LIKELY_TEXT | TEXT


def calls() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    tools = {tool.name: input_schema(tool.arguments) for tool in CORE}

    def arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        schema = tools[name]
        known = st.sampled_from([*schema["properties"], "unknown"])
        return st.tuples(st.just(name), likely(schema) | st.dictionaries(known | TEXT, JSON, max_size=6))

    return st.sampled_from(sorted(tools)).flatmap(arguments)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls())
def test_every_call_is_answered_or_refused(client: Client, call: tuple[str, dict[str, Any]]) -> None:
    client.attempt(*call)
