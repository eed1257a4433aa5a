"""Patterns of `.gitignore` files, matched as Git does.

They are matched as bytes: `?` is one byte of a letter that has two. The time of a match is bounded by the length of
the pattern times that of the path. A pattern becomes a regular expression with atomic groups: text after `*` is matched
at its first place in the name, text after `**` at the first folder. No other place is tried, since none could succeed
where the first fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_LINE = 8 * 1024
"""Bytes of a pattern; twice as many as a path may have."""

_SPECIAL = b"*?[\\"
_SLASH = ord("/")
_NOTHING = b"(?!)"
_ANY = b"[^/]"

_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]", b"alpha": rb"[A-Za-z]", b"blank": rb"[ \t]", b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]", b"graph": rb"[!-~]", b"lower": rb"[a-z]", b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]", b"space": rb"[ \t\n\r]", b"upper": rb"[A-Z]", b"xdigit": rb"[0-9A-Fa-f]",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a `.gitignore`: what it matches, and whether that is left out or taken in again."""

    expression: re.Pattern[bytes]
    takes_in: bool
    folders_only: bool
    by_name: bool
    """Is it compared with the name alone, in whatever folder that is?"""

    def matches(self, path: bytes, name: bytes, *, is_folder: bool) -> bool:
        """Does it match a path, given from the folder of its `.gitignore` on, that ends with this name?"""
        if self.folders_only and not is_folder:
            return False
        return self.expression.fullmatch(name if self.by_name else path) is not None


def read_patterns(data: bytes) -> tuple[Pattern, ...]:
    """The patterns of a file, the last one first: it is the first that matches in this order that counts.

    Lines of more than `LONGEST_LINE` bytes are left out.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    patterns = (_read_line(line.removesuffix(b"\r")) for line in reversed(lines) if len(line) <= LONGEST_LINE)
    return tuple(pattern for pattern in patterns if pattern is not None)


def _read_line(line: bytes) -> Pattern | None:
    """The pattern, or None for a comment and for what can match nothing."""
    if line.startswith(b"#"):
        return None
    text = _without_trailing_spaces(line.split(b"\0", 1)[0])
    takes_in = text.startswith(b"!")
    text = text.removeprefix(b"!")
    folders_only = text.endswith(b"/")
    text = text.removesuffix(b"/")
    by_name = b"/" not in text
    expression = _compile(text.removeprefix(b"/")) if text else None
    return Pattern(expression, takes_in, folders_only, by_name) if expression else None


def _without_trailing_spaces(line: bytes) -> bytes:
    """A space behind a backslash stays."""
    stripped = line.rstrip(b" ")
    backslashes = len(stripped) - len(stripped.rstrip(b"\\"))
    return stripped + b" " if backslashes % 2 and len(stripped) < len(line) else stripped


def _compile(text: bytes) -> re.Pattern[bytes] | None:
    written = _Translation(text).expression()
    return None if written is None else re.compile(written, re.DOTALL)


class _Translation:
    """A pattern being turned into a regular expression, block by block: a block is what lies between two `**`."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._place = 0
        special = (self._text.find(bytes([byte])) for byte in _SPECIAL)
        self._first_special = min((place for place in special if place >= 0), default=len(text))

    def expression(self) -> bytes | None:
        """The regular expression, or None if nothing can match."""
        blocks = [self._block()]
        openings: list[bytes] = []
        while self._place < len(self._text):
            openings.append(self._opening())
            blocks.append(self._block())
        if any(_NOTHING in block for block in blocks):
            return None
        if not openings:
            return blocks[0]
        middle = [b"(?>%b%b)" % pair for pair in zip(openings[:-1], blocks[1:-1], strict=True)]
        return b"".join([blocks[0], *middle, openings[-1], blocks[-1]])

    def _opening(self) -> bytes:
        """What a `**` that stands for folders may match, taking in the slash behind it."""
        self._place += len(self._stars())
        if self._text.startswith(b"/", self._place):
            self._place += 1
            return b"(?:[^/]*/)*?"
        if self._text.startswith(b"\\/", self._place):
            self._place += 2
            return b"(?:[^/]*/)+?"
        return b".*"

    def _block(self) -> bytes:
        """Everything up to the next `**` that stands for folders, or to the end: names, with `*` in them or not."""
        names: list[bytes] = []
        pieces = [b""]
        while self._place < len(self._text) and not self._at_folders():
            if stars := self._stars():
                self._place += len(stars)
                pieces.append(b"")
                continue
            item = self._item()
            if item == b"/":
                names.append(_name(pieces))
                pieces = [b""]
            else:
                pieces[-1] += item
        return b"/".join([*names, _name(pieces)])

    def _at_folders(self) -> bool:
        """Is this a `**` between slashes? Git takes the first wildcard of all for the beginning of the pattern."""
        stars = self._stars()
        if len(stars) < 2:
            return False
        begins = self._place <= self._first_special or self._text[self._place - 1] == _SLASH
        behind = self._text[self._place + len(stars) :][:2]
        return begins and (behind == b"" or behind.startswith((b"/", b"\\/")))

    def _stars(self) -> bytes:
        end = self._place
        while self._text.startswith(b"*", end):
            end += 1
        return self._text[self._place : end]

    def _item(self) -> bytes:
        """One character, or what may stand for it."""
        character = self._text[self._place : self._place + 1]
        self._place += 1
        if character == b"?":
            return _ANY
        if character == b"[":
            return self._class()
        if character == b"\\":
            character = self._text[self._place : self._place + 1]
            self._place += 1
            return re.escape(character) if character else _NOTHING
        return re.escape(character)

    def _class(self) -> bytes:
        """A class in brackets; the slash is in none."""
        negated = self._text.startswith((b"!", b"^"), self._place)
        self._place += negated
        members: set[int] = set()
        end = _read_members(self._text, self._place, members)
        if end is None:
            self._place = len(self._text)
            return _NOTHING
        self._place = end
        chosen = (set(range(256)) - members if negated else members) - {_SLASH, 0}
        return _any_of(chosen) if chosen else _NOTHING


