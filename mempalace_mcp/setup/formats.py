"""Settings as text: what a key path leads to, and how a value is put there and taken away, in JSONC, TOML and YAML.

A format edits the text and leaves every byte outside the entry as it is. `put` and `take` read what came of it and
compare it with what should have come of it, so that no mistake of a format reaches a file.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mempalace_mcp.core.errors import ConfigurationError

Key = str | int
KeyPath = tuple[Key, ...]
"""Keys of objects and positions in lists, from the outermost value inwards."""


class SettingsFault(ConfigurationError):
    """Raised when a file of settings cannot be read, understood or edited; nothing was changed.

    `line` and `column` count from 1 and are 0 where the fault has no place.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0, hint: str | None = None) -> None:
        at = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{at}{message}", hint=hint)
        self.line = line
        self.column = column


class Missing:
    """The type of `MISSING`: there is no value at a path. (None is a value.)"""


MISSING = Missing()

UNSAFE = "it is written in a way that cannot be edited safely"
BY_HAND = "Make the change by hand."


class Format(Protocol):
    """A notation of settings."""

    def read(self, text: str) -> Any:
        """The settings as plain data; None for a text without any.

        Raises:
            SettingsFault: the text is not valid.
        """

    def insert(self, text: str, path: KeyPath, value: Any) -> str:
        """The text with the value at the path; objects and lists on the way are made, a value there is replaced.

        Raises:
            SettingsFault: something else stands on the way.
        """

    def remove(self, text: str, path: KeyPath) -> str:
        """The text without what is at the path, which must be there."""


class WholeFile:
    """A file that is one value, its text: programs that a client loads."""

    def read(self, text: str) -> Any:
        """The text itself."""
        return text or None

    def insert(self, text: str, path: KeyPath, value: Any) -> str:
        """The value, whatever was there."""
        return str(value)

    def remove(self, text: str, path: KeyPath) -> str:
        """Nothing is left."""
        return ""


def format_of(file: Path) -> Format:
    """The format of a file by its suffix. JSON is read as JSONC, which clients allow in more places than they say."""
    suffix = file.suffix.lower()
    if suffix == ".toml":
        from mempalace_mcp.setup.toml_settings import Toml

        return Toml()
    if suffix in (".yaml", ".yml"):
        from mempalace_mcp.setup.yaml_settings import Yaml

        return Yaml()
    if suffix == ".js":
        return WholeFile()
    from mempalace_mcp.setup.jsonc import Jsonc

    return Jsonc()


def lookup(data: Any, path: Sequence[Key]) -> Any:
    """What stands at the path, or `MISSING`."""
    for key in path:
        is_there = key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data))
        if not is_there:
            return MISSING
        data = data[key]
    return data


def put(format: Format, text: str, path: KeyPath, value: Any) -> str:
    """The text with the value at the path, verified.

    Raises:
        SettingsFault: the text is not valid, something else stands on the way, or the edit would change other settings.
    """
    changed = format.insert(text, path, value)
    if format.read(changed) != with_value(format.read(text), path, value):
        raise SettingsFault(UNSAFE, hint=BY_HAND)
    return changed


def take(format: Format, text: str, path: KeyPath) -> str:
    """The text without what is at the path, verified.

    Raises:
        SettingsFault: the text is not valid, or the edit would change other settings.
    """
    changed = format.remove(text, path)
    if not lacks_only(format.read(text), format.read(changed), path):
        raise SettingsFault(UNSAFE, hint=BY_HAND)
    return changed


def with_value(data: Any, path: KeyPath, value: Any) -> Any:
    """A copy of the data with the value at the path.

    Raises:
        SettingsFault: something else than an object or a list stands on the way.
    """
    if not path:
        return value
    key, *rest = path
    if data is None:
        data = {} if isinstance(key, str) else []
    kind = dict if isinstance(key, str) else list
    if not isinstance(data, kind):
        names = {dict: "an object", list: "a list"}
        raise SettingsFault(f"{type(data).__name__} where {names[kind]} should be, at {key!r}")
    there = lookup(data, (key,))
    inner = with_value(None if there is MISSING else there, tuple(rest), value)
    changed: Any = copy.copy(data)
    if isinstance(changed, list) and key == len(changed):
        changed.append(inner)
    else:
        changed[key] = inner
    return changed


def without_value(data: Any, path: KeyPath) -> Any:
    """A copy of the data without what is at the path."""
    changed = copy.deepcopy(data)
    holder = lookup(changed, path[:-1])
    if path:
        del holder[path[-1]]
    return changed if path else None


def lacks_only(before: Any, after: Any, path: KeyPath) -> bool:
    """Is what was at the path all that went, with objects around it that held nothing else?"""
    for length in range(len(path), -1, -1):
        expected = without_value(before, path[:length])
        if (after or None) == (expected or None):
            return True
        if length > 1 and after == with_value(expected, path[: length - 1], None):  # an object of YAML with no members
            return True
        if length and lookup(expected, path[: length - 1]):
            return False
    return False


def nested(keys: Sequence[Key], value: Any) -> Any:
    """The value within the objects and lists that the keys lead through."""
    for key in reversed(keys):
        value = {key: value} if isinstance(key, str) else [value]
    return value


def existing(data: Any, path: KeyPath) -> KeyPath:
    """As much of the path as leads to something."""
    for length in range(len(path), 0, -1):
        if lookup(data, path[:length]) is not MISSING:
            return path[:length]
    return ()


def place_in(text: str, index: int) -> tuple[int, int]:
    """Line and column of a character, counted from 1."""
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def newline_of(text: str) -> str:
    """How the lines of the text end."""
    return "\r\n" if "\r\n" in text else "\n"
