"""A palace in PostgreSQL answers as one in SQLite does: the same drawers, in the same order, with the same scores."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Drawer, SearchMode
from mempalace_mcp.runtime.app import App, open_app
from tests.palace.support import opened
from tests.postgres_server import fresh_schema, text_of

pytestmark = pytest.mark.long

VARIABLE = "PALACE_TEST_CONVERSATIONS"
CONVERSATIONS = os.environ.get(VARIABLE)
"""A file of conversations as LoCoMo has them; without it made-up texts alone are compared."""
TOP = 10
NEARLY = 2e-4
WORDS = """
The ferry|Our neighbour|Ada|The harbour master|Der Leuchtturm|La profesora|Мария|灯台守|A crew of four
repaired|lost|sold|dreamt of|liest gern in|encontró|купила|を見た|could not open
the old engine|a letter from Lisbon|ticket AUTH-{n}|rope and anchor|das Fenster|el mercado|старую лодку|霧の日の港
in March 2026.|yesterday, at noon.|before the storm!|as the log says: exit code {n}|for good|。|im Mai, deck_{n}.py.
"""
PARTS = [line.split("|") for line in WORDS.strip().splitlines()]
"""What sentences are made of, in their order."""


def made_up(dice: random.Random, count: int) -> list[dict[str, Any]]:
    """Drawers: short and long texts in several languages, some of them much alike, with and without file and date."""
    drawers = []
    for number in range(count):
        sentences = [
            " ".join(map(dice.choice, PARTS)).replace("{n}", str(dice.randrange(40)))
            for _ in range(dice.choice((1, 1, 2, 5, 30)))
        ]
        drawers.append(
            {
                "wing": dice.choice(("harbour", "home", "Archiv")),
                "room": dice.choice(("notes", "letters")),
                "content": " ".join(sentences),
                "source_file": dice.choice((None, f"log-{number // 7}.md")),
                "occurred_at": dice.choice((None, f"2026-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}")),
            }
        )
    return drawers


def asked(dice: random.Random, drawers: Sequence[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Questions: words and pieces of texts, identifiers and their beginnings, times, with filters."""
    for _ in range(count):
        words = dice.choice(drawers)["content"].split()
        start = dice.randrange(len(words))
        number = dice.randrange(40)
        yield {
            "query": dice.choice(
                (
                    " ".join(words[start : start + dice.randint(1, 8)]),
                    " ".join(dice.sample(words, min(3, len(words)))),
                    f"who mended something, and what about AUTH-{number}?",
                    f"deck_{number}",
                    "what happened in March 2026",
                    "the latest about bread",
                    "灯台",
                )
            ),
            "mode": dice.choice(list(SearchMode)),
            **dice.choice(({}, {}, {"wing": "home"}, {"since": "2026-04-01"}, {"source_file": "log-3.md"})),
        }


def stored(path: Path, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The turns and the questions of the first conversation in a file."""
    conversation = json.loads(path.read_text("utf-8"))[0]
    sessions = conversation["conversation"]
    names = [name for name in sessions if name.startswith("session_") and isinstance(sessions[name], list)]
    turns = [
        {"wing": "talk", "room": name, "content": f"{turn['speaker']}: {turn['text']}", "source_file": name}
        for name in names
        for turn in sessions[name]
    ]
    questions = [{"query": each["question"], "mode": SearchMode.HYBRID} for each in conversation["qa"]]
    return turns[:count], questions[:count]


@pytest.fixture
def both(postgres: str, tmp_path: Path) -> Iterator[tuple[App, App]]:
    """A palace in SQLite and one in PostgreSQL."""
    with ExitStack() as stack:
        embedded = stack.enter_context(opened(tmp_path / "palace"))
        url = stack.enter_context(fresh_schema(postgres))
        settings = replace(load_settings({"PALACE_URL": text_of(url)}), palace=tmp_path / "local")
        shared = stack.enter_context(open_app(settings))
        shared.start()
        assert shared.embedder.wait(30)
        yield embedded, shared


def file(app: App, drawers: Sequence[dict[str, Any]]) -> None:
    """File them, and wait until each has its vectors."""
    for drawer in drawers:
        app.palace.add_drawer(**drawer)
    assert app.indexer.wait_until_idle(120)


def answer(app: App, question: dict[str, Any]) -> list[tuple[float, str]]:
    """The best hits: scores, and what drawer it is. A refusal is an answer, too."""
    try:
        found = app.palace.search(limit=TOP, **question)
    except InvalidArgument as error:
        return [(0.0, error.message)]
    assert found.pending == 0
    return [(round(hit.score, 4), _name(hit.drawer)) for hit in found.hits]


def _name(drawer: Drawer) -> str:
    return f"{drawer.wing}/{drawer.room}/{drawer.source_file}: {drawer.content}"


def assert_alike(both: tuple[App, App], questions: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> None:
    """Every question has one answer. What has nearly one score may stand in any order, and at the end be left out."""
    for question in questions:
        embedded, shared = (answer(app, question) for app in both)
        assert [score for score, _ in embedded] == pytest.approx([score for score, _ in shared], abs=NEARLY), question
        for one, other in ((embedded, shared), (shared, embedded)):
            scores = {name: score for score, name in other}
            for score, name in one:
                if score > one[-1][0] + 2 * NEARLY:
                    assert scores.get(name) == pytest.approx(score, abs=NEARLY), (question, name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_made_up_texts(both: tuple[App, App], seed: int) -> None:
    dice = random.Random(seed)
    drawers = made_up(dice, 120)
    for app in both:
        file(app, drawers)
    assert_alike(both, asked(dice, drawers, 80))
    for app in both:
        ids = [drawer.drawer_id for drawer in app.palace.list_drawers(limit=100).items]
        app.palace.delete_drawers(drawer_ids=ids[::3])
        app.palace.update_drawer(ids[1], content="The ferry repaired itself.")
        assert app.indexer.wait_until_idle(60)
    assert_alike(both, asked(dice, drawers, 40))


@pytest.mark.timeout(600)
@pytest.mark.skipif(not CONVERSATIONS, reason=f"{VARIABLE} names no file of conversations")
def test_conversations(both: tuple[App, App]) -> None:
    turns, questions = stored(Path(CONVERSATIONS or ""), 500)
    for app in both:
        file(app, turns)
    assert_alike(both, questions)
