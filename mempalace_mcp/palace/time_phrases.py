"""The times that a text names: `in March`, `last week`, `two days before 3 May`, `between May 3 and June 5`. Pure.

A phrase is read if it can hardly mean anything else: `may` and `march` are also verbs, `April` and `June` people, and
many numbers are no years. Such words count beside a day or a year, or behind a word as `in` or `since`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import chain

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant, Zone
from mempalace_mcp.palace import time_words as words
from mempalace_mcp.palace.days import Days, beside, opened, third_of, weekday_beside
from mempalace_mcp.palace.time_names import (
    AND_WORDS,
    DATES,
    HOURS_AGO,
    NAMES,
    NUMBER,
    PART,
    TO_WORDS,
    UNIT,
    WEEKDAY,
    Named,
    Text,
    compiled,
    duration_of,
    key_of,
    number_of,
    slack_of,
    unit_of_name,
)
from mempalace_mcp.palace.time_words import alternatives

ENDS = 500
"""Of a longer text, so many characters of either end are read."""
YEARS = range(1, -15, -1)
"""Of a date without a year, from the next year back: the years that it may mean."""
OTHER_YEARS = 0.5
"""How much less a year counts that is not the latest in which it has begun."""


@dataclass(frozen=True, slots=True)
class Period:
    """A time from `start` to before `stop`; `slack` is by how much it may be meant more widely, `share` how surely."""

    start: Instant
    stop: Instant
    slack: Instant = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Times:
    """The times that a question names. `are_all` is true if it asks for nothing else."""

    periods: tuple[Period, ...] = ()
    are_all: bool = False


NO_TIMES = Times()


def read_times(text: str, now: Instant, zone: Zone) -> Times:
    """The times that a question names, as it is asked now and there."""
    if not _TRIGGER.search(text):
        return NO_TIMES
    short = _plain(text if len(text) <= 2 * ENDS else f"{text[:ENDS]}\n{text[-ENDS:]}")
    reader = _Reader(short, clock.day_of(now, zone))
    named = reader.read()
    periods = tuple(period for each in named for period in _periods(each, reader.today, now, zone))
    return Times(periods, bool(periods) and _says_no_more(short, named))


def read_period(text: str, now: Instant, zone: Zone) -> Period | None:
    """The time that a text as a whole names; the latest that has begun, where it names no year.

    Raises:
        ValueError: it names two days at once, as 5/8/2024 does.
    """
    phrase = _LEADING.sub("", _plain(text[:ENDS]))
    if found := HOURS_AGO.fullmatch(phrase):
        return Period(now - duration_of(found), now)
    reader = _Reader(phrase, clock.day_of(now, zone), is_whole=True)
    named = reader.read()
    if len(named) != 1 or (named[0].begin, named[0].end) != (0, len(phrase)):
        return None
    if named[0].other is not None:
        raise ValueError("may have day and month in either order")
    periods = [each for each in _periods(named[0], reader.today, now, zone) if each.share == 1]
    return periods[0] if periods else None


def read_day(line: str, zone: Zone) -> Instant | None:
    """The first day with its year that a line names beyond doubt."""
    for named in Text(_plain(line), date.min).find(DATES):
        days = named.of(0) if named.dated and named.other is None else None
        if days is not None:
            return clock.start_of_day(days[0], zone)
    return None


class _Reader(Text):
    """Reads the times of one text."""

    def read(self) -> list[Named]:
        """All times, in the order of the text: names, then what is said before them, then from one to another."""
        found: list[Named] = []
        end = 0
        for named in self.find(NAMES):
            found.append(self._with_lead(named, end))
            end = named.end
        return [self._open(*each) for each in self._ranges(found)]

    def _with_lead(self, named: Named, end: int) -> Named:
        """The time with the words right before it: `late`, `two days before`, `the week of`."""
        before = self.text[end : named.begin]
        if found := PART.search(before):
            third = partial(third_of, named.days, words.PARTS[key_of(found["part"])])
            named = replace(named, begin=end + found.start(), days=third)
            before = self.text[end : named.begin]
        if found := _OFFSET.search(before):
            days = partial(_moved, named.days, _offset(found))
            slack = 0 if found["n"] is None else slack_of(unit_of_name(found["unit"]), found["n"])
            named = replace(named, begin=end + found.start(), days=days, slack=slack)
        return named

    def _ranges(self, found: Sequence[Named]) -> Iterator[tuple[Named, int]]:
        """The times with the end of the one before; two with a word as `to` between them as one."""
        end, index = 0, 0
        while index < len(found):
            named = found[index]
            index += 1
            if index < len(found) and self._are_range(self.text[end : named.begin], named, found[index]):
                named = _joined(named, found[index])
                index += 1
            yield named, end
            end = named.end

    def _are_range(self, before: str, first: Named, second: Named) -> bool:
        between = self.text[first.end : second.begin]
        return bool(_TO.fullmatch(between) or (_AND.fullmatch(between) and _BETWEEN.search(before)))

    def _open(self, named: Named, end: int) -> Named:
        """The time since, until or before another one."""
        found = None if self.is_whole else _OPEN.search(self.text[end : named.begin])
        if not found:
            return named
        return replace(named, days=partial(opened, named.days, found.lastgroup or "", self.today), slack=0)


def _offset(match: re.Match[str]) -> Callable[[Days], Days]:
    """What is said before a time: so many units before or after it, the one right before it, or the one around it."""
    name, way = key_of(match["unit"]), key_of(match["way"])
    direction = 0 if way in _OF_WORDS else -1 if way in _BEFORE_WORDS else 1
    if name in words.WEEKDAYS:
        return partial(weekday_beside, words.WEEKDAYS[name], direction)
    return partial(beside, words.UNITS[name], direction, number_of(match["n"]) if match["n"] else None)


def _moved(days: Callable[[int], Days], move: Callable[[Days], Days], year: int) -> Days:
    return move(days(year))


def _joined(first: Named, second: Named) -> Named:
    """From one time to another. The one without a year is of the year that makes it the nearest."""

    def days(year: int) -> Days:
        if second.dated and not first.dated:
            stop = second.days(year)
            start = first.days(stop[0].year)
            start = start if start[0] < stop[1] else first.days(stop[0].year - 1)
        else:
            start = first.days(year)
            stop = second.days(start[0].year)
            stop = stop if second.dated or start[0] < stop[1] else second.days(start[0].year + 1)
        if stop[1] <= start[0]:
            raise ValueError("the range is reversed")
        return start[0], stop[1]

    return Named(first.begin, second.end, days, first.dated or second.dated, max(first.slack, second.slack))


def _periods(named: Named, today: date, now: Instant, zone: Zone) -> Iterator[Period]:
    """The instants of a time. Without a year it is the latest that has begun, and less surely that of other years."""
    readings = [named, *([replace(named, days=named.other)] if named.other else [])]
    for reading in readings:
        years = [0] if reading.dated else [today.year + each for each in YEARS]
        share = OTHER_YEARS
        for days in filter(None, map(reading.of, years)):
            period = _instants(days, reading.slack * clock.DAY, zone)
            if period.stop <= period.start:  # at the end of all time
                continue
            is_latest = share != 1 and (reading.dated or period.start <= now)
            if is_latest:
                share = 1
            yield replace(period, share=1.0 if is_latest else OTHER_YEARS)


def _instants(days: Days, slack: Instant, zone: Zone) -> Period:
    first, after = days
    return Period(clock.start_of_day(first, zone), clock.start_of_day(after, zone), slack)


def _plain(text: str) -> str:
    """The text in composed characters, with single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _says_no_more(text: str, named: Sequence[Named]) -> bool:
    """Are there only words beside the times that say nothing of what is looked for?"""
    rest, end = [], 0
    for each in named:
        rest.append(text[end : each.begin])
        end = each.end
    said = _WORD.findall(key_of(" ".join([*rest, text[end:]])))
    return all(word in words.GENERAL for word in said)


