"""Identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import ids


@given(st.integers(0, 2**54), st.integers(0, 2**54))
def test_identifiers_sort_by_their_time(earlier: int, later: int) -> None:
    one, other = ids.new_id(ids.DRAWER, earlier), ids.new_id(ids.DRAWER, later)
    assert one != other
    assert earlier == later or (one < other) == (earlier < later)
    assert ids.is_id(ids.DRAWER, one)
    assert not ids.is_id(ids.FACT, one)


@pytest.mark.parametrize("text", ["", "d_", "d_" + "u" * 24, "d_" + "0" * 25, "drawer", "d_" + "0" * 23 + "\n"])
def test_other_text_is_no_identifier(text: str) -> None:
    assert not ids.is_id(ids.DRAWER, text)
