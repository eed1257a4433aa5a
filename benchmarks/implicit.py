"""Questions that share no word with their answers, among texts that do share words with them.

Each line of `data/implicit.tsv` has a question, its answer, and a text that has words of the question and answers
nothing. The project's own documents lie in the same wing.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.conversations import Conversation, Question, Text

FILE = Path(__file__).parent / "data" / "implicit.tsv"
DOCUMENTS = Path(__file__).parents[1] / "docs"


def read_implicit() -> Conversation:
    """The questions as one conversation, whose sessions are the texts."""
    texts: list[Text] = [Text(each.name, each.name, each.read_text("utf-8")) for each in sorted(DOCUMENTS.glob("*.md"))]
    questions: list[Question] = []
    for number, line in enumerate(FILE.read_text("utf-8").splitlines()):
        asked, answer, distractor = line.split("\t")
        texts += [Text(f"answer {number}", "", answer), Text(f"distractor {number}", "", distractor)]
        questions.append(Question(asked, frozenset({f"answer {number}"}), frozenset()))
    return Conversation("implicit", texts, (), questions)
