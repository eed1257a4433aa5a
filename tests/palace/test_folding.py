"""Near copies among hits are one hit."""

from __future__ import annotations

import pytest

from mempalace_mcp.core.model import Drawer, Hit
from mempalace_mcp.palace.folding import fold

STORY = (
    "The harbour master closed the eastern quay on Sunday evening because the crane that unloads the timber ships had"
    " begun to lean towards the water, and nobody could say whether the old piles beneath it would hold until the"
    " engineers from the capital arrived with their instruments and their drawings."
)


def hit(content: str, drawer_id: str, wing: str = "Work", passage: str | None = None) -> Hit:
    drawer = Drawer(
        drawer_id=drawer_id, wing=wing, room="r", content=content, added_by=None, created_at=0, updated_at=0,
        deleted_at=None, version=1, metadata={},
    )  # fmt: skip
    return Hit(drawer, passage or content, 0, 0.5, 0.5, 0.5, 0.5)


def folded(*contents: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.drawer.drawer_id, each.copies) for each in fold([hit(c, str(n)) for n, c in enumerate(contents)])]


def test_the_best_one_stays_and_names_its_copies() -> None:
    marked = STORY.replace("because", "BECAUSE").replace(",", ";")
    retold = STORY.replace("timber", "wood")
    assert folded(STORY, "Something else.", marked, retold) == [("0", ("2", "3")), ("1", ())]


@pytest.mark.parametrize(
    "other",
    [
        STORY.replace("Sunday evening", "Sunday evening at 7"),
        STORY[: len(STORY) // 2],
        "The engineers from the capital arrived with their drawings; the piles beneath the quay hold.",
        " ".join(sorted(STORY.split())),
    ],
)
def test_what_says_something_else_is_no_copy(other: str) -> None:
    assert folded(STORY, other) == [("0", ()), ("1", ())]


def test_texts_that_differ_in_a_number_are_told_apart() -> None:
    page = STORY + " See page {}."
    assert folded(page.format(7), page.format(8), page.format(7)) == [("0", ("2",)), ("1", ())]


def test_the_same_text_in_two_wings_is_two_hits() -> None:
    hits = [hit(STORY, "a", "Work"), hit(STORY, "b", "Home"), hit(STORY, "c", "WORK")]
    assert [(each.drawer.drawer_id, each.copies) for each in fold(hits)] == [("a", ("c",)), ("b", ())]


def test_a_long_text_that_quotes_another_is_no_copy_of_it() -> None:
    hits = [hit(STORY, "a"), hit(STORY + " And so on." * 40, "b", passage=STORY)]
    assert [each.drawer.drawer_id for each in fold(hits)] == ["a", "b"]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    said = "東京の港で毎朝五時に魚の競りが始まり、見学者は前の晩から並ばなければならない。" * 2
    assert folded(
        said, said.replace("、", " "), said.replace("東京", "大阪").replace("魚", "花").replace("朝", "晩")
    ) == [
        ("0", ("1",)),
        ("2", ()),
    ]
