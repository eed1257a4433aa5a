"""The date of a note, by its properties or else by its name.

The first property in `KEYS` counts: when it happened, then when it was written, then when it was published. The date of
the last change says nothing of these. A date in a name counts at its beginning, or if it is the only one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone
from mempalace_mcp.palace.importers.dates import MONTHS, DateFault, Reading, day, day_of_two, read_date
from mempalace_mcp.palace.importers.documents import SkippedLines
from mempalace_mcp.palace.importers.properties import read_properties

KEYS = tuple(
    re.findall(
        r"\S+",
        """
    date datetime dateandtime eventdate startdate timestamp datum fecha дата 日付 日期 날짜
    created createdat createdon createddate createdtime creationdate creationtime creationdatetime datecreated
    usercreatedtime ctime birthtime createtime erstellt erstelltam créé crééle creado added addedat addeddate dateadded
    saved savedat datesaved written writtenon recorded
    published publishedat publishedon publisheddate publishedtime publishdate publishon publicationdate datepublished
    pubdate issued posted postedon postdate revdate dcdate dctermsdate dctermscreated
    """,
    )
)
"""Without case, blanks and punctuation, the most telling first."""

_RANKS = {key: rank for rank, key in enumerate(KEYS)}
_PUNCTUATION = re.compile(r"[\s_./()-]+")

_SUFFIX = re.compile(r"(?:\.[A-Za-z][A-Za-z0-9]{0,11}){1,2}$")
_PAGES = frozenset({"index", "_index", "readme"})
"""Names of files that say nothing: the folder is what is named."""

_NAMED_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})([-_.])(\d{1,2})\2(\d{1,2})(?![\d])")
_NAMED_TIME = re.compile(
    r"(?:[Tt](\d{2})[-:._]?(\d{2})(?:[-:._]?(\d{2}))?"
    r"|(?:[ _]|,? at )(\d{2})(?:[.:h](\d{2})(?:[.:](\d{2}))?|-(\d{2})-(\d{2})))(?![\w-])"
)
_NAMED_COMPACT = re.compile(
    r"(?<![\da-fA-F])((?:19|20)\d{2})(\d{2})(\d{2})"
    r"(?:[T_]?(\d{2})(\d{2})(\d{2})?|-(\d{2})(\d{2})(\d{2}))?(?![\dA-Za-z])"
)
_NAMED_YEAR_LAST = re.compile(r"(?<![\d.])(\d{1,2})([-_.])(\d{1,2})\2((?:19|20)\d{2})(?!\d)")
_WORDS = re.compile(
    r"(?<!\w)(?:\d{1,2}(?:st|nd|rd|th|\.)?[ -]?([^\W\d_]{3,12})|([^\W\d_]{3,12}) ?\d{1,2}(?:st|nd|rd|th)?)"
    r",?[ -]\d{4}(?!\d)"
)
_FOLDERS = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})")
_MONTH = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True, slots=True)
class Dating:
    """The date of a note, None if unknown, and the dates that could not be read."""

    instant: Instant | None
    problems: tuple[SkippedLines, ...] = ()


def date_note(content: str, path: str, zone: Zone = UTC_ZONE) -> Dating:
    """The date of a note by its text and its path; each kind of fault is reported once."""
    problems: dict[str, SkippedLines] = {}
    dated = [each for each in read_properties(content) if _key(each.key) in _RANKS]
    for each in sorted(dated, key=lambda each: _RANKS[_key(each.key)]):
        found = read_date(each.value)
        if isinstance(found, str):
            return Dating(clock.parse(found, "date", zone=zone), tuple(problems.values()))
        if found is not None:
            reason = reason_in_text(found)
            problems.setdefault(reason, SkippedLines(path, reason, 1, (each.line,)))
    found = date_of_name(path)
    if isinstance(found, DateFault):
        reason = reason_in_name(found)
        problems[reason] = SkippedLines(path, reason, 1, ())
    instant = clock.parse(found, "date", zone=zone) if isinstance(found, str) else None
    return Dating(instant, tuple(problems.values()))


def date_of_name(path: str) -> Reading:
    """The date that a file's name holds, or else the folders around it: `journal/2024/05/03.md`."""
    file = PurePath(path)
    stem = _SUFFIX.sub("", file.name) or file.name
    if stem.casefold() in _PAGES:
        stem = file.parent.name
    found = [reading for reading in (read(stem) for read in _READERS) if reading is not None]
    if found:
        return found[0]
    folders = [*file.parts[-3:-1], stem]
    parts = _FOLDERS.fullmatch("/".join(folders)) or _MONTH.fullmatch(stem)
    if parts is None:
        return None
    year, month, *days = map(int, parts.groups())
    return _unless_impossible(day(year, month, days[0] if days else 1))


def reason_in_text(fault: DateFault) -> str:
    """Why a date of the text was not taken."""
    return f"a date in the text {fault.value}"


def reason_in_name(fault: DateFault) -> str:
    """Why a date of the name was not taken."""
    return f"a date in the name {fault.value}"


DATE_REASONS = frozenset(reason(fault) for fault in DateFault for reason in (reason_in_text, reason_in_name))
"""Each is worth one example: the file was read all the same."""


def _year_first(stem: str) -> Reading:
    found = list(_NAMED_YEAR_FIRST.finditer(stem))
    if not found or (found[0].start() > 0 and len({match.group() for match in found}) > 1):
        return None
    year, _, month, day_of_month = found[0].groups()
    return day(int(year), int(month), int(day_of_month), _time_behind(stem, found[0].end()))


def _compact(stem: str) -> Reading:
    """What is no date is a number."""
    found = [(match, _unless_impossible(_of_digits(match))) for match in _NAMED_COMPACT.finditer(stem)]
    dates = [(match, reading) for match, reading in found if reading is not None]
    if not dates or (dates[0][0].start() > 0 and len(dates) > 1):
        return None
    return dates[0][1]


def _of_digits(match: re.Match[str]) -> Reading:
    year, month, day_of_month, *time = match.groups()
    hour, minute, second = time[3:] if time[3] else time[:3]
    return day(int(year), int(month), int(day_of_month), f"T{hour}:{minute}:{second or '00'}" if hour else "")


def _year_last(stem: str) -> Reading:
    found = list(_NAMED_YEAR_LAST.finditer(stem))
    if len({match.group() for match in found}) != 1:
        return None
    first, separator, second, year = found[0].groups()
    return day_of_two(int(first), separator, int(second), int(year))


def _words(stem: str) -> Reading:
    """A date with the name of its month."""
    spaced = stem.replace("_", " ")
    found = [match for match in _WORDS.finditer(spaced) if (match.group(1) or match.group(2)).casefold() in MONTHS]
    return read_date(found[0].group()) if len(found) == 1 else None


_READERS = (_year_first, _compact, _year_last, _words)


def _time_behind(stem: str, position: int) -> str:
    """The time of day in ISO 8601 that follows a date; empty if none does."""
    found = _NAMED_TIME.match(stem, position)
    if not found:
        return ""
    hour, minute, *second = [group for group in found.groups() if group]
    valid = int(hour) < 24 and int(minute) < 60 and int(second[0] if second else 0) < 60
    return f"T{hour}:{minute}:{second[0] if second else '00'}" if valid else ""


def _unless_impossible(reading: Reading) -> Reading:
    return None if reading is DateFault.IMPOSSIBLE else reading


def _key(written: str) -> str:
    return _PUNCTUATION.sub("", written).casefold()
