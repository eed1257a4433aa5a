"""The properties of a note: front matter and fields.

Front matter is read line by line and not as YAML or TOML, since real front matter often is neither: templates leave
`{{date}}` in it, values hold colons, lines are indented by tabs. Such a note loses nothing but that line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_LONGEST_HEAD = 16_000
_MOST_LINES = 200
_KEY = r"[^\W\d_][\w ./()-]{0,59}?"
_YAML = re.compile(rf"[\"']?({_KEY})[\"']?[ \t]*:(?:[ \t]+(.*)|$)")
_TOML = re.compile(rf"[\"']?({_KEY})[\"']?[ \t]*=[ \t]*(.*)")
_BELOW = re.compile(r"[ \t]+(?:-[ \t]+)?([^\s#-].*)|-[ \t]+(.*)")
_FIELD = re.compile(
    rf"#\+({_KEY}):[ \t]*(.*)|:({_KEY}):[ \t]+(.*)|\.\. ({_KEY}):[ \t]+(.*)|(?:-[ \t]+)?({_KEY})::(?:[ \t]+(.*)|$)"
)
_PLAIN = re.compile(rf"(?:[-*+][ \t]+)?(?:\*\*|__)?({_KEY})(?:\*\*|__)?:(?:\*\*|__)?[ \t]+(.*)")
_NO_PROPERTY = re.compile(r"\s*$|#{1,6} |\*+ |[=\-~^*+\"#]{3,}\s*$|<!--|-->|:(?:PROPERTIES|END):", re.IGNORECASE)
_UNDERLINE = re.compile(r"[=\-~^*+\"#]{3,}\s*$")
_PLACEHOLDER = re.compile(r"\{\{-?\s*(?:date|time|title)\s*(?::[^}\n]*)?\}\}|<%|^\{\{", re.IGNORECASE)
"""Of Obsidian, of Templater, and of any program where a value begins with one."""

_OPENINGS = {"---": ("---", "..."), "+++": ("+++",)}
_JOPLIN_TYPE = re.compile(r"\ntype_: \d+\s*$")
_LONGEST_TAIL = 4_000


@dataclass(frozen=True, slots=True)
class Property:
    """A name and what it is set to, as written, and the number of its line."""

    key: str
    value: str
    line: int


def read_properties(content: str) -> list[Property]:
    """The properties of a note in the order in which they stand.

    Known are front matter in YAML (`---`), TOML (`+++`) and JSON; fields of org (`#+DATE:`, `:CREATED:`), reStructured
    Text (`:date:`, `.. date:`), Logseq (`date::`); a block of `Date: value` lines at the beginning or below the title,
    if a blank line ends it; and what Joplin writes at the end.
    """
    head = content[:_LONGEST_HEAD]
    lines = [line.rstrip("\r") for line in head.split("\n", _MOST_LINES)[:_MOST_LINES]]
    opening = lines[0].rstrip()
    if opening in _OPENINGS:
        return list(_front_matter(lines, opening))
    if opening.startswith("{"):
        return _json(head)
    found = list(_fields(lines))
    return found or list(_joplin(content))


def has_placeholder(content: str) -> bool:
    """Is it a template: do its properties or the first line of its text leave something to be filled in?"""
    head = content[:_LONGEST_HEAD]
    lines = head.split("\n", _MOST_LINES)[:_MOST_LINES]
    opening = lines[0].rstrip()
    text = islice(lines, _end_of_front_matter(lines, opening) + 1 if opening in _OPENINGS else 0, None)
    first = next((line for line in text if line.strip()), "")
    written = [first.lstrip("# "), *(each.value.strip("\"'") for each in read_properties(head))]
    return any(_PLACEHOLDER.search(value) for value in written)


def _front_matter(lines: list[str], opening: str) -> Iterator[Property]:
    """Nothing if it is never closed. What is indented or in a table belongs to something else."""
    for number in range(1, _end_of_front_matter(lines, opening)):
        line = lines[number]
        if opening == "+++" and line.startswith("["):
            return
        found = (_YAML if opening == "---" else _TOML).match(line)
        if not found:
            continue
        value = _without_comment(found.group(2) or "")
        below = _BELOW.match(lines[number + 1]) if not value else None
        if below:
            value = _without_comment(below.group(1) or below.group(2) or "")
        yield Property(found.group(1), value, number + 1)


def _end_of_front_matter(lines: list[str], opening: str) -> int:
    """The place of the line that closes it; 0 if none does."""
    closing = _OPENINGS[opening]
    return next((number for number, line in enumerate(lines) if number and line.rstrip() in closing), 0)


def _json(head: str) -> list[Property]:
    try:
        read, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return []
    if not isinstance(read, dict):
        return []
    numbers = {line.split('"')[1]: number for number, line in enumerate(head.split("\n"), 1) if line.count('"') > 1}
    return [
        Property(key, str(value), numbers.get(key, 1))
        for key, value in read.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    ]


def _fields(lines: list[str]) -> Iterator[Property]:
    """Fields before the text begins; a title, underlined or marked, may be before them."""
    number = 0
    while number < len(lines):
        line = lines[number]
        field = _FIELD.match(line)
        if field and not _NO_PROPERTY.match(line):
            key, *value = [group for group in field.groups() if group is not None]
            yield Property(key, "".join(value).strip(), number + 1)
        elif _PLAIN.match(line):
            block = list(_block(lines, number))
            number += len(block)
            if number < len(lines) and lines[number].strip():
                return
            yield from block
        elif not _NO_PROPERTY.match(line) and not (number + 1 < len(lines) and _UNDERLINE.match(lines[number + 1])):
            return
        number += 1


def _block(lines: list[str], start: int) -> Iterator[Property]:
    """The lines from here on that are a name, a colon and a value."""
    for number, line in enumerate(islice(lines, start, None), start + 1):
        found = _PLAIN.match(line)
        if not found:
            return
        yield Property(found.group(1), found.group(2).strip(), number)


def _joplin(content: str) -> Iterator[Property]:
    tail = content[-_LONGEST_TAIL:]
    if _JOPLIN_TYPE.search(tail):
        first = content.count("\n", 0, max(0, len(content) - _LONGEST_TAIL)) + 1
        for number, line in enumerate(tail.split("\n"), first):
            if found := _YAML.match(line):
                yield Property(found.group(1), (found.group(2) or "").strip(), number)


def _without_comment(value: str) -> str:
    """The value without a comment behind it; a hash within quotation marks is none."""
    quote = value[:1]
    end = value.find(quote, 1) if quote in ("'", '"') else -1
    return value[: end + 1] if end > 0 else re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
