"""What every client is asked to do, and what the server itself says to the same, without any client between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.clients.servers import server

Json = dict[str, Any]

WING, ROOM = "shipyard", "dry dock"
TEXT = "Pump 4 of the dry dock loses pressure when the tide turns; spare seals lie in locker 12."
RESOURCE = "palace://shipyard/dry%20dock"
FACT = {"subject": "pump 4", "predicate": "stands in", "object": "the dry dock"}
QUESTION = "why does the pump lose pressure"

CALLS: Sequence[tuple[str, Json]] = (
    ("add_drawer", {"wing": WING, "room": ROOM, "content": TEXT, "metadata": {"shift": 2}}),
    ("search", {"query": QUESTION, "wing": WING, "limit": 3}),
    ("list_drawers", {"wing": WING, "limit": 5}),
    ("get_taxonomy", {}),
    ("check_duplicate", {"content": TEXT}),
    ("kg_add", {**FACT, "valid_from": "2026-01-01"}),
    ("kg_query", {"entity": "pump 4", "as_of": "2026-06-01"}),
    ("kg_timeline", {"entity": "pump 4"}),
    ("kg_stats", {}),
    ("diary_write", {"agent_name": "prober", "entry": "Looked at the pumps."}),
    ("diary_read", {"agent_name": "prober"}),
    (
        "checkpoint",
        {
            "items": [
                {"wing": WING, "room": "slip", "content": "The slip is free until Friday.", "source_file": "plan"}
            ],
            "facts": [{"subject": "the slip", "predicate": "is", "object": "free"}],
        },
    ),
    ("delete_drawers", {"wing": WING, "dry_run": True}),
    ("wake_up", {"wing": WING}),
)
REFUSALS: Sequence[tuple[str, Json]] = (
    ("search", {"query": " "}),
    ("kg_query", {"entity": "pump 4", "as_of": "the day before yesterday"}),
    ("kg_invalidate", {"subject": "nobody", "predicate": "knows", "object": "this"}),
    ("kg_supersede", {"subject": "nobody", "predicate": "knows", "old_object": "this", "new_object": "that"}),
    ("list_drawers", {"cursor": "not from here"}),
    ("restore_drawers", {"drawer_ids": ["no such drawer"]}),
    ("checkpoint", {"items": [{"wing": WING, "room": " ", "content": "A text."}]}),
)
PROMPTS: Sequence[tuple[str, dict[str, str]]] = (
    ("recall", {"query": QUESTION, "wing": WING}),
    ("wake_up", {"wing": WING}),
    ("save_session", {"wing": WING}),
)
MAY_BE_ABSENT = frozenset({"pending", "degraded"})
"""Keys of an answer that depend on whether the vector of a text is there yet."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the server says on the wire."""

    tools: Mapping[str, Json]
    keys: Mapping[str, frozenset[str]]
    refusals: Mapping[str, tuple[str, ...]]
    prompts: Mapping[str, tuple[str, ...]]

    @classmethod
    def ask(cls, program: Sequence[str]) -> Reference:
        """Do the whole job by plain HTTP, on a palace of its own."""
        with server(program, "http") as asked:
            tools = {tool["name"]: tool["inputSchema"] for tool in asked.ask("tools/list")["tools"]}
            answers = {tool: _called(asked.ask, tool, given, False) for tool, given in CALLS}
            refused = {tool: _called(asked.ask, tool, given, True)["error"] for tool, given in REFUSALS}
            prompts = {name: asked.ask("prompts/get", name=name, arguments=given) for name, given in PROMPTS}
        return cls(
            tools,
            {tool: frozenset(answer) - MAY_BE_ABSENT for tool, answer in answers.items()},
            {tool: tuple(each[key] for key in ("message", "hint") if key in each) for tool, each in refused.items()},
            {name: tuple(_lines(each)) for name, each in prompts.items()},
        )


def _called(ask: Any, tool: str, arguments: Json, refused: bool) -> Json:
    result: Json = ask("tools/call", name=tool, arguments=arguments)
    if result["isError"] is not refused:
        raise RuntimeError(f"{tool} answers {result}")
    content: Json = result["structuredContent"]
    return content


def _lines(prompt: Json) -> list[str]:
    """The lines of a prompt that are the same on every palace: those without figures, which may be times or ids."""
    contents = [message["content"] for message in prompt["messages"]]
    texts = [each["text"] if each["type"] == "text" else each["resource"]["text"] for each in contents]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not any(character.isdigit() for character in line)]


def job(connect: Json, patience: float) -> Json:
    """What a driver is told."""
    return {
        "connect": connect,
        "calls": [{"label": tool, "tool": tool, "arguments": given} for tool, given in CALLS],
        "refusals": [{"label": tool, "tool": tool, "arguments": given} for tool, given in REFUSALS],
        "resource": RESOURCE,
        "prompts": [{"name": name, "arguments": given} for name, given in PROMPTS],
        "after_restart": {"tool": "kg_query", "arguments": {"entity": "pump 4"}},
        "patience": patience,
    }
