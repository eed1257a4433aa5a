"""Text for terminals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.cli import output


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")


def test_columns_line_up_whatever_the_script() -> None:
    told = output.table(("wing", "drawers"), [("宮殿", 7), ("Café", 12), ("Cafe\u0301", 100), ("a\x1b[2Jb", 1)])
    assert [output.columns(line) for line in told.splitlines()] == [len("a [2Jb  drawers")] * 5
    assert "\x1b" not in told


@pytest.mark.parametrize("word", ["plain words ", "長い一行の日本語テキスト。", "x" * 300, "e\u0301" * 200, "🚀 "])
def test_passages_keep_within_the_terminal(word: str) -> None:
    told = output.passage(word * 60).splitlines()
    assert len(told) == 4
    assert all(output.columns(line) <= 40 for line in told)
    assert told[-1].endswith(" …")
    assert all(line.startswith("   ") for line in told)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"])), st.integers(1, 60))
def test_a_passage_that_fits_loses_nothing(text: str, lines: int) -> None:
    told = output.passage(text, lines=1000)
    assert "".join(told.split()) == "".join(text.split())


def test_a_passage_does_not_command_the_terminal() -> None:
    assert output.passage("red \x1b[31malert\x07 \x9b2J") == "   red [31malert 2J"


@pytest.mark.parametrize(("number", "shown"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1200, "1,200 files")])
def test_nouns_agree(number: int, shown: str) -> None:
    assert output.count(number, "file") == shown


def test_progress_without_a_known_end_counts() -> None:
    assert output.Progress("migrating").line(1200, None, 2.0) == "migrating 1,200 · 600/s"
    assert "50/100 · 25/s, 2.0 s left" in output.Progress("embedding").line(50, 100, 2.0)
