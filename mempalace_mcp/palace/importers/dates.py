"""Dates in texts, names and metadata. Pure.

Dates are read in ISO 8601 and in the forms that people and programs write. An ambiguous date is not guessed. What
instant a date without a time or a zone is, `core.clock` decides.
"""

from __future__ import annotations

import re
from datetime import date
from enum import Enum

from mempalace_mcp.core import clock
from mempalace_mcp.core.errors import InvalidArgument


class DateFault(Enum):
    """Why what looks like a date was not taken for one."""

    UNKNOWN = "is not understood"
    IMPOSSIBLE = "does not exist"
    AMBIGUOUS = "may have day and month in either order"


Reading = str | DateFault | None
"""A date or time in ISO 8601, why there is none, or None where no date is meant."""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier janv enero ene janeiro gennaio gen januari",
            "february feb februar février févr fév febrero fevereiro fev febbraio februari",
            "march mar märz mär mrz mars marzo março maart mrt",
            "april apr avril avr abril abr aprile",
            "may mai mayo maio maggio mag mei",
            "june jun juni juin junio junho giugno giu",
            "july jul juli juillet juil julio julho luglio lug",
            "august aug août agosto ago augustus",
            "september sep sept septembre septiembre setembro set settembre",
            "october oct oktober okt octobre octubre outubro out ottobre ott",
            "november nov novembre noviembre novembro",
            "december dec dezember dez décembre déc diciembre dic dezembro dicembre",
        ),
        start=1,
    )
    for name in names.split()
}
"""English, German, French, Spanish, Portuguese, Italian and Dutch."""

_WEEKDAYS = frozenset(
    re.findall(
        r"\S+",
        """
    monday mon tuesday tue tues wednesday wed thursday thu thur thurs friday fri saturday sat sunday sun
    montag mo dienstag di mittwoch mi donnerstag do freitag fr samstag sonnabend sa sonntag so
    lundi lun mardi mercredi mer jeudi jeu vendredi ven samedi sam dimanche dim
    lunes martes miércoles mié jueves jue viernes vie sábado sáb domingo dom lunedì martedì mercoledì giovedì venerdì
    sabato domenica segunda-feira terça-feira quarta-feira quinta-feira sexta-feira maandag dinsdag woensdag donderdag
    vrijdag zaterdag zondag
    """,
    )
)
_NO_DATES = frozenset(
    re.findall(r"\S+", "true false yes no on off null none nil ~ - -- n/a tbd tba todo unknown draft")
)

_ZONES = {
    "z": "+00:00", "utc": "+00:00", "gmt": "+00:00", "ut": "+00:00", "wet": "+00:00", "west": "+01:00",
    "cet": "+01:00", "cest": "+02:00", "eet": "+02:00", "eest": "+03:00", "est": "-05:00", "edt": "-04:00",
    "cst": "-06:00", "cdt": "-05:00", "mst": "-07:00", "mdt": "-06:00", "pst": "-08:00", "pdt": "-07:00",
}  # fmt: skip
"""Those of RFC 5322, and the European ones."""

_LONGEST = 120
_WORD = r"[^\W\d_]+(?:-feira)?"
_YEAR_FIRST = re.compile(r"(\d{4})(?:([-/._])(\d{1,2})\2(\d{1,2})|年\s?(\d{1,2})月\s?(\d{1,2})日)(?!\d)")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[Tt]?(\d{2})(\d{2})(\d{2})?)?(?!\d)")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?!\d)")
_DAY_MONTH = re.compile(
    rf"(\d{{1,2}})(?:st|nd|rd|th|er|º|\.)?[\s-]*(?:(?:of|de)\s)?({_WORD})\.?,?[\s-]*(?:de\s)?(\d{{4}})(?!\d)"
)
_MONTH_DAY = re.compile(rf"({_WORD})\.?\s*(\d{{1,2}})(?:st|nd|rd|th)?,?\s*(\d{{4}})(?!\d)")
_CLOCK_BEFORE_YEAR = re.compile(rf"({_WORD})\s+(\d{{1,2}})\s+(\d\d:\d\d:\d\d)\s+({_WORD}\s+)?(\d{{4}})")
_MONTH_ALONE = re.compile(rf"(?:(\d{{4}})(?:[-/.](\d{{1,2}}))?|({_WORD})\.?,?\s+(\d{{4}}))")

