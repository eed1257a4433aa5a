"""Instants read and shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, Edge
from mempalace_mcp.core.errors import InvalidArgument

MAY_8 = clock.from_datetime(datetime(2026, 5, 8, tzinfo=UTC))


@given(st.integers(clock.from_datetime(datetime(1, 1, 1, tzinfo=UTC)), clock.LAST_INSTANT))
def test_what_is_shown_is_read_back(instant: int) -> None:
    assert clock.parse(clock.show(instant), "when") == instant


@pytest.mark.parametrize(
    ("edge", "expected"), [(Edge.START, MAY_8), (Edge.LAST, MAY_8 + DAY - 1), (Edge.AFTER, MAY_8 + DAY)]
)
def test_a_date_is_its_utc_day(edge: Edge, expected: int) -> None:
    assert clock.parse("2026-05-08", "when", edge) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-08T00:00:00Z",
        "2026-05-08T00:00",
        "2026-05-08 00:00:00",
        "2026-05-08T02:00:00+02:00",
        "2026-05-08T02:00:00+0200",
        "2026-05-08 02:00+02",
        "2026-05-08t00:00:00.000000z",
        "  2026-05-08T00:00:00Z ",
    ],
)
def test_the_same_instant_in_many_forms(text: str) -> None:
    assert clock.parse(text, "when", Edge.LAST) == MAY_8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "2026-5-8",
        "08.05.2026",
        "20260508",
        "2026-W19-5",
        "٢٠٢٦-٠٥-٠٨",
        "2026-05-08T25:00",
        "2026-05-08T00:00:00+99:00",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "9" * 5000,
    ],
)
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        clock.parse(text, "valid_from")
    assert caught.value.argument == "valid_from"
    assert "2026-05-08" in str(caught.value.hint)


def test_the_last_day_has_an_end() -> None:
    assert clock.parse("9999-12-31", "when", Edge.AFTER) == clock.LAST_INSTANT
    assert clock.show(clock.LAST_INSTANT).startswith("9999-12-31T23:59:59.999999")


def test_no_fraction_where_there_is_none() -> None:
    assert clock.show(MAY_8) == "2026-05-08T00:00:00Z"
    assert clock.show(MAY_8 + 5) == "2026-05-08T00:00:00.000005Z"
    assert clock.show_optional(None) is None
