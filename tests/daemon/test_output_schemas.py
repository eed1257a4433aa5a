"""Every answer and every refusal of every tool, from a real server, fits the schema that the server has published.

Typed clients drop what is not declared and refuse what is declared otherwise, refusals among it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.support import answer_to, bridge, end_processes_of, use
from tests.server.clients import StdioClient, call, request
from tests.server.tools.support import strict_validator

LONG = "High water is at noon, says the tide table of the harbour. " * 1200
UNKNOWN = "d_00000000000" + "0" * 13
ITEM = {"wing": "Sea", "room": "log", "content": "The tide turned at noon."}


@dataclass
class FilledPalace:
    """A client of a server whose palace is filled, the published schemas, and which fields have been seen."""

    client: StdioClient
    folder: Path
    schemas: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    tunnel: str = ""
    moves: list[int] = field(default_factory=list)

    def ask(self, tool: str, arguments: dict[str, Any], *, refused: bool = False) -> dict[str, Any]:
        """The structured content, which fits the published schema and is the same as the text."""
        self.client.send(call(tool, tool, **arguments))
        result = answer_to(self.client, tool)["result"]
        assert result["isError"] is refused, result
        [block] = result["content"]
        assert block["type"] == "text"
        assert json.loads(block["text"]) == result["structuredContent"]
        strict_validator(self.schemas[tool]).validate(result["structuredContent"])
        content: dict[str, Any] = result["structuredContent"]
        return content


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledPalace]:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "notes").mkdir()
    (folder / "notes" / "tide.md").write_text("# Tide\n\nThe tide is low.\n", encoding="utf-8")
    palace = folder / "palace"
    roots = {"PALACE_IMPORT_ROOTS": str(folder / "notes")}
    try:
        with bridge(palace, "--tools", "full", environment=roots) as client:
            client.greet()
            filled = FilledPalace(client, folder)
            client.send(request("list", "tools/list"))
            filled.schemas = {
                tool["name"]: tool["outputSchema"] for tool in answer_to(client, "list")["result"]["tools"]
            }
            for name, content in (("short", "The tide table is wet."), ("long", LONG), ("gone", "Old log.")):
                filled.ids[name] = use(client, name, "add_drawer", wing="Sea", room="log", content=content)["drawer_id"]
            use(client, "g", "delete_drawers", drawer_ids=[filled.ids["gone"]])
            for wing, room in (("Land", "log"), ("Land", "chart")):
                use(client, room, "add_drawer", wing=wing, room=room, content=f"Of {room}.", source_file="log.md")
            use(client, "spare", "add_drawer", wing="Spare", room="log", content="Of nothing.")
            rich = {"source_file": "old.md", "added_by": "Mate", "occurred_at": "2026-01-01"}
            old = use(client, "old", "add_drawer", wing="Land", room="log", content="Of old.", **rich)["drawer_id"]
            use(client, "new", "add_drawer", wing="Land", room="log", content="Of new.", supersedes=[old])
            filled.ids["rich"] = old
            there = use(client, "there", "list_drawers", wing="Land", room="chart")["drawers"][0]["drawer_id"]
            moved = use(client, "moved", "move_drawers", drawer_ids=[there], to_room="table")
            filled.moves.append(moved["move_id"])
            filled.ends = {"source_wing": "Land", "source_room": "log", "target_wing": "Land", "target_room": "table"}
            filled.tunnel = use(client, "tunnel", "create_tunnel", **filled.ends, label="beside")["tunnel"]["tunnel_id"]
            use(client, "back", "create_tunnel", **{**filled.ends, "target_wing": "Sea", "target_room": "log"})
            use(client, "d", "diary_write", agent_name="Mate", entry="We sailed.")
            use(client, "m", "diary_write", agent_name="Clerk", entry=LONG)
            for day in range(1, 4):
                use(
                    client,
                    day,
                    "kg_add",
                    subject="Mira",
                    predicate="sails",
                    object=f"ship {day}",
                    valid_from="2026-01-01",
                )
            yield filled
    finally:
        end_processes_of(palace)


def calls(filled: FilledPalace) -> dict[str, list[dict[str, Any]]]:
    """For each tool the calls whose answers differ most: found and not, whole and cut, done and only tried."""
    fact = {"subject": "Mira", "predicate": "sails"}
    notes = str(filled.folder / "notes")
    return {
        "search": [
            {"query": "tide"},
            {"query": "tide", "limit": 1, "max_tokens": 16},
            {"query": "zeppelin", "wing": "nowhere"},
            {"query": "tide", "mode": "keyword"},
            {"query": "潮汐表"},
        ],
        "add_drawer": [
            ITEM,
            ITEM,
            {**ITEM, "content": ITEM["content"].upper()},
            {**ITEM, "content": "DB_PASSWORD=sturmflut77"},
        ],
        "get_drawers": [
            {"drawer_ids": [filled.ids["short"], UNKNOWN]},
            {"drawer_ids": [filled.ids["long"]]},
            {"drawer_ids": [UNKNOWN]},
        ],
        "list_drawers": [{}, {"limit": 1}, {"wing": "nowhere"}],
        "update_drawer": [{"drawer_id": filled.ids["short"], "content": "The tide table is dry."}],
        "delete_drawers": [{"wing": "Sea"}, {"drawer_ids": [UNKNOWN]}, {"room": "log", "before": "1999-01-01"}],
        "restore_drawers": [{"drawer_ids": [filled.ids["gone"], UNKNOWN]}],
        "check_duplicate": [{"content": "The tide table is dry."}, {"content": "A zeppelin."}],
        "checkpoint": [
            {
                "items": [ITEM],
                "facts": [{**fact, "object": "a raft"}],
                "diary": {"agent_name": "Mate", "entry": "Done."},
            },
            {"items": [{**ITEM, "content": "Ebb."}]},
        ],
        "kg_add": [{**fact, "object": "a canoe"}, {**fact, "object": "a canoe", "confidence": 0.5}],
        "kg_query": [{"entity": "mira"}, {"entity": "mira", "limit": 1}, {"entity": "Mirra"}],
        "kg_invalidate": [{**fact, "object": "ship 1"}],
        "kg_supersede": [{**fact, "old_object": "ship 2", "new_object": "ship 9"}],
        "kg_timeline": [{}, {"entity": "mira", "limit": 1}, {"entity": "nobody"}],
        "kg_stats": [{}],
        "diary_write": [{"agent_name": "Mate", "entry": "We landed."}],
        "diary_read": [{"agent_name": "Mate", "last_n": 1}, {"agent_name": "Clerk"}, {"agent_name": "nobody"}],
        "get_taxonomy": [{}, {"wing": "nowhere"}],
        "wake_up": [{}, {"agent_name": "Mate", "max_tokens": 50}, {"wing": "nowhere"}],
        "status": [{}],
        "reconnect": [{}],
        "import_path": [{"paths": [notes], "dry_run": True}, {"paths": [notes, f"{notes}/none"]}, {"paths": [notes]}],
        "history": [{}, {"limit": 1}],
        "list_wings": [{}, {"limit": 1}],
        "list_rooms": [{}, {"wing": "Sea"}],
        "get_drawer": [{"drawer_id": filled.ids["long"], "max_tokens": 100}, {"drawer_id": filled.ids["rich"]}],
        "move_drawers": [
            {"wing": "Sea", "to_wing": "Ocean"},
            {"drawer_ids": [filled.ids["short"], UNKNOWN], "to_room": "shelf"},
        ],
        "rename_wing": [
            {"wing": "Sea", "new_name": "Land"},
            {"wing": "Spare", "new_name": "Spare parts", "dry_run": False},
        ],
        "rename_room": [{"wing": "Sea", "room": "log", "new_name": "book", "dry_run": False}],
        "undo_move": [{"move_id": filled.moves[0]}],
        "create_tunnel": [{**filled.ends, "label": "once more"}],
        "list_tunnels": [{}, {"limit": 1}],
        "find_tunnels": [{}, {"limit": 1}],
        "follow_tunnels": [{"wing": "Land", "room": "log"}, {"wing": "Land", "room": "log", "limit": 1}],
        "traverse": [{"start_room": "log", "wing": "Land"}, {"start_room": "log", "wing": "Land", "limit": 1}],
        "graph_stats": [{}],
        "kg_path": [{"source": "mira", "target": "ship 1"}, {"source": "Mirra", "target": "ship 1"}],
        "delete_tunnel": [{"tunnel_id": filled.tunnel}],
        "delete_by_source": [{"source_file": "log.md"}, {"source_file": "log.md", "dry_run": False}],
        "delete_drawer": [{"drawer_id": filled.ids["long"]}],
    }


REFUSALS: dict[str, list[dict[str, Any]]] = {
    "search": [{}, {"query": ""}, {"query": "x", "limit": 500}, {"question": "x"}],
    "get_drawers": [{"drawer_ids": []}, {"drawer_ids": ["x"]}],
    "list_drawers": [{"cursor": "x"}],
    "update_drawer": [{"drawer_id": UNKNOWN, "room": "x"}],
    "delete_drawers": [{}],
    "checkpoint": [{"items": [{"wing": "x"}]}],
    "kg_invalidate": [{"subject": "x", "predicate": "y", "object": "z"}],
    "import_path": [{"paths": ["/etc"]}, {"paths": ["notes"]}],
    "history": [{"session": 9999}],
}
"""What some tools refuse in ways of their own; every tool refuses an argument that it does not know."""


def test_every_answer_fits_its_published_schema(filled: FilledPalace) -> None:
    asked = calls(filled)
    assert asked.keys() == filled.schemas.keys(), "a tool without calls: say here how its answers differ"
    for tool, each in asked.items():
        seen = set().union(*(filled.ask(tool, arguments) for arguments in each))
        rare = {"error", "hint", "warnings", "near_duplicate_of", "truncated"}
        assert seen | rare >= filled.schemas[tool]["properties"].keys(), f"{tool} declares what it never answers"


def test_every_refusal_fits_the_schema_of_its_tool(filled: FilledPalace) -> None:
    for tool in filled.schemas:
        for arguments in ({"no such argument": 1}, *REFUSALS.get(tool, ())):
            shown = filled.ask(tool, arguments, refused=True)
            assert set(shown) == {"error"}
            assert {"code", "message", "argument", "hint", "retryable"} <= set(shown["error"])


def test_no_schema_requires_anything_and_lists_say_of_what_they_are(filled: FilledPalace) -> None:
    for tool, schema in filled.schemas.items():
        assert "required" not in schema, tool
        for name, each in schema["properties"].items():
            assert ("items" in each) is ("array" in each.get("type", ())), (tool, name)