_TELLING = (words.MONTHS, words.WEEKDAYS, words.DAY_WORDS, words.SEASONS, words.HOLIDAYS, words.UNITS, ("ago",))
_TRIGGER = compiled(rf"\d|(?<!\w)(?:{alternatives(chain.from_iterable(_TELLING))})(?!\w)")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_LEADING = compiled(r"^(?:(?:the|on|in|at|am|im|le|la|el|en)\s+|l['’])")
_OF_WORDS = frozenset({"of", "von", "vom", "du", "de", "del", "um"})
_BEFORE_WORDS = frozenset({"before", "prior to", "preceding", "vor", "avant", "antes de", "antes del"})

_TO, _AND = compiled(TO_WORDS), compiled(AND_WORDS)
_BETWEEN = compiled(r"\b(?:between|zwischen|entre|from|von|vom|de|desde|du)\s+(?:the\s+|dem\s+|le\s+|el\s+)?$")
_OFFSET = compiled(
    rf"(?<!\w)(?:(?P<n>{NUMBER})\s+)?(?P<unit>{UNIT}|{WEEKDAY})\s+"
    r"(?P<way>before|prior\s+to|preceding|after|following|of|vor|nach|von|vom|avant|après|du|antes\s+del?|después\s+del?)"
    r"\s+(?:(?:the|dem|den|der|le|la|el)\s+)?$"
)
_OPEN = compiled(
    r"\b(?:(?P<since>since|starting|seit|ab|depuis|desde|à partir du?)|(?P<after>after|nach|après|después\s+del?)"
    r"|(?P<until>until|till|up\s+to|bis|jusqu['’](?:à|au|en)|hasta)|(?P<before>before|prior\s+to|vor|avant|antes\s+del?))"
    r"\s+(?:(?:the|dem|den|der|zum|le|la|el)\s+)?$"
)
