"""What people and the assistant say in sessions of Codex, in whatever form it is kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.palace.importers.conversations import Speaker, Turn, hashed, storable
from mempalace_mcp.palace.importers.typed_text import typed_text

NAME = "codex"
NAMED = re.compile(
    r"rollout-[0-9T-]{19}-(?P<id>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:_(?P<part>[0-9a-fA-F-]{36}))?\.jsonl"
)
"""The name of a session's file. After the user went back, a session goes on in another file, which names the part."""

_REQUEST = re.compile(
    r"\A# (?:Context from my IDE setup|Files mentioned by the user):.*?^## My request for Codex:[ \t]*\n?", re.S | re.M
)
"""What editor extensions put in front of a prompt."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message as one of the forms has it. Items have an id."""

    speaker: Speaker
    text: str
    time: Instant | None
    item: str | None = None


def named_turns(said: Iterable[Said], owner: str) -> Iterator[Turn]:
    """Turns, each known by what it says, what it answers, and of several that are alike, which one it is."""
    after = ""
    alike: Counter[int] = Counter()
    for each in said:
        name = hashed(each.speaker, storable(each.text), storable(after))
        alike[name] += 1
        metadata = {"message_id": each.item} if each.item else {}
        message_id = f"said:{name}:{alike[name]}"
        yield Turn(each.speaker, each.text, each.time, message_id=message_id, session_id=owner, metadata=metadata)
        if each.speaker is not Speaker.TOOL:
            after = each.text


def typed(said: Said) -> str:
    """The text without what the program or an editor wrote in it."""
    if said.speaker is not Speaker.USER:
        return said.text.strip()
    return typed_text(_REQUEST.sub("", said.text.strip(), count=1))
