"""By what the records of transcripts are known, whatever file holds them and wherever it stands there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from mempalace_mcp.palace.importers.turns import Turn

_BYTES = 8  # what an integer of the database holds
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def hashed(*texts: str) -> int:
    """A number that is always the same for the same texts."""
    state = blake2b(digest_size=_BYTES)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(data))
        state.update(data)
    return int.from_bytes(state.digest(), "big", signed=True)


def storable(text: str) -> str:
    """The text with U+FFFD for each character that the palace cannot keep."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True, slots=True)
class Named:
    """A turn with the name of its record; `changed` if the file has told another text under that name before. If it was
    queued, it had the name `before` as long as no record said it."""

    turn: Turn
    name: str
    changed: bool
    before: str | None = None


@dataclass(slots=True)
class Identities:
    """Names the records of one file as they come, and knows them again. It holds two numbers for each."""

    names: set[int] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    alike: Counter[int] = field(default_factory=Counter)

    def admit(self, turn: Turn, queued: Turn | None = None) -> Named | None:
        """The turn with its name, or None if the file has told just this before."""
        turn = replace(turn, text=storable(turn.text))
        name = self._name(turn)
        known, told = hashed(name), hashed(name, turn.text)
        if told in self.texts:
            return None
        changed = known in self.names
        self.names.add(known)
        self.texts.add(told)
        return Named(turn, name, changed, self._name(queued) if queued is not None else None)

    def _name(self, turn: Turn) -> str:
        """The record's own id, else who said what and when; of those that are alike, which of them it is."""
        if turn.record is not None:
            return f"record:{turn.record}"
        told_at = str(turn.said_at) if turn.said_at is not None else f"session:{turn.session_id or ''}"
        alike = hashed(turn.speaker, told_at, turn.text)
        self.alike[alike] += 1
        return f"said:{alike}:{self.alike[alike]}"
