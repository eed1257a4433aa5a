"""Instants read and shown; time zones, which there are, and where their days begin."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, UTC_ZONE, Calendar, Edge, Zone, machine_zone, read_zone
from mempalace_mcp.core.config import load_settings
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


ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # put its clocks forward at midnight
    "America/Havana",  # puts them back at one, so that midnight comes twice
    "America/Toronto",  # put them forward half an hour before midnight
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Pacific/Apia",  # skipped a day
    "Australia/Lord_Howe",
    "+14:00",
    "-09:30",
)


@given(st.sampled_from(ZONES), st.dates(date(1900, 1, 1), date(2037, 12, 31)))
def test_a_day_is_what_a_calendar_there_shows(name: str, day: date) -> None:
    """From the first instant on, not one before, and as long as until the next day begins."""
    zone = read_zone(name)
    try:
        start, last, after = (clock.parse(day.isoformat(), "day", edge, zone) for edge in Edge)
    except InvalidArgument:
        assert (name, day) == ("Pacific/Apia", date(2011, 12, 30)), "only this day never was"
        return
    assert last == after - 1
    assert clock.day_of(start, zone) == clock.day_of(last, zone) == day
    assert clock.day_of(start - 1, zone) < day < clock.day_of(after, zone)


@pytest.mark.parametrize(
    ("name", "day", "expected"),
    [
        ("Asia/Tokyo", "2026-05-08", "2026-05-07T15:00:00Z"),
        ("America/New_York", "2026-05-08", "2026-05-08T04:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
        ("America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"),
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"),
    ],
)
def test_days_begin(name: str, day: str, expected: str) -> None:
    assert clock.format_instant(clock.parse(day, "day", zone=read_zone(name))) == expected


@pytest.mark.parametrize(
    ("text", "name", "hours"),
    [
        ("+02:00", "+02:00", 2),
        ("-0930", "-09:30", -9.5),
        ("+14", "+14:00", 14),
        ("+00:00", "UTC", 0),
        ("Z", "UTC", 0),
        ("utc", "UTC", 0),
        ("Etc/UTC", "UTC", 0),
        (" Asia/Tokyo ", "Asia/Tokyo", 9),
        (":Asia/Tokyo", "Asia/Tokyo", 9),
    ],
)
def test_zones_have_names(text: str, name: str, hours: float) -> None:
    zone = read_zone(text)
    assert str(zone) == name
    assert datetime(2026, 1, 1, tzinfo=zone.rules).utcoffset() == timedelta(hours=hours)
    assert zone == Zone(name, UTC)


@pytest.mark.parametrize(
    "text",
    ["Mars/Base", "../../../etc/passwd", "/etc/localtime", "Europe", "x" * 5000, "+25:00", "+02:75", "a\0b", "UTC+2"],
)
def test_a_wrong_zone_is_told_of_and_the_machine_counts(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"\+02:00"):
        read_zone(text)
    with caplog.at_level(logging.WARNING):
        settings = load_settings({"PALACE_TIMEZONE": text, "TZ": "Asia/Tokyo"}, "/nowhere")
    assert settings.zone == machine_zone()
    assert "PALACE_TIMEZONE" in caplog.text


def test_the_setting_goes_before_the_variable_of_the_system() -> None:
    assert (
        load_settings({"PALACE_TIMEZONE": "Europe/Berlin", "TZ": "Asia/Tokyo"}, "/nowhere").zone.name == "Europe/Berlin"
    )
    assert load_settings({"TZ": "Asia/Tokyo"}, "/nowhere").zone.name == "Asia/Tokyo"
    assert load_settings({}, "/nowhere").zone == load_settings({"PALACE_TIMEZONE": "machine"}, "/nowhere").zone


def test_without_files_of_the_system_zones_are_known() -> None:
    """As on a slim image, where only the package has them."""
    code = "from mempalace_mcp.core.clock import read_zone; print(read_zone('Europe/Berlin'))"
    environment = {**os.environ, "PYTHONTZPATH": ""}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "Europe/Berlin"


def test_without_any_zones_a_name_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "tzdata").mkdir()
    (tmp_path / "tzdata" / "__init__.py").touch()
    code = "from mempalace_mcp.core.clock import read_zone; print(read_zone('+01:00')); read_zone('Europe/Berlin')"
    environment = {**os.environ, "PYTHONTZPATH": "", "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=False)
    assert run.stdout.strip() == "+01:00"
    assert "the package tzdata" in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="TZ has another form there")
def test_the_clock_of_the_system_is_a_zone() -> None:
    """Where no file says which zone it is. POSIX systems are told by TZ."""
    code = """
from datetime import UTC, date, datetime
from mempalace_mcp.core.clock import SystemClock, Zone
zone = Zone("here", SystemClock())
for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 1, 1), date(1, 1, 1), date(9999, 12, 31)):
    try:
        start = zone.start_of(day)
    except OverflowError:
        print("overflow")
    else:
        print(start.isoformat(), start.astimezone(zone.rules).date().isoformat())
"""
    environment = {**os.environ, "TZ": "Europe/Berlin"}
    told = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).splitlines()
    assert told[:3] == [
        "2026-03-28T23:00:00+00:00 2026-03-29",
        "2026-10-24T22:00:00+00:00 2026-10-25",
        "2025-12-31T23:00:00+00:00 2026-01-01",
    ]
    assert len(told) == 5


def test_the_machine_has_a_zone() -> None:
    zone = machine_zone()
    assert zone.name
    assert zone.start_of(date(2026, 5, 8)).tzinfo is UTC
    assert UTC_ZONE.rules is UTC


def test_offsets_and_names_agree() -> None:
    day = date(2026, 1, 15)
    assert Zone("x", timezone(timedelta(hours=1))).start_of(day) == Zone("y", ZoneInfo("Europe/Berlin")).start_of(day)
