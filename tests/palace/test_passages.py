"""The passage that is shown of a text, around the chunk that answers."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.blobs import find_blobs
from mempalace_mcp.core.model import Span
from mempalace_mcp.palace.chunking import LONGEST, cost_of, split, splits_character
from mempalace_mcp.palace.passages import MOST, SHORT, passage_around

PIECES = st.sampled_from(
    [
        "The ferry leaves at noon. ",
        "Is it late? ",
        "no end here ",
        "\n",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "# Tides\n",
        "- a rope\n",
        "Ines: Hold on! ",
        "潮が満ちる。",
        "e\u0301. \u0301",
        "👩‍👩‍👧",
        "word" * 40,
        " " * 30,
        "```\ncode()\n```\n",
        base64.b64encode(random.Random(7).randbytes(600)).decode(),
        base64.encodebytes(random.Random(8).randbytes(600)).decode(),
    ]
)
TEXTS = st.builds(lambda pieces, times: "".join(pieces) * times, st.lists(PIECES, max_size=60), st.integers(1, 4))


def shown(content: str, span: Span) -> str:
    return content[span.start : span.stop]


@given(TEXTS)
@settings(max_examples=60)
@example("e\u0301. \u0301" * 400)
@example("潮が満ちる。" * 200)
@example("\r\n".join(["A line."] * 400))
def test_a_passage_holds_its_chunk_and_is_bounded(content: str) -> None:
    blobs = find_blobs(content)
    for chunk in split(content):
        passage = passage_around(content, chunk)
        assert 0 <= passage.start <= chunk.start < chunk.stop <= passage.stop <= len(content)
        assert cost_of(shown(content, passage)) <= max(MOST, LONGEST)
        assert passage.start == chunk.start or not splits_character(content, passage.start)
        assert passage.stop == chunk.stop or not splits_character(content, passage.stop)
        assert not any(blob.start < passage.stop and passage.start < blob.stop for blob in blobs)


@given(TEXTS, st.integers(0), st.integers(0))
@settings(max_examples=60)
def test_any_part_of_a_text_may_be_the_chunk(content: str, first: int, second: int) -> None:
    """An earlier version cut chunks elsewhere, and through blobs."""
    start, stop = sorted((first % (len(content) + 1), second % (len(content) + 1)))
    passage = passage_around(content, Span(start, stop))
    assert 0 <= passage.start <= start <= stop <= passage.stop <= len(content)
    assert cost_of(shown(content, passage)) <= max(MOST, cost_of(content[start:stop]))


PROSE = [f"Pilot {number} waits for the tide at the outer harbour wall." for number in range(100)]


def test_a_text_that_is_hardly_longer_than_its_chunk_is_shown_whole() -> None:
    content = " ".join(PROSE)[: LONGEST + 150] + "\n"
    assert len(split(content)) == 2
    assert {passage_around(content, chunk) for chunk in split(content)} == {Span(0, len(content))}


def test_a_sentence_is_completed() -> None:
    content = " ".join(PROSE)
    start, stop = content.index("waits", 2000), content.index("harbour", 2800)
    passage = shown(content, passage_around(content, Span(start, stop)))
    assert passage.startswith("Pilot ")
    assert passage.endswith(" wall.")
    assert len(passage) < stop - start + 2 * len(PROSE[0])


def test_a_paragraph_is_completed_if_it_is_short_enough() -> None:
    paragraphs = [" ".join(PROSE[first : first + 15]) for first in range(0, 90, 15)]
    content = "\n\n".join(paragraphs)
    middle = content.index(PROSE[33])
    assert shown(content, passage_around(content, Span(middle, middle + 600))) == paragraphs[2]


def test_what_stands_beside_a_short_chunk_is_shown() -> None:
    content = "\n\n".join(PROSE)
    start = content.index(PROSE[50])
    passage = shown(content, passage_around(content, Span(start, start + len(PROSE[50]))))
    assert SHORT <= len(passage) < SHORT + 2 * len(PROSE[0])
    assert PROSE[49] in passage
    assert PROSE[51] in passage
    last = passage_around(content, Span(len(content) - len(PROSE[-1]), len(content)))
    assert SHORT <= len(shown(content, last)) < SHORT + 2 * len(PROSE[0])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_do_where_no_sentence_ends(newline: str) -> None:
    lines = [f"2031-04-{number % 28:02} tide gauge reads {number} cm at the wall" for number in range(200)]
    content = newline.join(lines)
    start, stop = content.index("reads 70 cm"), content.index("cm at the wall", content.index("reads 84 cm"))
    assert shown(content, passage_around(content, Span(start, stop))) == newline.join(lines[70:85])


def test_a_blob_beside_a_chunk_stays_out() -> None:
    blob = base64.b64encode(random.Random(3).randbytes(900)).decode()
    content = f"{blob}\nThe lock opens at dawn. It closes at dusk.\n{blob}\n{' '.join(PROSE)}"
    (chunk,) = [each for each in split(content) if "dawn" in shown(content, each)]
    assert shown(content, passage_around(content, chunk)) == "The lock opens at dawn. It closes at dusk."
