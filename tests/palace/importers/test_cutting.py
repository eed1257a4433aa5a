"""Parts of a text are together the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.importers.cutting import cut


@given(st.text(alphabet="ab \n\r\u0301会", max_size=300), st.integers(1, 40))
def test_cut_parts_together_are_the_text(text: str, longest: int) -> None:
    parts = list(cut(text, longest))
    assert "".join(parts) == text
    assert all(0 < len(part) <= longest + 32 for part in parts)
