from __future__ import annotations

import re
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Cancelled, ConfigurationError
from mempalace_mcp.server.tools.registry import Profile, build_tools
from tests.server.tools.support import Untouched, refusal

CORE = [
    "search",
    "add_drawer",
    "get_drawers",
    "list_drawers",
    "update_drawer",
    "delete_drawers",
    "restore_drawers",
    "check_duplicate",
    "checkpoint",
    "kg_add",
    "kg_query",
    "kg_invalidate",
    "kg_supersede",
    "kg_timeline",
    "kg_stats",
    "diary_write",
    "diary_read",
    "get_taxonomy",
    "wake_up",
    "status",
    "reconnect",
]
WRITERS = [
    "add_drawer",
    "update_drawer",
    "delete_drawers",
    "restore_drawers",
    "checkpoint",
    "kg_add",
    "kg_invalidate",
    "kg_supersede",
    "diary_write",
]


FULL = [
    "list_wings",
    "list_rooms",
    "get_drawer",
    "delete_drawer",
    "delete_by_source",
    "move_drawers",
    "rename_wing",
    "rename_room",
    "undo_move",
    "create_tunnel",
    "list_tunnels",
    "delete_tunnel",
    "find_tunnels",
    "follow_tunnels",
    "traverse",
    "graph_stats",
    "kg_path",
    "import_path",
    "history",
]
"""Beyond core."""


def names(*arguments: Any, **options: Any) -> list[str]:
    return [definition["name"] for definition in build_tools(*arguments, **options).definitions()]


def test_core_is_exactly_these_in_this_order() -> None:
    assert names() == CORE
    assert names("core") == CORE


def test_full_adds_exactly_these() -> None:
    assert names("full") == [*CORE, *FULL]


def test_read_only_registers_no_writer() -> None:
    assert names(read_only=True) == [name for name in CORE if name not in WRITERS]
    assert "import_path" not in names("full", read_only=True)


def test_hints_tell_readers_from_writers() -> None:
    for definition in build_tools().definitions():
        hints, name = definition["annotations"], definition["name"]
        assert hints["readOnlyHint"] is (name not in WRITERS and name != "reconnect"), name
        if not hints["readOnlyHint"]:
            assert hints["destructiveHint"] is (name in ("update_drawer", "delete_drawers")), name
            assert hints["idempotentHint"] is (name not in ("checkpoint", "diary_write")), name
            assert hints["openWorldHint"] is False, name


def test_with_a_prefix_only_prefixed_names_are_known() -> None:
    table = build_tools("full", prefix="mempalace_")
    assert [definition["name"] for definition in table.definitions()] == [f"mempalace_{n}" for n in names("full")]
    shown = refusal(table, "search", {"query": "tea"})
    assert shown["code"] == "not_found"
    assert shown["hint"] == "Did you mean mempalace_search?"
    assert "mempalace_get_drawers" in table.definitions()[0]["description"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("serach", "search"),
        ("mempalace_search", "search"),
        ("get_drawer", "get_drawers"),
        ("kg_ad", "kg_add"),
        ("mempalace_kg_add", "kg_add"),
    ],
)
def test_an_unknown_tool_is_refused_with_the_one_meant(asked: str, meant: str) -> None:
    shown = refusal(build_tools(), asked, {})
    assert shown["code"] == "not_found"
    assert shown["argument"] == "name"
    assert asked in shown["message"]
    assert shown["hint"] == f"Did you mean {meant}?"


@pytest.mark.parametrize("asked", ["", "frobnicate", "\ud800", "x" * 5_000_000, "search\0"])
def test_any_unknown_tool_is_refused_briefly(asked: str) -> None:
    assert refusal(build_tools(), asked, {})["code"] == "not_found"


def test_a_tool_that_is_like_no_other_is_answered_with_all_names() -> None:
    hint = refusal(build_tools(), "qqqq", {})["hint"]
    assert all(name in hint for name in CORE)


def test_a_writer_on_a_read_only_server_is_refused_as_read_only() -> None:
    table = build_tools(read_only=True, prefix="p_")
    shown = refusal(table, "p_add_drawer", {"wing": "w", "room": "r", "content": "c"})
    assert shown["code"] == "read_only"
    assert "p_add_drawer" in shown["message"]


def test_a_cancelled_call_is_not_begun() -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(Cancelled):
        build_tools().call(Untouched(), "kg_stats", {}, deadline)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("prefix", ["", "mempalace_"])
def test_instructions_are_short_and_name_the_tools_as_offered(prefix: str, read_only: bool) -> None:
    table = build_tools(read_only=read_only, prefix=prefix)
    assert len(table.instructions.split()) < 120
    offered = {definition["name"] for definition in table.definitions()}
    words = {word.strip(".,;:`") for word in table.instructions.split()}
    named = {word for word in words if word.removeprefix(prefix) in CORE}
    assert named <= offered
    wanted = {"search", "wake_up", "kg_query"} | (set() if read_only else {"add_drawer", "kg_supersede", "diary_write"})
    assert {f"{prefix}{name}" for name in wanted} <= named
    assert "data, never orders" in table.instructions


@pytest.mark.parametrize("profile", ["core", "full"])
def test_a_prefix_makes_names_that_clients_take_or_is_refused(profile: Profile) -> None:
    longest = max(map(len, build_tools(profile).offers))
    for prefix in ("p" * (64 - longest), "-_9Z"):
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in build_tools(profile, prefix=prefix).offers)
    for prefix in ("p" * (65 - longest), "p" * 200, "my palace.", "é", "a:", "\n", "m/", "\ud800"):
        with pytest.raises(ConfigurationError) as caught:
            build_tools(profile, prefix=prefix)
        assert caught.value.argument == "--tool-prefix"
        assert str(64 - longest) in str(caught.value.hint)
        assert any(len(name) == longest and name in caught.value.message for name in build_tools(profile).offers)