_TIME = re.compile(
    r"(?:[Tt]|[\s,@·]*(?:at|um|à|kl\.?)?\s*)(\d{1,2})(?:[:.h](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,9}))?)?)?(?!\d)"
    r"(?:\s?([AaPp])\.?[Mm]\b\.?)?(?:\s?(?:Uhr|hrs?)\b)?"
)
_ZONE = re.compile(r"\s*\(?(?:([A-Za-z]{1,4})\b|(?=[+-]))(?:([+-])(\d{1,2})(?::?(\d{2}))?(?!\d))?\)?(?:\[[\w/+-]+\]?)?")
_REST = re.compile(r"\s*(?:$|[.+-]{1,2}\d+[hdwmy]\b|(?:to|until|bis|–|—|--|→|/|-)\s*\S|-\d\d:\d\d$|,\s*\S|\()")
_LINK = re.compile(r"\[\[(?:[^\]|]*/)?([^\]|/]+)(?:\|[^\]]*)?\]\](.*)|\[([^\]]+)\]\([^)]*\)(.*)")
_TYPE = re.compile(r"!!\w+\s+")
_END_OF_RANGE = re.compile(r"[>\]]--?[<\[].*|-\d{1,2}:\d{2}[>\]]$")
"""Of a range in org: `<2024-05-03 Fri>--<2024-05-05 Sun>`, `<2024-05-03 Fri 10:00-11:00>`."""

_QUOTES = "\"'`*_<>[]{}“”‘’ \t\r"
_INNER_QUOTES = str.maketrans("", "", "\"'`")
_EPOCHS = {10: 1_000_000, 13: 1_000, 16: 1}
"""Digits of an epoch in seconds, milliseconds and microseconds, and how many microseconds one is."""


def read_date(written: str) -> Reading:
    """The date or time that a value stands for, the first day for a period; None for an empty one or a yes or no."""
    text = _bare(written)
    if not text or text.casefold() in _NO_DATES:
        return None
    if len(text) > _LONGEST:
        return DateFault.UNKNOWN
    if text.isascii() and text.isdigit() and text[0] == "1" and len(text) in _EPOCHS:
        return clock.format_instant(int(text) * _EPOCHS[len(text)])
    text = _without_weekday(text)
    for read in (_read_year_first, _read_compact, _read_year_last, _read_words, _read_clock_before_year, _read_month):
        found = read(text)
        if found is not None:
            return found
    return DateFault.UNKNOWN


def day(year: int, month: int, day_of_month: int, rest: str = "") -> Reading:
    """The day, and the time in the rest of the text if it begins with one."""
    try:
        shown = date(year, month, day_of_month).isoformat()
    except ValueError:
        return DateFault.IMPOSSIBLE
    time = _read_time(rest)
    return time if isinstance(time, DateFault) else _verified(shown + time)


def day_of_two(first: int, separator: str, second: int, year: int, rest: str = "") -> Reading:
    """The day of a date whose year comes last. Between dots the day is first; else only numbers above 12 decide."""
    if separator != "." and first <= 12 and second <= 12 and first != second:
        return DateFault.AMBIGUOUS
    month_first = separator != "." and second > 12
    return day(year, first, second, rest) if month_first else day(year, second, first, rest)


def _verified(shown: str) -> Reading:
    try:
        clock.parse(shown, "date")
    except InvalidArgument:
        return DateFault.IMPOSSIBLE
    return shown


