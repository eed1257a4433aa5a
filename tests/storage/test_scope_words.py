"""What a question's words could earn, and which of them stand nearly everywhere in what is searched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage import scope_words
from mempalace_mcp.storage.query_terms import without_words
from tests.storage.drawer_support import EVERY, Cabinet, cabinet

pytestmark = pytest.mark.usefixtures("each_store")

HALF = 0.5
TALK = DrawerFilter(wing="talk")


@pytest.fixture
def palace(each_store: None) -> Iterator[Cabinet]:
    """In the wing Talk everybody names Ottokar; in the wing Work nobody does, and there is five times as much of it."""
    with cabinet() as palace:
        palace.file_all(
            [f"Ottokar: said thing number{n}{' about kites' if n % 4 == 0 else ''}" for n in range(40)], "Talk"
        )
        palace.file_all([f"A note on subject{n} and the kites" for n in range(200)], "Work")
        yield palace


def frequent(palace: Cabinet, query: str, filter: DrawerFilter = EVERY, share: float = HALF) -> set[str]:
    return set(palace.lexicon.frequent_words(palace.connection, query, filter, share))


def test_what_is_frequent_depends_on_what_is_searched(palace: Cabinet) -> None:
    question = "Which kites does Ottokar's brother fly?"
    assert frequent(palace, question) == {"kites"}
    assert frequent(palace, question, TALK) == {"ottokar"}
    assert frequent(palace, question, DrawerFilter(wing="nowhere")) == set()


def test_a_question_of_nothing_but_frequent_words_keeps_them(palace: Cabinet) -> None:
    assert frequent(palace, "what does Ottokar say?", TALK) == {"ottokar"}
    assert frequent(palace, "what does Ottokar do?", TALK) == set()


def test_of_few_passages_nothing_is_said(palace: Cabinet) -> None:
    palace.file_all([f"tulips {n}" for n in range(scope_words.LEAST_SAMPLE - 1)], "New")
    new = DrawerFilter(wing="new")
    assert frequent(palace, "red tulips", new) == set()
    palace.file_all([f"more tulips {n}" for n in range(10)], "New")
    assert frequent(palace, "red tulips", new) == {"tulips"}


def test_the_sample_follows_what_is_filed(palace: Cabinet) -> None:
    assert frequent(palace, "does Ottokar skate?", TALK) == {"ottokar"}
    palace.file_all([f"Marta: said other{n}" for n in range(400)], "Talk")
    assert frequent(palace, "does Ottokar skate with Marta?", TALK) == {"marta"}


def test_what_lies_in_the_trash_counts_no_more(palace: Cabinet) -> None:
    ids = palace.file_all([f"Wilma: {n}" for n in range(30)], "Trash")
    palace.delete(*ids)
    assert frequent(palace, "red Wilma", DrawerFilter(wing="trash")) == set()


@pytest.mark.parametrize(
    ("text", "words", "left"),
    [
        ("What is Ottokar's brother called?", {"ottokar"}, "What is  brother called?"),
        ("Ottokar’s kites, OTTOKAR!", {"ottokar"}, " kites, !"),
        ("Où est José?", {"jose"}, "Où est ?"),
        ("the ottokars stay", {"ottokar"}, "the ottokars stay"),
        ("nothing to leave out", set(), "nothing to leave out"),
    ],
)
def test_words_are_left_out_as_wholes(text: str, words: set[str], left: str) -> None:
    assert without_words(text, words) == left


def test_a_question_could_earn_the_weight_of_its_words(palace: Cabinet) -> None:
    def possible(query: str) -> float:
        return palace.lexicon.weigh(palace.connection, query, 10, EVERY).possible

    palace.file("A quokka, among the kites")
    rare, common, absent = possible("quokka"), possible("kites"), possible("xylophone")
    assert common < rare < absent
    assert possible("quokka xylophone") == pytest.approx(rare + absent)
    assert possible("?!") == 0.0
    (best,) = palace.lexicon.weigh(palace.connection, "quokka", 1, EVERY).bm25.values()
    assert best == pytest.approx(rare, rel=0.5)


def test_what_is_no_word_of_the_question_as_it_stands_adds_nothing_if_it_occurs_nowhere(palace: Cabinet) -> None:
    def possible(query: str) -> float:
        return palace.lexicon.weigh(palace.connection, query, 10, EVERY).possible

    assert possible("sword-fish") == pytest.approx(possible("sword fish"))
    assert possible("東京で食べた") == 0.0
