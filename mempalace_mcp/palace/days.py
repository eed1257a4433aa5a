"""Days of the calendar: months, weeks, the third Monday of May, the week before a day. Pure.

`days` of a time are a function of the year. It raises `ValueError` or `OverflowError` where a year has no such days.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from mempalace_mcp.palace import time_words as words

Days = tuple[date, date]
"""The first day of a time, and the first one after it."""


def day_of_month(month: int, day: int, last: int | None = None) -> Callable[[int], Days]:
    """A day of a month, or those up to another one of it."""

    def days(year: int) -> Days:
        first = date(year, month, day)
        if last is None or last == day:
            return first, first + timedelta(days=1)
        if last < day:
            raise ValueError("the range is reversed")
        return first, date(year, month, last) + timedelta(days=1)

    return days


def month_of(year: int, month: int) -> Days:
    """A month of a year."""
    return months_of(year, month, 1)


def months_of(year: int, first: int, count: int) -> Days:
    """So many months from one of a year on."""
    return _first_of_month(year, first), _first_of_month(year, first + count)


def _first_of_month(year: int, month: int) -> date:
    """The first day of a month, counted from January of the year."""
    years, index = divmod(month - 1, 12)
    return date(year + years, index + 1, 1)


def year_of(year: int) -> Days:
    """A whole year."""
    return date(year, 1, 1), date(year + 1, 1, 1)


def unit_of(unit: str, day: date, offset: int = 0) -> Days:
    """The calendar's day, week, month, ... that holds a day, or one before or after it."""
    if unit == words.DAY:
        return day + timedelta(days=offset), day + timedelta(days=offset + 1)
    if unit in (words.WEEK, words.WEEKEND):
        monday = day + timedelta(days=7 * offset - day.weekday())
        return monday + timedelta(days=5 if unit == words.WEEKEND else 0), monday + timedelta(days=7)
    if unit == words.MONTH:
        return months_of(day.year, day.month + offset, 1)
    if unit == words.QUARTER:
        return months_of(day.year, day.month - (day.month - 1) % 3 + 3 * offset, 3)
    return year_of(day.year + offset)


def shifted(day: date, unit: str, count: int) -> date:
    """The day so many units later, or the last one of its month if there is no such day."""
    if unit in (words.DAY, words.WEEK, words.WEEKEND):
        return day + timedelta(days=count * (1 if unit == words.DAY else 7))
    months = count * {words.MONTH: 1, words.QUARTER: 3, words.HALF: 6, words.YEAR: 12}[unit]
    first, after = months_of(day.year, day.month + months, 1)
    return min(first + timedelta(days=day.day - 1), after - timedelta(days=1))


def weekday_from(today: date, weekday: int, offset: int) -> Days:
    """The latest such day, before today if `offset` is negative; the next one after today if it is positive."""
    back = (today.weekday() + 1 - weekday) % 7
    if offset < 0:
        back = back or 7
    elif offset > 0:
        back -= 7
    return unit_of(words.DAY, today, -back)


def occurrence(days: Callable[[int], Days], today: date, offset: int) -> Days:
    """The last one that is over, the one of this year, or the next one to begin."""
    years = (today.year + each for each in ((-2, -1, 0) if offset < 0 else (0, 1, 2)))
    found = list(map(days, years))
    if offset < 0:
        return [each for each in found if each[1] <= today][-1]
    return found[0] if offset == 0 else next(each for each in found if each[0] > today)


def nth_weekday(within: Callable[[int], Days], nth: int, weekday: int, year: int) -> Days:
    """The first, second, ... or last (`LAST`) day of its name within a time."""
    first, after = within(year)
    if nth == words.LAST:
        day = after - timedelta(days=1 + (after.weekday() - weekday) % 7)
    else:
        day = first + timedelta(days=(weekday - 1 - first.weekday()) % 7 + 7 * (nth - 1))
    return day, day + timedelta(days=1)


def nth_unit(within: Callable[[int], Days], nth: int, unit: str, year: int) -> Days:
    """Weeks of a month are seven days each from its first; weekends are those that begin in it."""
    first, after = within(year)
    if unit == words.WEEKEND:
        saturday, _ = nth_weekday(within, nth, 6, year)
        return saturday, saturday + timedelta(days=2)
    if unit == words.HALF:
        middle = first + (after - first) // 2
        return (first, middle) if nth == 1 else (middle, after)
    if nth == words.LAST:
        return shifted(after, unit, -1), after
    start = shifted(first, unit, nth - 1)
    if start >= after:
        raise ValueError("there are not so many of them")
    return start, min(after, shifted(start, unit, 1))


def third_of(days: Callable[[int], Days], part: int, year: int) -> Days:
    """The first, second or third part of a time, counted from 0; of less than a week the whole."""
    first, after = days(year)
    length = (after - first).days
    if length < 7:
        return first, after
    return first + timedelta(days=length * part // 3), first + timedelta(days=length * (part + 1) // 3)


def weekday_beside(weekday: int, direction: int, days: Days) -> Days:
    """The last day of its name before a time, or the first one after it."""
    first, after = days
    if direction > 0:
        return weekday_from(after - timedelta(days=1), weekday, 1)
    return weekday_from(first, weekday, -1)


def beside(unit: str, direction: int, count: int | None, days: Days) -> Days:
    """The day so many units before (-1) or after (1) a time; without a count, the unit beside it, or around it (0)."""
    first, after = days
    if direction == 0:
        return unit_of(unit, first)
    if count is not None:
        day = shifted(first if direction < 0 else after - timedelta(days=1), unit, direction * count)
        return day, day + timedelta(days=1)
    if unit == words.WEEKEND:
        saturday, _ = weekday_beside(6, direction, days)
        return saturday, saturday + timedelta(days=2)
    return (shifted(first, unit, -1), first) if direction < 0 else (after, shifted(after, unit, 1))


def opened(days: Callable[[int], Days], way: str, today: date, year: int) -> Days:
    """The time `since`, `after`, `until` or `before` another one; the first two last until today."""
    first, after = days(year)
    if way == "before":
        return date.min, first
    if way == "until":
        return date.min, after
    return (first if way == "since" else after), max(after, today + timedelta(days=1))
