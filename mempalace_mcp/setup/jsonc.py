"""JSON with comments and trailing commas, edited as text.

Comments and trailing commas are blanked, which leaves JSON of the same length: the standard decoder reads it, and tells
where each value ends. Nothing here parses JSON itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.setup.formats import Key, KeyPath, SettingsFault, existing, lookup, nested, newline_of, place_in

_STRING = r'"(?:\\.|[^"\\\r\n])*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\r\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_STRING}|,(?=[ \t\r\n]*[}}\]])", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_INDENTED_KEY = re.compile(r'^([ \t]+)"', re.MULTILINE)
_BEFORE_A_COMMA_IS_WRONG = frozenset("{[,:")


class Jsonc:
    """See `formats.Format`."""

    def read(self, text: str) -> Any:
        """The settings as plain data; None for a text of blanks and comments.

        Raises:
            SettingsFault: it is not valid.
        """
        return _Document(text).data

    def insert(self, text: str, path: KeyPath, value: Any) -> str:
        """The text with the value at the path: as the last of its object or list, or in place of what is there.

        Raises:
            SettingsFault: something else stands on the way.
        """
        document = _Document(text)
        if document.data is None:
            lines = json.dumps(nested(path, value), indent=2, ensure_ascii=False).replace("\n", document.newline)
            begun = text if not text or text.endswith("\n") else text + document.newline
            return f"{begun}{lines}{document.newline}"
        there = existing(document.data, path)
        if there == path:
            return document.replaced(path, value)
        key = path[len(there)]
        kind, name = (dict, "an object") if isinstance(key, str) else (list, "a list")
        if not isinstance(lookup(document.data, there), kind):
            shown = ".".join(map(str, there)) or "the file"
            line, column = place_in(text, document.container(there).start)
            raise SettingsFault(f"{shown} is not {name}", line=line, column=column)
        return document.extended(there, key, nested(path[len(there) + 1 :], value))

    def remove(self, text: str, path: KeyPath) -> str:
        """The text without what is at the path, which must be there; comments stay."""
        return _Document(text).reduced(path)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object or list. `start` is where its key begins, of an element of a list the value."""

    key: Key
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Container:
    """An object or list: its members, and from its opening bracket to behind its closing one."""

    start: int
    end: int
    members: tuple[_Member, ...]
    is_spread: bool


