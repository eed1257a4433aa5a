"""Instants read and shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, Calendar, Edge, read_zone
from mempalace_mcp.core.errors import InvalidArgument

MAY_8 = clock.from_datetime(datetime(2026, 5, 8, tzinfo=UTC))


@given(st.integers(clock.from_datetime(datetime(1, 1, 1, tzinfo=UTC)), clock.LAST_INSTANT))
def test_what_is_shown_is_read_back(instant: int) -> None:
    assert clock.parse(clock.format_instant(instant), "when") == instant


@pytest.mark.parametrize(
    ("edge", "expected"), [(Edge.START, MAY_8), (Edge.LAST, MAY_8 + DAY - 1), (Edge.AFTER, MAY_8 + DAY)]
)
def test_a_date_without_a_zone_is_its_utc_day(edge: Edge, expected: int) -> None:
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
        "2026-05-08 02:00:00 +0200",
        "2026-05-07T19:00:00.000 -05:00",
        "2026-05-08 00:00:00 UTC",
        "2026-05-08T00:00GMT",
        "2026-05-08 00:00 Z",
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
        "now",
        "0000",
        "2026-00",
        "20261",
        "2026-",
        "next week",
        "2026-13-01",
        "2026-02-30",
        "2026-5-8",
        "08.05.2026",
        "20260508",
        "2026-W19-5",
        "٢٠٢٦-٠٥-٠٨",
        "2026-05-08T25:00",
        "2026-05-08 00:00:00 CET",
        "2026-05-08 00:00:00  +0200",
        "2026-05-08 UTC",
        "2026-05-08 +0200",
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
    assert clock.format_instant(clock.LAST_INSTANT).startswith("9999-12-31T23:59:59.999999")


def test_no_fraction_where_there_is_none() -> None:
    assert clock.format_instant(MAY_8) == "2026-05-08T00:00:00Z"
    assert clock.format_instant(MAY_8 + 5) == "2026-05-08T00:00:00.000005Z"
    assert clock.format_optional_instant(None) is None


@pytest.mark.parametrize(
    ("text", "start", "after"),
    [
        ("2024", "2024-01-01", "2025-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2023-12", "2023-12-01", "2024-01-01"),
        ("2024-02-28", "2024-02-28", "2024-02-29"),
        (" 2024-12-31 ", "2024-12-31", "2025-01-01"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York", "-03:30"])
def test_years_and_months_begin_and_end_with_their_days(text: str, start: str, after: str, zone: str) -> None:
    there = read_zone(zone)
    assert clock.parse(text, "when", Edge.START, there) == clock.parse(start, "when", Edge.START, there)
    assert clock.parse(text, "when", Edge.AFTER, there) == clock.parse(after, "when", Edge.START, there)
    assert clock.parse(text, "when", Edge.LAST, there) == clock.parse(after, "when", Edge.START, there) - 1


@pytest.mark.parametrize("text", ["9999", "9999-12"])
def test_the_last_year_and_month_have_an_end(text: str) -> None:
    assert clock.parse(text, "when", Edge.AFTER) == clock.LAST_INSTANT


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_first_and_the_last_day_are_within_what_can_be_shown(zone: str) -> None:
    there = read_zone(zone)
    for text in ("0001-01-01", "9999-12-31"):
        start, after = (clock.parse(text, "when", edge, there) for edge in (Edge.START, Edge.AFTER))
        assert clock.FIRST_INSTANT <= start < after <= clock.LAST_INSTANT
        assert clock.format_instant(start)
        assert clock.format_instant(after)
        assert clock.day_of(start, there)


def test_a_time_without_an_offset_is_of_the_zone() -> None:
    berlin = read_zone("Europe/Berlin")
    assert clock.format_instant(clock.parse("2026-07-01T12:00", "when", zone=berlin)) == "2026-07-01T10:00:00Z"
    assert clock.format_instant(clock.parse("2026-07-01T12:00Z", "when", zone=berlin)) == "2026-07-01T12:00:00Z"


def test_words_are_read_by_the_clock_and_the_zone() -> None:
    noon = clock.parse("2026-03-01T20:00Z", "noon")
    tokyo = Calendar(read_zone("Asia/Tokyo"), lambda: noon)
    assert tokyo.read("now", "when", Edge.AFTER) == noon
    days = {"today": "2026-03-02", "Yesterday": "2026-03-01", " TOMORROW ": "2026-03-03"}
    for word, day in days.items():
        for edge in Edge:
            assert tokyo.read(word, "when", edge) == tokyo.read(day, "when", edge)
    assert tokyo.show_day(noon) == "2026-03-02"
    with pytest.raises(InvalidArgument) as caught:
        tokyo.read("soon", "when")
    for form in ("2026-05-08", "2026-05,", "2026,", "2026-05-08T14:30:00Z", "now", "today", "yesterday", "tomorrow"):
        assert form in str(caught.value.hint)