def _any_of(members: set[int]) -> bytes:
    starts = [byte for byte in sorted(members) if byte - 1 not in members]
    stops = [byte for byte in sorted(members) if byte + 1 not in members]
    return b"[%b]" % b"".join(b"\\x%02x-\\x%02x" % pair for pair in zip(starts, stops, strict=True))


def _name(pieces: list[bytes]) -> bytes:
    """A name with `*` between the pieces: all but the last are taken at their first place."""
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    return first + b"".join(b"(?>[^/]*?%b)" % piece for piece in middle if piece) + b"[^/]*" + last


def _read_members(text: bytes, place: int, members: set[int]) -> int | None:
    """Read the members of a class as Git does; the place behind its bracket, or None if it is malformed."""
    previous = 0
    first = True
    while first or not text.startswith(b"]", place):
        first = False
        if place >= len(text):
            return None
        byte = text[place]
        if byte == ord("\\"):
            place += 1
            if place >= len(text):
                return None
            byte = text[place]
            members.add(byte)
        elif byte == ord("-") and previous and text[place + 1 : place + 2] not in (b"", b"]"):
            place += 1
            if text.startswith(b"\\", place):
                place += 1
                if place >= len(text):
                    return None
            members.update(range(previous, text[place] + 1))
            byte = 0
        elif text.startswith(b"[:", place) and (named := _named_class(text, place)):
            place, inside = named
            if inside is None:
                return None
            members.update(inside)
            byte = 0
        else:
            members.add(byte)
        previous = byte
        place += 1
    return place + 1


def _named_class(text: bytes, place: int) -> tuple[int, Iterator[int] | None] | None:
    """Where `[:name:]` ends and what is in it, None if there is no such class; nothing if it is no name."""
    end = text.find(b"]", place + 2)
    if end < 0:
        return place, None
    if end == place + 2 or text[end - 1 : end] != b":":
        return None
    expression = _CLASSES.get(text[place + 2 : end - 1])
    if expression is None:
        return end, None
    return end, (byte for byte in range(256) if re.fullmatch(expression, bytes([byte])))