class _Document:
    """A text, the same text without comments (`bare`) and without trailing commas too (`plain`), and what it says.

    Raises:
        SettingsFault: it is not valid.
    """

    def __init__(self, text: str) -> None:
        self.text = self.bare = self.plain = text
        self.newline = newline_of(text)
        try:
            self.data = _load(text)  # large files are JSON as a rule, and have nothing to blank
        except SettingsFault:
            self.bare = _COMMENT.sub(_without_comment, text)
            self.plain = _TRAILING_COMMA.sub(self._without_comma, self.bare)
            self.data = _load(self.plain)

    def _without_comma(self, found: re.Match[str]) -> str:
        before = found.start() - 1
        while before >= 0 and self.bare[before] in " \t\r\n":
            before -= 1
        is_wrong = before < 0 or self.bare[before] in _BEFORE_A_COMMA_IS_WRONG
        return found[0] if found[0][0] == '"' or is_wrong else " "

    def container(self, path: KeyPath) -> _Container:
        """Where the value at a path is, with its members if it has any."""
        start, end, outer = _SPACE.match(self.plain).end(), len(self.plain), True  # type: ignore[union-attr]
        members: tuple[_Member, ...] = ()
        for step in range(len(path) + 1):
            members = tuple(self._members(start))
            close = _SPACE.match(self.plain, members[-1].end if members else start + 1).end()  # type: ignore[union-attr]
            is_container = self.plain[start] in "{["
            end = close + 1 if is_container else end
            outer = "\n" in self.text[start:end] or (not members and outer)
            if step < len(path):
                # Of keys that occur twice the last one counts, as for every reader of JSON.
                member = next(each for each in reversed(members) if each.key == path[step])
                start, end = member.value, member.end
        return _Container(start, end, members, outer)

    def _members(self, start: int) -> Iterator[_Member]:
        plain, decoder = self.plain, json.JSONDecoder()
        is_object = plain[start] == "{"
        position, count = start + 1, 0
        while plain[start] in "{[":
            begin = _SPACE.match(plain, position).end()  # type: ignore[union-attr]
            if plain[begin] in "}]":
                return
            key: Key = count
            value = begin
            if is_object:
                key, position = decoder.raw_decode(plain, begin)
                value = _SPACE.match(plain, plain.index(":", position) + 1).end()  # type: ignore[union-attr]
            _, end = decoder.raw_decode(plain, value)
            yield _Member(key, begin, value, end)
            position, count = _SPACE.match(plain, end).end(), count + 1  # type: ignore[union-attr]
            if plain[position] != ",":
                return
            position += 1

    def replaced(self, path: KeyPath, value: Any) -> str:
        """The text with another value at a path."""
        if not path:
            return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", self.newline)
        holder = self.container(path[:-1])
        member = next(each for each in reversed(holder.members) if each.key == path[-1])
        written = self._written(value, self._indent_at(member.start), "\n" in self.text[holder.start : holder.end])
        return self.text[: member.value] + written + self.text[member.end :]

    def extended(self, path: KeyPath, key: Key, value: Any) -> str:
        """The text with one more member at the end of the object or list at a path."""
        text, holder = self.text, self.container(path)
        close, outside = holder.end - 1, self._indent_at(holder.start)
        last = holder.members[-1] if holder.members else None
        indent = self._indent_at(last.start) if last and self._begins_line(last.start) else outside + self._unit
        name = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(key, str) else ""
        entry = name + self._written(value, indent, holder.is_spread)
        before = self.newline + indent if holder.is_spread else " "
        if last is not None:
            has_comma = self.bare.find(",", last.end, close) >= 0
            at = last.end + len(text[last.end : close].rstrip())
            comma, trailing = ("", ",") if has_comma else (",", "")
            return text[: last.end] + comma + text[last.end : at] + before + entry + trailing + text[at:]
        inside = text[holder.start + 1 : close]
        at = holder.start + 1 + len(inside.rstrip())
        if not inside.strip():
            around = (before, self.newline + outside) if holder.is_spread else ("", "")
            return text[:at] + around[0] + entry + around[1] + text[at:]
        return text[:at] + before + entry + text[at:]

    def reduced(self, path: KeyPath) -> str:
        """The text without the member at a path."""
        holder = self.container(path[:-1])
        position = max(place for place, each in enumerate(holder.members) if each.key == path[-1])
        member = holder.members[position]
        before = holder.members[position - 1].end if position else holder.start + 1
        after = holder.members[position + 1].start if position + 1 < len(holder.members) else holder.end - 1
        end, comma = member.end, self.bare.find(",", member.end, after)
        if comma < 0 and position:
            comma = self.bare.find(",", before, member.start)
        if len(holder.members) == 1 and comma < 0 and not self.text[before : member.start].strip():
            closing = self.newline + self._indent_at(holder.start)
            end += len(closing) if self.text[end:after].startswith(closing) else 0
        # The comment of a line ends with it: where one stands before, the line has to go on ending there.
        starts = (before + len(self.text[before : member.start].rstrip()), member.start)
        texts = [_cut(self.text, comma, start, end) for start in starts]
        return next((each for each in texts if _is_valid(each)), texts[0])

    def _written(self, value: Any, indent: str, is_spread: bool) -> str:
        if not is_spread:
            return json.dumps(value, ensure_ascii=False)
        return json.dumps(value, indent=self._unit, ensure_ascii=False).replace("\n", self.newline + indent)

    @property
    def _unit(self) -> str:
        """By how much the text indents."""
        found = _INDENTED_KEY.search(self.text)
        return (
            found[1].removeprefix(self._indent_at(len(self.plain) - len(self.plain.lstrip()))) or "  "
            if found
            else "  "
        )

    def _begins_line(self, position: int) -> bool:
        return not self.text[self.text.rfind("\n", 0, position) + 1 : position].strip(" \t")

    def _indent_at(self, position: int) -> str:
        """The blanks at the beginning of the line."""
        begin = self.text.rfind("\n", 0, position) + 1
        line = self.text[begin:position]
        return line[: len(line) - len(line.lstrip(" \t"))]


def _load(text: str) -> Any:
    """What JSON says; None if it says nothing.

    Raises:
        SettingsFault: it is not valid.
    """
    if not text.strip(" \t\r\n"):
        return None
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        message = f"{error.msg[0].lower()}{error.msg[1:]}"
        raise SettingsFault(message, line=error.lineno, column=error.colno) from error
    except RecursionError as error:
        raise SettingsFault("it is nested too deeply") from error
    except ValueError as error:
        raise SettingsFault(f"{error}") from error


def _without_comment(found: re.Match[str]) -> str:
    """Blanks for a comment, with its line ends; a text stays.

    Raises:
        SettingsFault: the comment is not closed.
    """
    if found[0][0] == '"':
        return found[0]
    if found[0].startswith("/*") and not (found[0].endswith("*/") and len(found[0]) > 3):
        line, column = place_in(found.string, found.start())
        raise SettingsFault("a comment is not closed", line=line, column=column)
    return re.sub(r"[^\r\n]", " ", found[0])


def _refuse(name: str) -> Any:
    raise SettingsFault(f"{name} is not a value of JSON")


def _cut(text: str, comma: int, start: int, end: int) -> str:
    """The text without a part and without a comma before or behind it."""
    if comma < 0:
        return text[:start] + text[end:]
    if comma < start:
        return text[:comma] + text[comma + 1 : start] + text[end:]
    if comma < end:  # the blanks between were cut already
        return text[:start] + text[end:]
    return text[:start] + text[end:comma] + text[comma + 1 :]


def _is_valid(text: str) -> bool:
    try:
        return _Document(text).data is not None
    except SettingsFault:
        return False
