"""Recall of sessions, in this process: for trying changes of chunking, words and ranking quickly.

Takes a file in the LoCoMo format (a list of conversations with `session_N`, `session_N_date_time` and `qa`), files each
session as a drawer and asks every question within its conversation. R@k is the mean share of a question's evidence
sessions among the first k drawers.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.app import open_app

CUTOFFS = (1, 5, 10)
TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True, slots=True)
class Session:
    """One sitting: its text and the references of its turns."""

    name: str
    text: str
    turns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the names of the sessions that hold the evidence."""

    text: str
    gold: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Sessions with their questions."""

    name: str
    sessions: list[Session]
    questions: list[Question]


def read_conversations(file: Path, chosen: list[int]) -> Iterator[Conversation]:
    """The conversations by number; all of them if none is chosen."""
    for number, entry in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        if not chosen or number in chosen:
            yield _conversation(f"conversation {number}", entry["conversation"], entry["qa"])


def _conversation(name: str, content: dict[str, Any], asked: list[dict[str, Any]]) -> Conversation:
    keys = sorted((key for key in content if re.fullmatch(r"session_\d+", key) and content[key]), key=_number)
    sessions = [_session(key, content) for key in keys]
    where = {turn: session.name for session in sessions for turn in session.turns}
    questions = []
    for entry in asked:
        references = TURN.findall(" ".join(map(str, entry.get("evidence") or [])))
        gold = frozenset(where[reference] for reference in references if reference in where)
        if gold:
            questions.append(Question(str(entry["question"]), gold))
    return Conversation(name, sessions, questions)


def _number(key: str) -> int:
    return int(key.removeprefix("session_"))


def _session(key: str, content: dict[str, Any]) -> Session:
    turns = content[key]
    lines = [f"Date: {content.get(f'{key}_date_time', 'unknown')}"]
    for turn in turns:
        picture = f" [shares a picture: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
        lines.append(f"{turn['speaker']}: {turn.get('text') or ''}{picture}")
    return Session(key, "\n".join(lines), frozenset(str(turn.get("dia_id")) for turn in turns))


def recalls(palace: Palace, conversation: Conversation) -> Iterator[tuple[float, ...]]:
    """For each question its recall at the cutoffs."""
    for question in conversation.questions:
        hits = palace.search(question.text, wing=conversation.name, limit=max(CUTOFFS)).hits
        ranked = [str(hit.drawer.source_file) for hit in hits]
        yield tuple(len(question.gold & set(ranked[:cutoff])) / len(question.gold) for cutoff in CUTOFFS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--conversations", default="", help="numbers, for example 0,1")
    parser.add_argument("--palace", help="keep the filled palace here and use it again")
    options = parser.parse_args()
    chosen = [int(number) for number in options.conversations.split(",") if number]
    with tempfile.TemporaryDirectory() as scratch, open_app(load_settings({}, options.palace or scratch)) as app:
        app.start()
        app.embedder.wait()
        results: list[tuple[float, ...]] = []
        for conversation in read_conversations(options.file, chosen):
            for session in conversation.sessions:
                app.palace.add_drawer(conversation.name, "sessions", session.text, source_file=session.name)
            app.wait_until_indexed()
            results += recalls(app.palace, conversation)
    means = [
        f"R@{cutoff} {100 * statistics.fmean(column):.1f}"
        for cutoff, column in zip(CUTOFFS, zip(*results, strict=True), strict=True)
    ]
    print(f"{len(results)} questions: {'  '.join(means)}")


if __name__ == "__main__":
    main()
