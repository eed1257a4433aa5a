"""Names of times: dates, months, weekdays, seasons, `last week`, `three days ago`. Pure.

What has other meanings counts only if what stands around it says that a time is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any, cast

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.palace import time_words as words
from mempalace_mcp.palace.days import (
    Days,
    day_of_month,
    month_of,
    months_of,
    nth_unit,
    nth_weekday,
    occurrence,
    shifted,
    unit_of,
    weekday_from,
    year_of,
)
from mempalace_mcp.palace.time_words import alternatives

LEAD = 48
"""Characters before a name that may say what it means."""


@dataclass(frozen=True, slots=True)
class Named:
    """A time that is named at some characters. `days` are those in a year, which counts only if it is not `dated`.

    `other` is the time that it may mean as well; `slack` is in days.
    """

    begin: int
    end: int
    days: Callable[[int], Days]
    dated: bool = True
    slack: int = 0
    other: Callable[[int], Days] | None = None

    def of(self, year: int) -> Days | None:
        """The days, if there are such in that year."""
        try:
            return self.days(year)
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Text:
    """A text with the day on which it is read. Of a whole argument every name is meant as a time."""

    text: str
    today: date
    is_whole: bool = False

    def before(self, position: int) -> str:
        """A few words before a character."""
        return self.text[max(0, position - LEAD) : position]

    def find(self, patterns: Sequence[Pattern]) -> list[Named]:
        """What the patterns find, in the order of the text; earlier patterns come first."""
        found: list[Named] = []
        for pattern, understand in patterns:
            for match in pattern.finditer(self.text):
                if any(match.start() < each.end and each.begin < match.end() for each in found):
                    continue
                with suppress(ValueError, OverflowError):  # no calendar has such a day
                    if (named := understand(self, match)) is not None:
                        found.append(named)
        return sorted(found, key=lambda each: each.begin)

    def is_meant(self, match: re.Match[str]) -> bool:
        """Does what stands around a name that has other meanings say that it is a time?"""
        if self.is_whole:
            return True
        lead = self.lead(match)
        is_owner = self.text.startswith(("'", "’"), match.end())
        return not is_owner and (lead in words.CUES or (lead in words.LOOSE_CUES and self.ends_with(match)))

    def ends_with(self, match: re.Match[str]) -> bool:
        """Does nothing stand beside a name that would make it something else?"""
        return self.lead(match) not in words.REPEATED and bool(_NOTHING_MORE.match(self.text, match.end()))

    def lead(self, match: re.Match[str]) -> str:
        """The last word before a name."""
        before = _LAST_WORDS.search(self.before(match.start()))
        return before["word"].lower() if before else ""

    def is_part_or_range(self, match: re.Match[str]) -> bool:
        """Is a part of a month or year named, or another month with it?"""
        before = self.before(match.start())
        return bool(PART.search(before) or _RANGE_BEFORE.search(before) or _RANGE_BEHIND.match(self.text, match.end()))


Pattern = tuple[re.Pattern[str], Callable[[Text, re.Match[str]], Named | None]]
"""What a name looks like, and what it means, if it does."""


def _named(match: re.Match[str], days: Callable[[int], Days], year: str | None = None) -> Named:
    """What a match names; its year may be written with two digits, or missing."""
    if year is None:
        return Named(match.start(), match.end(), days, dated=False)
    number = int(year) if len(year) == 4 else 2000 + int(year)
    return Named(match.start(), match.end(), lambda _: days(number))


def _fixed(match: re.Match[str], days: Days, slack: int = 0) -> Named:
    return Named(match.start(), match.end(), lambda _: days, slack=slack)


def _read_iso(text: Text, match: re.Match[str]) -> Named | None:
    return if_possible(_named(match, day_of_month(int(match["month"]), int(match["day"])), match["year"]))


def _read_numeric(text: Text, match: re.Match[str]) -> Named | None:
    """Between dots the day is first; elsewhere both orders are possible where both numbers are months."""
    first, second, year = int(match["first"]), int(match["second"]), match["year"]
    by_day, by_month = (_named(match, day_of_month(*each), year) for each in ((second, first), (first, second)))
    if match["sep"] == "." or first == second:
        return if_possible(by_day)
    possible = [each for each in (by_day, by_month) if if_possible(each)]
    if len(possible) == 2:
        return replace(by_day, other=by_month.days)
    return possible[0] if possible else None


def _read_day_month(text: Text, match: re.Match[str]) -> Named | None:
    month, day = words.MONTHS[match["month"].lower()], int(match["day"])
    is_plain = match["year"] is None and not match["suffix"]
    if is_plain and match["month"] in _VERBS and not (text.is_meant(match) or text.ends_with(match)):
        return None
    return if_possible(_named(match, day_of_month(month, day, int(match["last"] or day)), match["year"]))


def _read_month(text: Text, match: re.Match[str]) -> Named | None:
    name, year = match["month"], match["year"] or match["short"]
    is_weak = len(name) <= 4 or name.lower() in _PEOPLE
    if year is None and is_weak and not (text.is_meant(match) or text.is_part_or_range(match)):
        return None
    return _named(match, partial(month_of, month=words.MONTHS[name.lower()]), year)


def _read_iso_month(text: Text, match: re.Match[str]) -> Named | None:
    return _named(match, partial(month_of, month=int(match["month"])), match["year"])


def _read_iso_week(text: Text, match: re.Match[str]) -> Named | None:
    week = int(match["week"])
    return if_possible(
        _named(match, lambda year: unit_of(words.WEEK, date.fromisocalendar(year, week, 1)), match["year"])
    )


def _read_quarter(text: Text, match: re.Match[str]) -> Named | None:
    quarter, year = int(match["quarter"] or match["behind"]), match["year"] or match["before"]
    if year is None and not text.is_meant(match):
        return None
    return _named(match, partial(months_of, first=3 * quarter - 2, count=3), year)


def _read_half(text: Text, match: re.Match[str]) -> Named | None:
    return _named(match, partial(months_of, first=6 * int(match["half"]) - 5, count=6), match["year"])


def _read_weekend(text: Text, match: re.Match[str]) -> Named | None:
    """`Over the weekend`: the latest that has begun."""
    saturday, sunday = weekday_from(text.today, words.WEEKDAYS["saturday"], 0)
    return _fixed(match, (saturday, sunday + timedelta(days=1)))


def _read_ordinal(text: Text, match: re.Match[str]) -> Named | None:
    """`The first week of May`, `the second half of 2023`, `the last Monday of August`, `the first of May`."""
    nth, unit = words.ORDINALS[key_of(match["nth"])], key_of(match["unit"] or words.DAY)
    year = match["year"] or match["only"]
    within = partial(month_of, month=words.MONTHS[match["month"].lower()]) if match["month"] else year_of
    if unit in words.WEEKDAYS:
        return if_possible(_named(match, partial(nth_weekday, within, nth, words.WEEKDAYS[unit]), year))
    return if_possible(_named(match, partial(nth_unit, within, nth, words.UNITS[unit]), year))


def _read_relative(text: Text, match: re.Match[str]) -> Named | None:
    """`Last week`, `this year`, `next Friday`, `last March`, `la semaine dernière`."""
    word = match["before"] or match["behind"]
    offset = (words.RELATIVE if match["before"] else words.BEHIND)[key_of(word)]
    name, today = key_of(match["name"] or match["shown"]), text.today
    if name in words.UNITS:
        unit = words.UNITS[name]
        if unit in (words.DAY, words.HALF):
            return None
        if word.lower() == "past":
            return _fixed(match, (shifted(today, unit, -1), today + timedelta(days=1)))
        return _fixed(match, unit_of(unit, today, offset))
    if name in words.WEEKDAYS:
        return _fixed(match, weekday_from(today, words.WEEKDAYS[name], offset))
    if name in words.MONTHS:
        if offset == 0 and (match["name"] or match["shown"]) in _VERBS:
            return None
        return _fixed(match, occurrence(partial(month_of, month=words.MONTHS[name]), today, offset))
    season = partial(months_of, first=words.SEASONS[name], count=3)
    return _fixed(match, occurrence(season, today, offset))


def _read_present_unit(text: Text, match: re.Match[str]) -> Named | None:
    """`The month` in `the end of the month`."""
    if not PART.search(text.before(match.start())):
        return None
    return _fixed(match, unit_of(unit_of_name(match["unit"]), text.today))


def _read_last_units(text: Text, match: re.Match[str]) -> Named | None:
    unit, count = unit_of_name(match["unit"]), number_of(match["n"])
    return _fixed(match, (shifted(text.today, unit, -count), text.today + timedelta(days=1)))


def _read_ago(text: Text, match: re.Match[str]) -> Named | None:
    number, name = match["n"] or match["count"], match["unit"] or match["of"]
    unit = unit_of_name(name)
    day = shifted(text.today, unit, -number_of(number))
    return _fixed(match, (day, day + timedelta(days=1)), slack_of(unit, number))


def _read_hours_ago(text: Text, match: re.Match[str]) -> Named | None:
    days = duration_of(match) // clock.DAY
    return _fixed(match, unit_of(words.DAY, text.today, -days), slack=1)


def _read_holiday(text: Text, match: re.Match[str]) -> Named | None:
    month, day, length = words.HOLIDAYS[key_of(match["name"])]
    days = day_of_month(month, day, day + length - 1)
    if match["before"]:
        return _fixed(match, occurrence(days, text.today, words.RELATIVE[key_of(match["before"])]))
    return _named(match, days, match["year"])


def _read_season(text: Text, match: re.Match[str]) -> Named | None:
    if match["year"] is None and not match["cue"]:
        return None
    return _named(match, partial(months_of, first=words.SEASONS[key_of(match["name"])], count=3), match["year"])


def _read_day_word(text: Text, match: re.Match[str]) -> Named | None:
    word = key_of(match[0])
    if word == "hier" and words.NOT_FRENCH.search(text.text):
        return None
    return _fixed(match, unit_of(words.DAY, text.today, words.DAY_WORDS[word]))


def _read_weekday(text: Text, match: re.Match[str]) -> Named | None:
    if not (match["time"] or text.is_meant(match) or text.ends_with(match)):
        return None
    return _fixed(match, weekday_from(text.today, words.WEEKDAYS[key_of(match["name"])], 0))


def _read_year(text: Text, match: re.Match[str]) -> Named | None:
    if not (text.is_meant(match) or text.is_part_or_range(match)):
        return None
    return _named(match, year_of, match["year"])


def key_of(word: str) -> str:
    """A word or phrase as the tables have it."""
    return re.sub(r"\s+", " ", word.lower().replace("’", "'"))


def number_of(number: str) -> int:
    """The value of a number in digits or words."""
    return int(number) if number.isdecimal() else words.NUMBERS[key_of(number)]


def unit_of_name(name: str) -> str:
    """The unit that a word names."""
    return words.UNITS[key_of(name)]


def duration_of(match: re.Match[str]) -> Instant:
    """Hours and minutes ago."""
    return number_of(match["n"]) * (60 if match["unit"][:2].lower() == "mi" else 3600) * clock.SECOND


def slack_of(unit: str, number: str) -> int:
    """By how many days a distance of so many units may be more or less; of a vague number twice as many."""
    days = {words.DAY: 0, words.WEEK: 3, words.WEEKEND: 1, words.MONTH: 15, words.QUARTER: 30, words.YEAR: 45}.get(
        unit, 0
    )
    return max(1, 2 * days) if words.VAGUE.search(number) else days


def if_possible(named: Named) -> Named | None:
    """The time, unless there is no such day in its year, or in a leap year."""
    return named if named.of(2000) else None


_MONTH = alternatives(words.MONTHS)
WEEKDAY = alternatives(words.WEEKDAYS)
UNIT = alternatives(words.UNITS)
_SEASON = alternatives(words.SEASONS)
_HOLIDAY = alternatives(words.HOLIDAYS)
NUMBER = rf"\d{{1,3}}|{alternatives(words.NUMBERS)}"
_DAY = r"3[01]|[12]\d|0?[1-9]"
_YEAR = r"(?:19|20)\d\d"
_VERBS = frozenset({"may", "march", "mar", "mars"})
_PEOPLE = frozenset({"march", "april", "avril", "abril", "august", "marzo", "julio", "mayo", "agosto", "augustus"})
TO_WORDS = (
    r"(?:\s*[-–—]\s*|\s+(?:to|until|till|through|thru|bis|à|au|jusqu'au|hasta|al?)\s+(?:the\s+|zum\s+|el\s+|le\s+)?)"
)
AND_WORDS = r"\s+(?:and|&|und|et|y)\s+(?:the\s+|dem\s+|el\s+|le\s+)?"
_ANY_JOIN = rf"(?:{TO_WORDS}|{AND_WORDS})"
_BESIDE_DATE = rf"(?:(?:{WEEKDAY}|{'|'.join(words.SHORT_WEEKDAYS.split())})\.?,?\s+)?(?:(?:the|den|dem|le|el)\s+)?"


class _Uncompiled:
    """Compiles the pattern when it is first used, then has its methods."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        vars(self)[name] = method = getattr(re.compile(self._pattern, re.IGNORECASE), name)
        return method


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern that ignores case. It is compiled when it is first used: all of them would take a start 30 ms."""
    return cast("re.Pattern[str]", _Uncompiled(pattern))


_LAST_WORDS = compiled(
    r"(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?)\s+(?:(?:the|of|le|la|el|den|dem|month\s+of|year|jahre?|année|año)\s+)*$"
)
_NOTHING_MORE = compiled(r"\s*(?:$|[?!.,;:)\]\"“”](?!\w))")
_RANGE_BEHIND = compiled(rf"{_ANY_JOIN}(?:{_MONTH})(?!\w)")
_RANGE_BEFORE = compiled(rf"(?<!\w)(?:{_MONTH})(?:\s+{_YEAR})?{_ANY_JOIN}$")
PART = compiled(
    rf"(?<!\w)(?P<part>{alternatives(words.PARTS)})(?:\s+|(?<=-))(?:(?:of|the|de|del|du|des|le|la|el)\s+)*$"
)
HOURS_AGO = compiled(rf"(?<!\w)(?P<n>{NUMBER})\s+(?P<unit>hours?|hrs?|minutes?|mins?)\s+ago(?!\w)")

DATES: tuple[Pattern, ...] = (
    (
        compiled(
            rf"(?<![\w./#-])(?P<year>{_YEAR})(?P<sep>[-/.])(?P<month>\d\d?)(?P=sep)(?P<day>\d\d?)"
            r"(?:T\d\d:\d\d\S*|(?![\w/]|[-.:]\d))"
        ),
        _read_iso,
    ),
    (
        compiled(
            rf"(?<![\w./#-])(?P<first>{_DAY})(?P<sep>[-/.])(?P<second>{_DAY})(?P=sep)(?P<year>{_YEAR}|(?<=/)\d\d)"
            r"(?![\w/]|[-.:]\d)"
        ),
        _read_numeric,
    ),
    (
        compiled(
            rf"(?<![\w.:/#-]){_BESIDE_DATE}(?P<day>{_DAY})(?P<suffix>(?:st|nd|rd|th|er|º|\.)?(?:\s*(?:of|de)(?!\w))?)"
            rf"(?:{_ANY_JOIN}(?P<last>{_DAY})(?:st|nd|rd|th|\.)?(?:\s+(?:of|de)(?!\w))?)?"
            rf"\s*(?P<month>{_MONTH})(?!\w)(?:\.?,?\s*(?:(?:of|de|del)\s+)?(?P<year>{_YEAR})(?!\w))?"
        ),
        _read_day_month,
    ),
    (
        compiled(
            rf"(?<![\w]){_BESIDE_DATE}(?P<month>{_MONTH})\.?\s+(?:the\s+)?(?P<day>{_DAY})(?P<suffix>st|nd|rd|th)?"
            rf"(?:{_ANY_JOIN}(?:the\s+)?(?P<last>{_DAY})(?:st|nd|rd|th)?)?"
            rf"(?![\w:%/]|[.,]\d|\s+(?:{_MONTH})(?!\w))(?:,?\s*(?:(?:of|in)\s+)?(?P<year>{_YEAR})(?!\w))?"
        ),
        _read_day_month,
    ),
)

NAMES: tuple[Pattern, ...] = (
    *DATES,
    (
        compiled(
            rf"(?<!\w)(?P<nth>{alternatives(words.ORDINALS)})\s+"
            rf"(?:of\s+|(?P<unit>{UNIT}|{WEEKDAY})\s+(?:(?:of|in|im|des|du|de|del|von)\s+)?(?:the\s+)?)"
            rf"(?:(?P<month>{_MONTH})(?!\w)(?:,?\s*(?:(?:of|de|del)\s+)?(?P<year>{_YEAR})(?!\w))?|(?P<only>{_YEAR})(?!\w))"
        ),
        _read_ordinal,
    ),
    (
        compiled(
            rf"(?<![\w/-])(?:Q(?P<quarter>[1-4])(?:\s*(?:of\s+|[/-])?(?P<year>{_YEAR}))?"
            rf"|(?P<before>{_YEAR})[\s/-]?Q(?P<behind>[1-4]))(?![\w/-])"
        ),
        _read_quarter,
    ),
    (compiled(rf"(?<![\w/-])H(?P<half>[12])[\s/]*(?P<year>{_YEAR})(?![\w/-])"), _read_half),
    (
        compiled(
            r"(?<!\w)(?:week|KW|CW|semaine|semana)\s*(?P<week>\d\d?),?\s*(?:(?:of|in|de)\s+|/)?"
            rf"(?P<year>{_YEAR})(?!\w)"
        ),
        _read_iso_week,
    ),
    (compiled(rf"(?<![\w./#-])(?P<month>0?[1-9]|1[0-2])/(?P<year>{_YEAR})(?![\w/]|[-.:]\d)"), _read_iso_month),
    (compiled(r"(?<!\w)(?:(?:over|on|at|during)\s+the\s+weekend|am\s+wochenende)(?!\w)"), _read_weekend),
    (compiled(rf"(?<![\w./#-])(?P<year>{_YEAR})-?W(?P<week>\d\d)(?![\w-])"), _read_iso_week),
    (compiled(rf"(?<![\w./#-])(?P<year>{_YEAR})-(?P<month>0[1-9]|1[0-2])(?![\w/]|[-.:]\d)"), _read_iso_month),
    (
        compiled(
            rf"(?<!\w)(?:(?P<before>{alternatives(words.RELATIVE)})\s+(?P<name>{UNIT}|{WEEKDAY}|{_MONTH}|{_SEASON})"
            rf"|(?P<shown>{UNIT}|{WEEKDAY}|{_MONTH}|{_SEASON})\s+(?P<behind>{alternatives(words.BEHIND)}))(?!\w)"
        ),
        _read_relative,
    ),
    (
        compiled(
            r"(?<!\w)(?:the\s+|des\s+|du\s+|del\s+|de\s+la\s+|der\s+)(?P<unit>week|month|quarter|year|monats|jahres|woche|mois|mes|semana)(?!\w|\s+of)"
        ),
        _read_present_unit,
    ),
    (
        compiled(
            rf"(?<!\w)(?:last|past|previous|letzten|vergangenen|derniers|dernières|últimos|últimas)\s+(?P<n>{NUMBER})\s+(?P<unit>{UNIT})(?!\w)"
        ),
        _read_last_units,
    ),
    (
        compiled(
            rf"(?<!\w)(?:(?P<n>{NUMBER})\s+(?P<unit>{UNIT})\s+(?:ago|back)"
            rf"|(?:vor|il\s+y\s+a|hace)\s+(?P<count>{NUMBER})\s+(?P<of>{UNIT}))(?!\w)"
        ),
        _read_ago,
    ),
    (HOURS_AGO, _read_hours_ago),
    (
        compiled(
            rf"(?<!\w)(?:(?P<before>{alternatives(words.RELATIVE)})\s+)?(?P<name>{_HOLIDAY})(?!\w)"
            rf"(?:,?\s+(?:of\s+|de\s+)?(?P<year>{_YEAR})(?!\w))?"
        ),
        _read_holiday,
    ),
    (
        compiled(
            rf"(?<!\w)(?P<cue>(?:in|over|during|since)\s+the\s+|(?:over|during|since)\s+|in\s+(?=summer|winter|autumn)|im\s+|en\s+)?"
            rf"(?P<name>{_SEASON})(?!\w)(?:\s+(?:of\s+|de\s+|del\s+)?(?P<year>{_YEAR})(?!\w))?"
        ),
        _read_season,
    ),
    (
        compiled(
            rf"(?<!\w)(?P<month>{_MONTH})(?!\w)"
            rf"(?:(?:\.?,?\s*(?:(?:of|de|del)\s+)?|-)(?P<year>{_YEAR})(?!\w|[-/]\d)|\s*['’](?P<short>\d\d)(?!\w))?"
        ),
        _read_month,
    ),
    (compiled(rf"(?<![\w-])(?:{alternatives(words.DAY_WORDS)})(?!\w)"), _read_day_word),
    (
        compiled(
            rf"(?<!\w)(?P<name>{WEEKDAY})(?!\w)(?P<time>\s+(?:morning|afternoon|evening|night|früh|abend|matin|soir))?"
        ),
        _read_weekday,
    ),
    (compiled(rf"(?<![\w.,:/#-])(?P<year>{_YEAR})(?!\w|[-/.:,]\d|[-/.:]\w)"), _read_year),
)
