"""Questions with known evidence, read from a file in the LoCoMo format.

The file is a list of conversations. Each has `session_N` (lists of turns), `session_N_date_time`, and `qa` with the
references of the turns that hold the evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True, slots=True)
class Text:
    """A text to file: its name, the session it belongs to, and what it says."""

    name: str
    session: str
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the names of the sessions and of the turns that hold the evidence."""

    text: str
    sessions: frozenset[str]
    turns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Its sessions, its turns, and the questions about it."""

    name: str
    sessions: Sequence[Text]
    turns: Sequence[Text]
    questions: Sequence[Question]


def read_conversations(file: Path, chosen: Sequence[int] = ()) -> list[Conversation]:
    """The conversations by number; all of them if none is chosen."""
    entries = list(enumerate(json.loads(file.read_text(encoding="utf-8"))))
    numbers = set(chosen) or range(len(entries))
    return [_conversation(f"conversation {number}", entry) for number, entry in entries if number in numbers]


def _conversation(name: str, entry: dict[str, Any]) -> Conversation:
    content = entry["conversation"]
    keys = sorted((key for key in content if re.fullmatch(r"session_\d+", key) and content[key]), key=_number)
    sessions = [_session(key, content) for key in keys]
    turns = [_turn(key, turn) for key in keys for turn in content[key]]
    return Conversation(name, sessions, turns, list(_questions(entry["qa"], turns)))


def _questions(asked: list[dict[str, Any]], turns: Sequence[Text]) -> Iterator[Question]:
    """Those whose evidence is among the turns."""
    session_of = {turn.name: turn.session for turn in turns}
    for entry in asked:
        found = [turn for turn in TURN.findall(" ".join(map(str, entry.get("evidence") or []))) if turn in session_of]
        if found:
            yield Question(str(entry["question"]), frozenset(map(session_of.__getitem__, found)), frozenset(found))


def _number(key: str) -> int:
    return int(key.removeprefix("session_"))


def _session(key: str, content: dict[str, Any]) -> Text:
    date = f"Date: {content.get(f'{key}_date_time', 'unknown')}"
    return Text(key, key, "\n".join([date, *map(_line, content[key])]))


def _turn(key: str, turn: dict[str, Any]) -> Text:
    return Text(str(turn.get("dia_id")), key, _line(turn))


def _line(turn: dict[str, Any]) -> str:
    picture = f" [shares a picture: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
    return f"{turn['speaker']}: {turn.get('text') or turn.get('clean_text') or ''}{picture}"
