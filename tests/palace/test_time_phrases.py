"""The times that questions and arguments name, and what only looks like one."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import UTC_ZONE, read_zone
from mempalace_mcp.palace.time_phrases import read_day, read_period, read_times

TODAY = date(2026, 11, 29)  # a Sunday
NOW = clock.parse("2026-11-29T10:00", "now")

Range = tuple[str, str]


def likely(question: str) -> list[Range]:
    """The times that a question surely means: first day, and the first one after it."""
    periods = [each for each in read_times(question, NOW, UTC_ZONE).periods if each.share == 1]
    return [(_day(each.start), _day(each.stop)) for each in periods]


def _day(instant: int) -> str:
    return clock.day_of(instant, UTC_ZONE).isoformat()


def one_day(day: str) -> Range:
    return day, (date.fromisoformat(day) + timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    ("question", "day"),
    [
        ("what did we do on 3 May 2024", "2024-05-03"),
        ("the 3rd of May, 2024: what broke?", "2024-05-03"),
        ("who called on Friday, May 3rd 2024?", "2024-05-03"),
        ("Notes of 2024-05-03T10:15:00Z", "2024-05-03"),
        ("2024/05/03 standup", "2024-05-03"),
        ("13/5/2024", "2024-05-13"),
        ("am 3. Mai 2024", "2024-05-03"),
        ("Was war am 03.05.2024?", "2024-05-03"),
        ("qu'est-ce qu'on a fait le 1er mai 2023 ?", "2023-05-01"),
        ("¿qué hicimos el 3 de mayo de 2024?", "2024-05-03"),
        ("on July 4", "2026-07-04"),
        ("on December 24", "2025-12-24"),
        ("what broke today?", "2026-11-29"),
        ("what broke yesterday", "2026-11-28"),
        ("the day before yesterday", "2026-11-27"),
        ("was haben wir gestern besprochen", "2026-11-28"),
        ("qu'a-t-on dit hier", "2026-11-28"),
        ("lo que dijo ayer", "2026-11-28"),
        ("who called last night", "2026-11-28"),
        ("two days before May 3 2024", "2024-05-01"),
        ("a week after 2024-05-03", "2024-05-10"),
        ("the day after Christmas 2024", "2024-12-27"),
        ("the Friday before 22 October 2023", "2023-10-20"),
        ("three days ago", "2026-11-26"),
        ("vor drei Tagen", "2026-11-26"),
        ("il y a 3 jours", "2026-11-26"),
        ("hace tres días", "2026-11-26"),
        ("last Friday", "2026-11-27"),
        ("on Sunday", "2026-11-29"),
        ("last Sunday", "2026-11-22"),
        ("next Friday", "2026-12-04"),
        ("lundi dernier", "2026-11-23"),
        ("the last Monday of August 2023", "2023-08-28"),
        ("the first Friday in May 2024", "2024-05-03"),
        ("29 February 2024", "2024-02-29"),
        ("since when? the first of May 2024", "2024-05-01"),
    ],
)
def test_days(question: str, day: str) -> None:
    assert likely(question) == [one_day(day)]


@pytest.mark.parametrize(
    ("question", "first", "after"),
    [
        ("What happened in March?", "2026-03-01", "2026-04-01"),
        ("and in december", "2025-12-01", "2026-01-01"),
        ("What did April say in May?", "2026-05-01", "2026-06-01"),
        ("plans of May 2023", "2023-05-01", "2023-06-01"),
        ("plans of may '23", "2023-05-01", "2023-06-01"),
        ("decisions from 2024-05", "2024-05-01", "2024-06-01"),
        ("im Mai 2023", "2023-05-01", "2023-06-01"),
        ("en août 2023", "2023-08-01", "2023-09-01"),
        ("en aou\u0302t 2023", "2023-08-01", "2023-09-01"),
        ("en enero de 2024", "2024-01-01", "2024-02-01"),
        ("What changed in 2023?", "2023-01-01", "2024-01-01"),
        ("early March 2023", "2023-03-01", "2023-03-11"),
        ("late last year", "2025-09-01", "2026-01-01"),
        ("Mitte März 2024", "2024-03-11", "2024-03-21"),
        ("spring 2024", "2024-03-01", "2024-06-01"),
        ("winter 2023", "2023-12-01", "2024-03-01"),
        ("last summer", "2026-06-01", "2026-09-01"),
        ("Q3 2024", "2024-07-01", "2024-10-01"),
        ("the second quarter of 2024", "2024-04-01", "2024-07-01"),
        ("first week of May 2024", "2024-05-01", "2024-05-08"),
        ("2024-W05", "2024-01-29", "2024-02-05"),
        ("week 5 of 2024", "2024-01-29", "2024-02-05"),
        ("KW 5/2024", "2024-01-29", "2024-02-05"),
        ("H2 2024", "2024-07-01", "2025-01-01"),
        ("invoices of 05/2024", "2024-05-01", "2024-06-01"),
        ("what broke over the weekend?", "2026-11-28", "2026-11-30"),
        ("en el año 2023", "2023-01-01", "2024-01-01"),
        ("3 & 4 May 2024", "2024-05-03", "2024-05-05"),
        ("What did we do last week?", "2026-11-16", "2026-11-23"),
        ("this week", "2026-11-23", "2026-11-30"),
        ("letzte Woche", "2026-11-16", "2026-11-23"),
        ("la semaine dernière", "2026-11-16", "2026-11-23"),
        ("la semana pasada", "2026-11-16", "2026-11-23"),
        ("last weekend", "2026-11-21", "2026-11-23"),
        ("last month", "2026-10-01", "2026-11-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("in the last 3 days", "2026-11-26", "2026-11-30"),
        ("over the past two months", "2026-09-29", "2026-11-30"),
        ("over Christmas", "2025-12-24", "2025-12-27"),
        ("between May 3 and May 9", "2026-05-03", "2026-05-10"),
        ("May 3-9, 2024", "2024-05-03", "2024-05-10"),
        ("3 to 9 May 2024", "2024-05-03", "2024-05-10"),
        ("from November to March 2024", "2023-11-01", "2024-04-01"),
        ("from November 2023 to March", "2023-11-01", "2024-04-01"),
        ("May 3 – June 5, 2023", "2023-05-03", "2023-06-06"),
        ("zwischen März und Mai 2024", "2024-03-01", "2024-06-01"),
        ("since June", "2026-06-01", "2026-11-30"),
        ("seit 2025", "2025-01-01", "2026-11-30"),
        ("after 3 May 2024", "2024-05-04", "2026-11-30"),
        ("until May 2023", "0001-01-01", "2023-06-01"),
        ("before 2023", "0001-01-01", "2023-01-01"),
        ("the week of May 3, 2024", "2024-04-29", "2024-05-06"),
        ("the week before 8 May 2024", "2024-05-01", "2024-05-08"),
    ],
)
def test_spans(question: str, first: str, after: str) -> None:
    assert likely(question) == [(first, after)]


@pytest.mark.parametrize(
    "question",
    [
        "What did May say about the second one?",
        "May I ask who may have called?",
        "Could we march on Rome and may it rain?",
        "It may 3 people join",
        "section 2 may fail, chapter 12 may not",
        "What is in April's room, and what did June buy?",
        "Is August a good name for Mar?",
        "In the long run, who won the second round?",
        "When was Sun acquired, and who sat on Sat solvers?",
        "Is Python 3.11 on port 8080 better than 10/10?",
        "rated 10/10, 24/7, 1/2 cup at 10:30",
        "ticket 2024, RFC 2045, error 1999 and 1984 by Orwell",
        "CVE-2024-1234 and PROJ-2024-05 in v2024.05.03",
        "192.168.1.12 and 1.2.2024.5 and build/2024-05-03",
        "the spring config of Spring Boot, and who may fall",
        "a été fait; l'un des mars",
        "Was ist hier passiert?",
        "What does the last day of school mean, and this time?",
        "every Monday is Black Friday, says Monday.com",
        "week 12 of the course, page 13/2024 of 2024/13",
        "Who is Mr. May, and what is in Augustus' note?",
        "year over year, quarter by quarter, half of the users",
        "the week has seven days, the year twelve months",
        "the 31 April in words, and May 32",
        "2024-13-45 and 45/45/2024",
        "sept heures et demie",
        "",
    ],
)
def test_what_is_no_time(question: str) -> None:
    assert likely(question) == []


def test_distances_are_meant_roughly() -> None:
    for phrase, day, slack in (("two weeks ago", "2026-11-15", 3), ("a few weeks ago", "2026-11-08", 6)):
        (period,) = read_times(f"what did we try {phrase}?", NOW, UTC_ZONE).periods
        assert (_day(period.start), period.slack // clock.DAY) == (day, slack)


def test_a_date_in_either_order_is_meant_both_ways_by_a_question_and_refused_as_an_argument() -> None:
    assert likely("5/8/2024") == [one_day("2024-08-05"), one_day("2024-05-08")]
    with pytest.raises(ValueError, match="either order"):
        read_period("5/8/2024", NOW, UTC_ZONE)


def test_without_a_year_the_latest_is_meant_before_all_others() -> None:
    periods = read_times("in March", NOW, UTC_ZONE).periods
    shares = {clock.day_of(each.start, UTC_ZONE).year: each.share for each in periods}
    assert shares[2026] == 1
    assert {share for year, share in shares.items() if year != 2026} == {0.5}
    assert {2027, 2025, 2020} < shares.keys()


@pytest.mark.parametrize(
    ("question", "are_all"),
    [
        ("What did we do last week?", True),
        ("yesterday", True),
        ("everything that happened between 3 May 2024 and 2024-05-09", True),
        ("was haben wir gestern gemacht", True),
        ("qu'avons-nous fait la semaine dernière ?", True),
        ("¿qué hicimos ayer?", True),
        ("What did we decide about the harbour last week?", False),
        ("which port did we open yesterday", False),
        ("ticket 17 of last week", False),
        ("what did we do", False),
    ],
)
def test_whether_a_question_asks_for_nothing_but_the_time(question: str, are_all: bool) -> None:
    assert read_times(question, NOW, UTC_ZONE).are_all is are_all


@pytest.mark.parametrize(
    ("argument", "start"),
    [
        ("last week", "2026-11-16T00:00:00Z"),
        ("3 days ago", "2026-11-26T00:00:00Z"),
        ("two weeks ago", "2026-11-15T00:00:00Z"),
        ("2 hours ago", "2026-11-29T08:00:00Z"),
        ("March 2024", "2024-03-01T00:00:00Z"),
        ("may", "2026-05-01T00:00:00Z"),
        ("Monday", "2026-11-23T00:00:00Z"),
        ("the end of last month", "2026-10-21T08:00:00Z"),
        ("the beginning of the year", "2026-01-01T00:00:00Z"),
        ("am 3. Mai", "2026-05-03T00:00:00Z"),
        ("l'année dernière", "2025-01-01T00:00:00Z"),
        ("ayer", "2026-11-28T00:00:00Z"),
        ("hier", "2026-11-28T00:00:00Z"),
    ],
)
def test_arguments(argument: str, start: str) -> None:
    period = read_period(argument, NOW, UTC_ZONE)
    assert period is not None
    assert clock.day_of(period.start, UTC_ZONE).isoformat() == start[:10]


@pytest.mark.parametrize(
    "argument", ["soon", "a while ago", "last", "the harbour in March", "May and June or July", "", "31 April"]
)
def test_what_is_no_argument(argument: str) -> None:
    assert read_period(argument, NOW, UTC_ZONE) is None


DAYS = st.dates(date(1971, 1, 1), date(2049, 12, 30))
FORMATS = (
    "{0:%Y-%m-%d}", "{0:%Y/%m/%d}", "{0:%d.%m.%Y}", "{0:%B} {0.day}, {0.year}", "{0.day} {0:%B} {0.year}",
    "{0:%A}, {0.day} {0:%b} {0.year}", "the {0.day}th of {0:%B} {0.year}", "{0:%b} {0.day} {0.year}",
)  # fmt: skip


@given(DAYS, st.sampled_from(FORMATS), st.sampled_from(["", "what was said on ", "Date: 1:56 pm on ", "# "]))
def test_written_dates_are_read_back(day: date, shape: str, before: str) -> None:
    line = before + shape.format(day)
    assert likely(line) == [one_day(day.isoformat())]
    assert read_day(line, UTC_ZONE) == clock.parse(day.isoformat(), "day")


@example(date(1995, 1, 1), 1, "Pacific/Kiritimati")
@given(DAYS, st.integers(1, 900), st.sampled_from(["Pacific/Kiritimati", "Europe/Berlin", "-12:00", "UTC"]))
def test_days_are_those_of_the_zone(day: date, ago: int, zone_name: str) -> None:
    zone = read_zone(zone_name)
    # Kiritimati crossed the date line: no clock there has shown the last day of 1994.
    for each in (day, day - timedelta(days=ago)):
        assume(clock.day_of(clock.from_datetime(zone.start_of(each)), zone) == each)
    now = clock.from_datetime(zone.start_of(day)) + 12 * 3600 * clock.SECOND
    (period,) = read_times(f"{ago} days ago", now, zone).periods
    assert clock.day_of(period.start, zone) == day - timedelta(days=ago)
    assert period.stop == clock.from_datetime(zone.start_of(day - timedelta(days=ago - 1)))


WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        "in on the of may March 3 9 2024 2024-05-03 5/8/2024 last next week weeks two ago before since between and to"
        " first Monday - , . ? early mid- Q3 '23 999 years summer Christmas vor Tagen il y a 0 00 31 February 29 W53"
        " 2021-W53 end month hours",
    )
)


@given(st.lists(WORDS, max_size=12), st.integers(clock.FIRST_INSTANT, clock.LAST_INSTANT))
def test_any_words_at_any_time_are_taken(words: list[str], now: int) -> None:
    for period in read_times(" ".join(words), now, UTC_ZONE).periods:
        assert period.start < period.stop
    read_day(" ".join(words), UTC_ZONE)


def test_a_long_question_costs_little() -> None:
    for piece in ("2024 ", "may 3 and ", "1 ", "   ", "the last 3 days before ", "1/1/2024-"):
        assert len(read_times(piece * 10_000, NOW, UTC_ZONE).periods) < 10_000


def test_a_day_that_was_skipped_was_at_no_time() -> None:
    zone = read_zone("Pacific/Kiritimati")
    now = clock.from_datetime(zone.start_of(date(1995, 1, 1)))
    assert read_times("1 day ago", now, zone).periods == ()
