"""The estimate of tokens bounds what real tokenizers count; what fits in a budget is not cut within a character.

`token_counts.json` holds texts and what five public tokenizers make of them, counted once with their own programs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.token_estimate import estimate_tokens, fitting

COUNTS = json.loads((Path(__file__).parent / "token_counts.json").read_text(encoding="utf-8"))
MARGIN = 1.2
"""The largest real count may be so many times the estimate."""
WASTE = 2.0
"""The estimate may be so many times the largest real count."""


@pytest.mark.parametrize("kind", COUNTS)
def test_the_estimate_bounds_every_tokenizer_and_not_by_much(kind: str) -> None:
    largest = max(COUNTS[kind]["counts"].values())
    estimate = estimate_tokens(COUNTS[kind]["text"])
    assert largest <= MARGIN * estimate
    assert estimate <= WASTE * largest


@pytest.mark.parametrize("kind", COUNTS)
def test_what_fits_costs_no_more_and_nearly_as_much(kind: str) -> None:
    text = COUNTS[kind]["text"] * 3
    for tokens in (1, 7, 40, 80):
        length = fitting(text, tokens)
        assert estimate_tokens(text[:length]) <= tokens
        assert estimate_tokens(text[: length + 40]) > tokens


def test_nothing_costs_nothing() -> None:
    assert (estimate_tokens(""), fitting("", 5), fitting("abc", 0)) == (0, 0, 0)
    assert estimate_tokens("a") == 1


@pytest.mark.parametrize("character", ["e\u0301", "👩‍💻", "👍🏽", "🇩🇪", "\r\n", "✈\ufe0f", "👨‍👩‍👧‍👦"])
def test_what_readers_see_as_one_character_is_not_cut(character: str) -> None:
    text = character * 30
    for tokens in range(60):
        assert fitting(text, tokens) % len(character) == 0


def test_identifiers_cost_more_than_words_of_the_same_length() -> None:
    assert estimate_tokens("TideTableService" * 10) * 1.5 < estimate_tokens("0f1E2d3C4b5A6978" * 10)


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 50))
def test_more_text_never_costs_less_and_what_fits_is_a_beginning(first: str, second: str, tokens: int) -> None:
    assert estimate_tokens(first + second) * 2 + 2 >= estimate_tokens(first)
    length = fitting(first, tokens)
    assert 0 <= length <= len(first)
    assert estimate_tokens(first[:length]) <= tokens + 1


@given(st.text(max_size=200))
def test_no_byte_is_estimated_at_more_than_two_tokens(written: str) -> None:
    assert estimate_tokens(written) <= 2 * len(written.encode("utf-8", "surrogatepass"))
