"""Chunks cover a text, overlap, end where people would end them, and take linear time whatever the text is."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.model import Span
from mempalace_mcp.palace.chunking import LONGEST, OVERLAP, TARGET, between_characters, fenced_blocks, split

WORDS = st.sampled_from(
    (
        *("a", "ferry", "AUTH-4127", "\n", "\n\n", "\r\n", " ", ". ", "Anna: ", "- ", "> ", "# ", "```\n", "~~~", "。"),
        *(
            "会議",
            "привет ",
            "e\u0301",
            "👩\u200d👩\u200d👧",
            "👍\U0001f3fd",
            "\u200d",
            "\u00a0",
            "\t",
            "\ud83d",
            "\udc00",
        ),
        *("\0", "x" * 100, " " * 40),
    )
)
TEXTS = st.lists(st.tuples(WORDS, st.integers(1, 40)), max_size=20).map(lambda parts: "".join(w * n for w, n in parts))

SENTENCE = "The keeper climbed all of the steps and lit the lamp before the fog came in. "
MEBIBYTE = 2**20


def cost(text: str) -> int:
    return len(text) + 3 * len(re.findall("[\u0370-\u1fff\u2070-\U0010ffff]", text))


@given(TEXTS)
@example("a" * 67 + "Anna: " * 90 + " " * 920 + "AUTH-4127" * 9)
@settings(max_examples=100, deadline=None)
def test_every_text_is_covered_in_order_by_chunks_of_bounded_size(content: str) -> None:
    spans = split(content)
    covered = 0
    previous = Span(-1, 0)
    for span in spans:
        assert previous.start < span.start < span.stop
        assert previous.stop < span.stop
        assert not content[covered : span.start].strip(), "text between two chunks is in none"
        assert not content[span.start].isspace()
        assert not content[span.stop - 1].isspace()
        assert cost(content[span.start : span.stop]) <= LONGEST
        covered = span.stop
        previous = span
    assert not content[covered:].strip()


@given(TEXTS)
@example("文字。\ufe00" * 200)
@settings(max_examples=100, deadline=None)
def test_no_character_is_split_from_its_marks(content: str) -> None:
    for position in {edge for span in split(content) for edge in (span.start, span.stop)}:
        around = content[max(0, position - 1) : position + 1]
        if len(around) < 2 or around[0].isspace() or around[1].isspace():
            continue
        if not _is_long_cluster(content, position):
            assert around[1] != "\u200d", repr(around)
            assert around[0] != "\u200d", repr(around)
            assert not unicodedata.category(around[1]).startswith("M"), repr(around)
            assert not "\udc00" <= around[1] <= "\udfff", repr(around)


def _is_long_cluster(content: str, position: int) -> bool:
    """Does the sequence around the position go on for so long that it has to be cut somewhere?"""
    return between_characters(content, position) == position and between_characters(content, position + 1) != position


@given(st.text(alphabet="ab \n.", max_size=LONGEST))
def test_a_short_text_is_one_chunk_and_a_blank_one_none(content: str) -> None:
    stripped = content.strip()
    start = content.find(stripped)
    assert split(content) == ([Span(start, start + len(stripped))] if stripped else [])


def test_neighbours_overlap_by_about_the_overlap() -> None:
    content = SENTENCE * 200
    spans = split(content)
    assert len(spans) > 10
    for before, after in pairwise(spans):
        assert OVERLAP // 2 <= before.stop - after.start <= OVERLAP
    lengths = [span.stop - span.start for span in spans[:-1]]
    assert all(0.75 * TARGET <= length <= LONGEST for length in lengths)


@pytest.mark.parametrize(
    ("boundary", "filler"),
    [
        ("\n\nA new paragraph begins here", "word " * 30 + "end. "),
        ("\nAnna: I would rather take the night crossing", "word " * 30 + "end. "),
        ("\n- the next item of the list", "word " * 30 + "end. "),
        ("\n> a quotation", "word " * 30 + "end. "),
        ("\n## Rolling back", "word " * 30 + "end.\n\n"),
        (". Another sentence begins", "word " * 160),
        ("。次の文", "文字" * 80),
        (" ", "x" * 160),
    ],
)
def test_a_chunk_ends_at_the_best_boundary_near_its_target(boundary: str, filler: str) -> None:
    limit = TARGET if cost(filler) == len(filler) else TARGET // 4
    head = (filler * 20)[: limit - 40].rstrip()
    content = head + boundary + (" " + filler) * 20
    first = split(content)[0]
    expected = len(head) + (1 if boundary[0] in ".。" else 0)
    assert first == Span(0, expected), content[first.stop - 20 : first.stop + 20]


def test_a_block_of_code_stays_whole_when_it_fits() -> None:
    block = "```python\n" + "value = compute(value)\n\n" * 28 + "```"
    assert 600 < len(block) <= TARGET
    for before in range(0, 1400, 37):
        content = (SENTENCE * 30)[:before] + "\n" + block + "\n" + SENTENCE * 20
        start = content.index(block)
        assert any(span.start <= start and start + len(block) <= span.stop for span in split(content)), before


def test_a_block_of_code_that_does_not_fit_is_split_at_its_lines() -> None:
    content = "```\n" + "total += amount_of(passenger)\n" * 200 + "```\n"
    for span in split(content)[:-1]:
        assert content[span.stop] == "\n"
        assert content[span.start - 1 : span.start] in ("", "\n")


def test_fences_close_with_their_own_kind_only() -> None:
    content = "````\n```\n~~~\n````\ntext ```inline``` text\n```not `a` fence\n~~~ ruby\n# comment\n"
    blocks = [content[block.start : block.stop] for block in fenced_blocks(content)]
    assert blocks == ["````\n```\n~~~\n````", "~~~ ruby\n# comment\n"]


def test_a_script_that_costs_the_embedder_more_gets_shorter_chunks() -> None:
    japanese = "会議は木曜日に変更されました。" * 100
    assert max(span.stop - span.start for span in split(japanese)) <= LONGEST // 4
    mixed = SENTENCE * 10 + japanese + SENTENCE * 10
    assert all(cost(mixed[span.start : span.stop]) <= LONGEST for span in split(mixed))


@pytest.mark.parametrize(
    "content",
    [
        "a" * MEBIBYTE,
        "a" + "\n" * MEBIBYTE + "b",
        "a" + " " * MEBIBYTE + "b",
        "foo.bar(baz, qux); " * 55_000,
        "`" * MEBIBYTE,
        "```\n" * (MEBIBYTE // 4),
        "```x\n" * (MEBIBYTE // 5),
        ("\n" + " " * 9) * 100_000 + "end",
        "# " * (MEBIBYTE // 2),
        "\n#" * (MEBIBYTE // 2),
        "." * MEBIBYTE,
        "?)))" * (MEBIBYTE // 4),
        ("A" * 39 + "\n") * 25_000,
        "e\u0301" * (MEBIBYTE // 2),
        "\u0301" * MEBIBYTE,
        "👩‍👩‍👧‍👦" * 100_000,
        "会" * 350_000,
        "\r\n" * (MEBIBYTE // 2) + "x",
    ],
    ids=lambda content: repr(content[:6]),
)
def test_the_worst_texts_take_linear_time(content: str) -> None:
    spans = split(content)
    assert len(spans) <= 2 + cost(content.strip()) / (TARGET - OVERLAP - 100)
    assert spans[-1].stop == len(content.rstrip())
