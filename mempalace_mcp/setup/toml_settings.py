"""TOML, edited as text: a table is added at the end of the file, where any table may stand, and cut out again.

No library writes the text: tomlkit moves keys of others into the new table where dotted keys come before it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from mempalace_mcp.setup.formats import (
    MISSING,
    KeyPath,
    SettingsFault,
    lacks_only,
    lookup,
    newline_of,
    place_in,
    without_value,
)

_HEADER = re.compile(r"^[ \t]*\[(?P<keys>[^\[\]\r\n#]+)\][^\r\n]*", re.MULTILINE)
_ANY_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Toml:
    """See `formats.Format`. A path leads to a table; its values are texts, numbers and lists of them."""

    def read(self, text: str) -> Any:
        """The settings as plain data; None for a text without any.

        Raises:
            SettingsFault: it is not valid.
        """
        try:
            return tomllib.loads(text.replace("\r\n", "\n")) or None
        except tomllib.TOMLDecodeError as error:
            found = _PLACE.search(str(error))
            line, column = (int(found[1]), int(found[2])) if found else place_in(text, len(text))
            message = str(error).partition(" (at ")[0]
            raise SettingsFault(f"{message[0].lower()}{message[1:]}", line=line, column=column) from error
        except RecursionError as error:
            raise SettingsFault("it is nested too deeply") from error

    def insert(self, text: str, path: KeyPath, value: Any) -> str:
        """The text with a table at the path.

        Raises:
            SettingsFault: the table around it is written in one line, or is no table.
        """
        if isinstance(lookup(self.read(text), path), dict):
            text = self.remove(text, path)
        newline = newline_of(text)
        lines = [f"[{'.'.join(_key(str(key)) for key in path)}]"]
        lines += [f"{_key(key)} = {_value(each)}" for key, each in value.items()]
        table = newline.join(lines)
        if not text:
            return table + newline
        changed = f"{text}{newline}{table}{newline}" if text.endswith("\n") else f"{text}{newline * 2}{table}"
        try:
            self.read(changed)
        except SettingsFault as error:
            hint = f"Add this by hand: {' '.join(lines)}"
            raise SettingsFault(f"{path[0]} is written in one line or is no table", hint=hint) from error
        return changed

    def remove(self, text: str, path: KeyPath) -> str:
        """The text without the table at the path and the tables within it.

        Raises:
            SettingsFault: it is not written as tables of their own.
        """
        before = self.read(text)
        for start, end in _tables(text, path):
            changed = _without(text, start, end)
            try:
                after = self.read(changed)
            except SettingsFault:  # what looks like a table is a part of a text
                continue
            if lacks_only(before, after, path):
                return changed
            rest = lookup(after, path)
            if rest not in (MISSING, lookup(before, path)) and without_value(before, path) == without_value(
                after, path
            ):
                return self.remove(changed, path)  # it has more tables
        raise SettingsFault(f"{'.'.join(map(str, path))} is not written as a table", hint="Remove it by hand.")


def _tables(text: str, path: KeyPath) -> Iterator[tuple[int, int]]:
    """From where to where what looks like the table stands, or a table within it."""
    for header in _HEADER.finditer(text):
        try:
            table = tomllib.loads(f"[{header['keys']}]")
        except tomllib.TOMLDecodeError:
            continue
        if lookup(table, path) is not MISSING:
            following = _ANY_HEADER.search(text, header.end())
            yield header.start(), _last_line(text, header.start(), following.start() if following else len(text))


def _last_line(text: str, start: int, limit: int) -> int:
    """Behind the last line with a value; blank lines and comments after it belong to what follows."""
    end = start
    position = start
    for line in text[start:limit].splitlines(keepends=True):
        position += len(line)
        if line.strip() and not line.lstrip().startswith("#"):
            end = position
    return end


def _without(text: str, start: int, end: int) -> str:
    """The text without a table, and without the blank line before it."""
    before, after = text[:start], text[end:]
    newline = newline_of(text)
    if before.endswith(newline * 2):
        before = before[: -len(newline)]
    elif before == newline:
        before = ""
    if not after and not text.endswith("\n"):
        before = before.removesuffix(newline)
    return before + after


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    """Texts, numbers, true and false are written as in JSON, lists of them too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
