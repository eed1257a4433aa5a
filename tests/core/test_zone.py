"""Time zones: which there are, and where their days begin."""

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
from mempalace_mcp.core.clock import UTC_ZONE, Edge, Zone, machine_zone, read_zone
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import InvalidArgument

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
