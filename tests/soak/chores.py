"""What an agent does in a round: a bit of everything, over and over, on a palace that hardly grows by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NOTES = 20
"""Texts and facts come again after so many rounds, and are recognized."""

PAGE = 5
RECONNECTING, ROUNDS_PER_RECONNECT = 2, 40
"""The first round in which everything is reopened, early in the warm-up since pools then fill anew, and how often."""


@dataclass(frozen=True, slots=True)
class Chore:
    """One call, and the code with which it must be refused if it must."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None


def chore(tool: str, /, **arguments: Any) -> Chore:
    """A call that must succeed."""
    return Chore(tool, arguments)


ERRORS = (
    Chore("search", {"query": "tea", "limit": -1}, "invalid_argument"),
    Chore("add_drawer", {"wing": "w", "room": "r", "content": "NUL \0 in it"}, "invalid_argument"),
    Chore("update_drawer", {"drawer_id": "d_" + "0" * 24, "content": "nobody is there"}, "not_found"),
    Chore("kg_invalidate", {"subject": "nobody", "predicate": "is", "object": "here"}, "not_found"),
    Chore("no_such_tool", {}, "not_found"),
)


def arrival(name: str) -> Chore:
    """The drawer that an agent then changes again and again."""
    return chore("add_drawer", wing=name, room="own", content=f"{name} has just arrived")


def first_fact(name: str) -> Chore:
    """The fact that an agent then replaces again and again; its rounds begin at 1."""
    return chore("kg_add", subject=f"{name} now", predicate="is in", object="round 0")


def chores(name: str, own_drawer: str, number: int) -> Iterator[Chore]:
    """The calls of an agent in its round of that number, each independent of the others' answers."""
    note = number % NOTES
    text = f"{name} note {note}: the ferry leaves from pier {note}, and the tea was Darjeeling number {note * 7919}."
    subject = f"{name} {note}"
    yield chore("add_drawer", wing=name, room="notes", content=text)
    yield chore("checkpoint", items=[{"wing": name, "room": "checkpoints", "content": f"{text} (checked)"}])
    yield chore("update_drawer", drawer_id=own_drawer, content=f"{name} is in round {number} of its life")
    yield chore("delete_drawers", drawer_ids=[own_drawer])
    yield chore("get_drawers", drawer_ids=[own_drawer])
    yield chore("restore_drawers", drawer_ids=[own_drawer])
    yield chore("search", query=f"where does ferry {number} leave from?")
    yield chore("search", query=str(note * 7919), mode="keyword", wing=name)
    yield chore("search", query="hot drinks", mode="semantic", limit=PAGE)
    yield chore("check_duplicate", content=text)
    yield chore("list_drawers", wing=name, limit=PAGE)
    yield chore("kg_add", subject=subject, predicate="drinks", object="tea", valid_from="2026-01-01")
    now, old, new = f"{name} now", f"round {number - 1}", f"round {number}"
    yield chore("kg_supersede", subject=now, predicate="is in", old_object=old, new_object=new)
    yield chore("kg_query", entity=subject, limit=PAGE)
    yield chore("kg_timeline", limit=PAGE)
    yield chore("diary_write", agent_name=name, entry=f"round {number}")
    yield chore("diary_read", agent_name=name, last_n=PAGE)
    yield chore("wake_up", wing=name)
    yield chore("get_taxonomy")
    yield chore("status")
    yield ERRORS[number % len(ERRORS)]
    if number % ROUNDS_PER_RECONNECT == RECONNECTING:
        yield chore("reconnect")
