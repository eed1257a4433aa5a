"""Recall across languages by each model, in this process: `python -m benchmarks.languages [--each]`.

`data/languages.json` has a hundred notes, each in three of eight languages, and two questions about each. They are
filed three times: each palace has every note once, in one of its languages. So a question is asked among notes in all
eight languages, and notes in its own language, about other things, are in its way. R@k is the share of the questions
whose note is among the first k drawers of the palace's own search.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported, as in the server

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.runtime.app import open_app

DATA = Path(__file__).with_name("data") / "languages.json"
CUTOFFS = (1, 5, 10)
VERSIONS = 3


@dataclass(frozen=True, slots=True)
class Note:
    """A note, its text by language, and a question about it by language."""

    id: str
    texts: dict[str, str]
    questions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A question in one language about a note in another: at which place the note was found, None beyond the last."""

    question: str
    text: str
    place: int | None


def read_notes() -> list[Note]:
    """The notes of the test set."""
    return [Note(**note) for note in json.loads(DATA.read_text(encoding="utf-8"))["notes"]]


def ask(notes: Sequence[Note], model: str) -> list[Answer]:
    """File the notes in each version, and ask all questions."""
    return [answer for version in range(VERSIONS) for answer in _ask_version(notes, model, version)]


def _ask_version(notes: Sequence[Note], model: str, version: int) -> Iterator[Answer]:
    languages = {note.id: sorted(note.texts)[version] for note in notes}
    with (
        tempfile.TemporaryDirectory() as folder,
        open_app(load_settings({"PALACE_MODEL": model}, folder)) as app,
    ):
        app.start()
        app.embedder.wait()
        for note in notes:
            app.palace.add_drawer("notes", note.id, note.texts[languages[note.id]])
        app.wait_until_indexed()
        for note in notes:
            for language, question in note.questions.items():
                found = [hit.drawer.room for hit in app.palace.search(question, limit=max(CUTOFFS)).hits]
                yield Answer(language, languages[note.id], found.index(note.id) if note.id in found else None)


def recall(answers: Sequence[Answer]) -> str:
    """The share of the questions whose note was found, at the cutoffs, in percent."""
    shares = [sum(each.place is not None and each.place < k for each in answers) / len(answers) for k in CUTOFFS]
    return " / ".join(f"{100 * share:5.1f}" for share in shares)


def grouped(answers: Sequence[Answer], group: Callable[[Answer], str]) -> Iterator[tuple[str, list[Answer]]]:
    """The answers by groups, in the order of their names."""
    for name in sorted({group(each) for each in answers}):
        yield name, [each for each in answers if group(each) == name]


GROUPS: dict[str, Callable[[Answer], str]] = {
    "all": lambda each: "across languages" if each.question != each.text else "within a language",
    "question in": lambda each: each.question,
    "text in": lambda each: each.text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", action="store_true", help="tell the recall of each pair of languages too")
    options = parser.parse_args()
    notes = read_notes()
    groups = GROUPS | ({"pair": lambda each: f"{each.question} -> {each.text}"} if options.each else {})
    for model in MODELS:
        answers = ask(notes, model)
        print(f"{model}: {len(answers)} questions; R@{', '.join(map(str, CUTOFFS))}")
        for kind, group in groups.items():
            for name, of in grouped(answers, group):
                print(f"  {kind:12} {name:18} {len(of):4}   {recall(of)}", flush=True)


if __name__ == "__main__":
    main()