def _bare(written: str) -> str:
    """The value without quotation marks, brackets and links around it."""
    text = _TYPE.sub("", written[: 4 * _LONGEST].strip(), count=1)
    if link := _LINK.search(text):
        inner, behind, shown, after = link.groups()
        text = (inner or shown) + (behind or after or "")
    return _END_OF_RANGE.sub("", text).strip(_QUOTES).translate(_INNER_QUOTES).removeprefix("@")


def _without_weekday(text: str) -> str:
    """The text without a weekday at its beginning or behind its date."""
    words = re.split(r"(\s+|,|\()", text, maxsplit=4)
    kept = [word for word in words if word.casefold().rstrip(".)") not in _WEEKDAYS]
    return "".join(kept).strip(" ,(\t") if len(kept) < len(words) else text


def _read_year_first(text: str) -> Reading:
    found = _YEAR_FIRST.match(text)
    if not found:
        return None
    year, _, month, day_of_month, month_sign, day_sign = found.groups()
    return day(int(year), int(month or month_sign), int(day_of_month or day_sign), text[found.end() :])


def _read_compact(text: str) -> Reading:
    found = _COMPACT.match(text)
    if not found:
        return None
    year, month, day_of_month, hour, minute, second = found.groups()
    time = f"T{hour}:{minute}:{second or '00'}" if hour else ""
    return day(int(year), int(month), int(day_of_month), time + text[found.end() :])


def _read_year_last(text: str) -> Reading:
    found = _YEAR_LAST.match(text)
    if not found:
        return None
    first, separator, second, year = found.groups()
    return day_of_two(int(first), separator, int(second), int(year), text[found.end() :])


def _read_words(text: str) -> Reading:
    for pattern, month_place, day_place in ((_DAY_MONTH, 2, 1), (_MONTH_DAY, 1, 2)):
        found = pattern.match(text)
        month = MONTHS.get(found.group(month_place).casefold()) if found else None
        if found and month:
            return day(int(found.group(3)), month, int(found.group(day_place)), text[found.end() :])
    return None


def _read_clock_before_year(text: str) -> Reading:
    found = _CLOCK_BEFORE_YEAR.fullmatch(text)
    month = MONTHS.get(found.group(1).casefold()) if found else None
    if not found or not month:
        return None
    return day(int(found.group(5)), month, int(found.group(2)), f" {found.group(3)} {found.group(4) or ''}")


def _read_month(text: str) -> Reading:
    """A month or a year alone, which begins with its first day."""
    found = _MONTH_ALONE.fullmatch(text)
    if not found:
        return None
    year, number, name, year_behind = found.groups()
    month = int(number or 1) if year else MONTHS.get(name.casefold())
    return day(int(year or year_behind), month, 1) if month is not None else None


def _read_time(rest: str) -> str | DateFault:
    """The time of day in ISO 8601, empty if there is none and nothing else that would need to be understood."""
    found = _TIME.match(rest)
    if not found or not (found.group(2) or found.group(5)):
        return "" if _REST.match(_without_weekday(rest)) else DateFault.UNKNOWN
    hour, minute, second, fraction, half = found.groups()
    hours = int(hour)
    if half:
        if not 1 <= hours <= 12:
            return DateFault.IMPOSSIBLE
        hours = hours % 12 + (12 if half in "pP" else 0)
    rest = rest[found.end() :]
    offset = ""
    zone = _ZONE.match(rest)
    if zone and zone.group().strip():
        read = _offset(*zone.groups())
        if read is None:
            return DateFault.UNKNOWN
        offset, rest = read, rest[zone.end() :]
    if not _REST.match(rest):
        return DateFault.UNKNOWN
    return f"T{hours:02}:{minute or '00'}:{second or '00'}.{(fraction or '0')[:6]}{offset}"


def _offset(name: str | None, sign: str | None, hours: str | None, minutes: str | None) -> str | None:
    """The offset of a zone; None if its name is of several zones or of none."""
    known = _ZONES.get(name.casefold()) if name else "+00:00"
    if sign and hours and known == "+00:00":
        return f"{sign}{int(hours):02}:{minutes or '00'}"
    return known
