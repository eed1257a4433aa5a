"""Notes are dated by what they say or by their name, in the forms of the usual programs; nothing is guessed."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers.dates import DateFault, read_date

NAMELESS = "/vault/trip.md"


def at(shown: str) -> clock.Instant:
    return clock.parse(shown, "date")


def instant_of(reading: str | DateFault | None) -> clock.Instant:
    assert isinstance(reading, str), reading
    return at(reading)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2023-11-07", "2023-11-07"),
        ("2023-11-07 08:05:30 +0530", "2023-11-07T02:35:30Z"),
        ("2023-11-07T08:05", "2023-11-07T08:05:00"),
        ("2023-11-07T08:05:30.123456789Z", "2023-11-07T08:05:30.123456Z"),
        ("2023-11-07T08:05:30-03:00[America/Bahia]", "2023-11-07T11:05:30Z"),
        ("2023-11-07 08:05:30 UTC+02:00", "2023-11-07T06:05:30Z"),
        ("'2023-11-07 08:05'", "2023-11-07T08:05:00"),
        ("!!timestamp 2023-11-07", "2023-11-07"),
        ("2023-1-7", "2023-01-07"),
        ("2023/11/07 08:05", "2023-11-07T08:05:00"),
        ("2023.11.07", "2023-11-07"),
        ("2023年11月7日", "2023-11-07"),
        ("20231107", "2023-11-07"),
        ("20231107T080530Z", "2023-11-07T08:05:30Z"),
        ("202311070805", "2023-11-07T08:05:00"),
        ("7.11.2023", "2023-11-07"),
        ("07.11.2023, 8:05 Uhr", "2023-11-07T08:05:00"),
        ("27/11/2023", "2023-11-27"),
        ("11/27/2023", "2023-11-27"),
        ("11/11/2023", "2023-11-11"),
        ("27-11-2023", "2023-11-27"),
        ("November 7, 2023", "2023-11-07"),
        ("November 7, 2023 8:05 PM", "2023-11-07T20:05:00"),
        ("November 7, 2023 8:05 PM (GMT+2)", "2023-11-07T18:05:00Z"),
        ("Nov 07 2023", "2023-11-07"),
        ("7 November 2023", "2023-11-07"),
        ("07-Nov-2023", "2023-11-07"),
        ("Tuesday, November 7th 2023, 12:05:30 am", "2023-11-07T00:05:30"),
        ("Tue, 7 Nov 2023 08:05:30 +0200", "2023-11-07T06:05:30Z"),
        ("Tue Nov  7 08:05:30 2023", "2023-11-07T08:05:30"),
        ("Tue Nov  7 08:05:30 CET 2023", "2023-11-07T07:05:30Z"),
        ("2023-11-07, Tuesday", "2023-11-07"),
        ("Dienstag, 7. November 2023", "2023-11-07"),
        ("mardi 7 février 2023", "2023-02-07"),
        ("7 de mayo de 2023", "2023-05-07"),
        ("<2023-11-07 Tue>", "2023-11-07"),
        ("[2023-11-07 Di 08:05]", "2023-11-07T08:05:00"),
        ("<2023-11-07 Tue 08:05-09:30>", "2023-11-07T08:05:00"),
        ("<2023-11-07 Tue>--<2023-11-09 Thu>", "2023-11-07"),
        ("<2023-11-07 Tue +1w>", "2023-11-07"),
        ("[[2023-11-07]]", "2023-11-07"),
        ('"[[journal/2023-11-07|Tuesday]]"', "2023-11-07"),
        ("[[Nov 7th, 2023]]", "2023-11-07"),
        ("[2023-11-07](../journal/2023-11-07.md)", "2023-11-07"),
        ('["2023-11-07", "2023-11-08"]', "2023-11-07"),
        ("2023-11-07 → 2023-11-09", "2023-11-07"),
        ("2023-11-07/2023-11-09", "2023-11-07"),
        ("1699344330", "2023-11-07T08:05:30Z"),
        ("1699344330123", "2023-11-07T08:05:30.123Z"),
        ("2023-11", "2023-11-01"),
        ("November 2023", "2023-11-01"),
        ("2023", "2023-01-01"),
    ],
)
def test_dates_are_read_as_programs_and_people_write_them(written: str, shown: str) -> None:
    assert instant_of(read_date(written)) == at(shown)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("03/04/2024", DateFault.AMBIGUOUS),
        ("11-12-2024 08:00", DateFault.AMBIGUOUS),
        ("2023-02-29", DateFault.IMPOSSIBLE),
        ("31.04.2024", DateFault.IMPOSSIBLE),
        ("14/13/2024", DateFault.IMPOSSIBLE),
        ("February 30, 2024", DateFault.IMPOSSIBLE),
        ("2024-05-03 24:30", DateFault.IMPOSSIBLE),
        ("2024-05-03 13:00 pm", DateFault.IMPOSSIBLE),
        ("0000-00-00", DateFault.IMPOSSIBLE),
        ("5/3/24", DateFault.UNKNOWN),
        ("2024-05-03 08:00 IST", DateFault.UNKNOWN),
        ("2024-05-03 or so", DateFault.UNKNOWN),
        ("next week", DateFault.UNKNOWN),
        ("{{date:YYYY-MM-DD}}", DateFault.UNKNOWN),
        ("12345", DateFault.UNKNOWN),
        ("2024-05-03 " * 40, DateFault.UNKNOWN),
        ("", None),
        ("''", None),
        ("false", None),
        ("~", None),
    ],
)
def test_what_is_no_date_or_not_certain_is_not_taken(written: str, fault: DateFault | None) -> None:
    assert read_date(written) is fault


@given(st.text(max_size=80))
@settings(deadline=None)
def test_any_text_is_read_or_has_a_fault(written: str) -> None:
    assert isinstance(read_date(written), str | DateFault | None)


FORMS = st.sampled_from(
    ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%B %d, %Y", "%d %b %Y", "%a, %d %b %Y", "%Y%m%d", "%A, %B %d %Y"]
)


@given(st.dates(date(1000, 1, 1), date(9999, 12, 30)), FORMS)
@settings(deadline=None)
def test_every_day_is_read_in_every_form(moment: date, form: str) -> None:
    assert read_date(moment.strftime(form)) == moment.isoformat()


@given(st.datetimes().filter(lambda moment: 1000 <= moment.year < 9999), st.integers(-720, 720))
@settings(deadline=None)
def test_times_are_read_with_their_offset(moment: datetime, minutes: int) -> None:
    shown = f"{moment:%Y-%m-%d %H:%M:%S}"
    sign, rest = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    written = f"{shown} {sign}{rest[0]:02}{rest[1]:02}"
    utc = at(f"{shown.replace(' ', 'T')}Z")
    assert instant_of(read_date(written)) == utc - 60 * minutes * clock.SECOND
