"""Files: opening them safely, decoding them, and cutting them into documents and records.

Paths are resolved once, when they are found. Later each name is opened in the open folder above it, from the root of
the file system on, and no symbolic link is followed. So a folder that was exchanged for a link meanwhile is an error.

A text that is too long for one drawer is cut into parts. The parts one after the other are the text.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from mempalace_mcp.core.blobs import find_blobs
from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.chunking import between_characters


@dataclass(frozen=True, slots=True)
class Said:
    """What a record of a transcript says, or a piece of it if it is long.

    The `key` is that of the record and the same in every file that holds it; the `digest` is of the text. What was
    queued may have been filed under the key `before`.
    """

    key: int
    digest: int
    speaker: str
    text: str
    said_at: Instant | None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One drawer to be.

    A document of a transcript is known by the keys of what was `said` in it. One of any other file is known by
    `source_file` and `key`: the key is unique within its file, empty when the file is one document, and stays when
    other parts of the file change. The content is never blank and can be stored as it is.
    """

    key: str
    room: str
    content: str
    source_file: str
    occurred_at: Instant | None
    metadata: Metadata
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or folder left out, wholly or from some point on, and why. Reasons are few, so that they can be counted.

    Where one is yielded, documents missing from the file prove nothing: what was filed from it before should stay.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedLines:
    """Lines of which something was left out or replaced, for one reason: how many, and the numbers (from 1) of the
    first few.

    Of a note it is a date that is not taken, without a line if it is in its name.
    """

    path: str
    reason: str
    count: int
    first: tuple[int, ...]


Problem = SkippedFile | SkippedLines


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read, by its real path, what its documents say of where they come from, the zone of its dates."""

    path: Path
    room: str
    zone: Zone = UTC_ZONE

    @property
    def name(self) -> str:
        """The `source_file` of its documents."""
        return str(self.path)

    def skipped(self, reason: str) -> SkippedFile:
        """The whole file is left out."""
        return SkippedFile(self.name, reason)


Importer = Callable[[Source], Iterator[Document | Problem]]
"""Reads one kind of file. An OSError may escape from it at any point."""

_IS_CONFINED = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a FIFO would wait for its writer
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_PASSAGE = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


def open_regular_file(path: Path) -> int:
    """A descriptor to read a file by; it may be a device or a pipe, and has not been waited for.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FILE)


def open_folder(path: Path) -> int:
    """A descriptor to list a folder by.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FOLDER)


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Does this real path lie in one of the folders, or is it one of them?"""
    return any(path.is_relative_to(os.path.realpath(folder)) for folder in folders)


def _open(path: Path, flags: int) -> int:
    if not _IS_CONFINED:
        return os.open(path, flags)
    folder = os.open(path.anchor, _PASSAGE)
    try:
        *passages, name = path.parts[1:] or (".",)
        for passage in passages:
            inner = os.open(passage, _PASSAGE | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


MEBIBYTE = 1024 * 1024
LARGEST_TEXT = 2 * MEBIBYTE

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file without its byte order mark, and the encoding it was in."""

    content: str
    encoding: str


def open_file(source: Source, largest: int) -> BinaryIO | SkippedFile:
    """Open a regular file of at most `largest` bytes at its real path; the caller closes it.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = open_regular_file(source.path)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= largest:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        return source.skipped(f"larger than {largest // MEBIBYTE} MiB")
    return source.skipped("not a regular file")


def read_text(source: Source) -> Text | SkippedFile:
    """The whole text of a file of at most `LARGEST_TEXT` bytes in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        OSError: it cannot be opened or read.
    """
    file = open_file(source, LARGEST_TEXT)
    if isinstance(file, SkippedFile):
        return file
    with file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        return source.skipped(f"larger than {LARGEST_TEXT // MEBIBYTE} MiB")
    return _decode(source, data)


def _decode(source: Source, data: bytes) -> Text | SkippedFile:
    encoding = "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif data.startswith(_UTF_16):
        encoding = "utf-16"
    elif b"\0" in data:
        return source.skipped("binary")
    try:
        content = data.decode(encoding)
    except UnicodeDecodeError:
        return source.skipped("not UTF-16" if encoding == "utf-16" else "not UTF-8")
    if "\0" in content:
        return source.skipped("binary")
    return Text(content, encoding) if content.strip() else source.skipped("no text")


def unstorable(text: str) -> str | None:
    """Why the palace could not keep this text byte for byte, or None if it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    return None


def real_path(path: Path) -> Path | SkippedFile:
    """The one path of a file, whatever leads to it; it must be storable, for it becomes the source of a drawer."""
    fault = unstorable(str(path)) or unstorable(os.path.realpath(path))
    return Path(os.path.realpath(path)) if fault is None else SkippedFile(printable(str(path)), f"its name {fault}")


def printable(path: str) -> str:
    """A path that can be shown and stored, whatever bytes the file system has in it."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


LONGEST_LINE = 16 * MEBIBYTE

NOT_JSON = "not JSON"
NOT_AN_OBJECT = "not a JSON object"
NOT_UTF_8 = "not UTF-8, replaced by U+FFFD"
NUL_BYTES = "NUL bytes between records"

_SHOWN = 10
_BEGINNING = re.compile(r'\{\s*"[A-Za-z_]{1,40}"\s*:')
_INSIDE = re.compile(r"\s*[,}\]]")  # what follows an object that is part of another one
_MARKS = frozenset({"sessionId", "session_id", "leafUuid", "snapshot", "message"})
_BETWEEN = "\0 \t\r\n,[\N{BYTE ORDER MARK}"
"""What may stand before a record that is part of no other one."""
_MOST_SCANNED = 8
"""How often, at most, the length of a damaged line is gone over in search of whole records."""
_DEEPEST = 5_000  # characters: about as far as the parser gets before it gives up on nesting

Record = Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """Lines with a fault, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, number: int) -> None:
        """Count a line once for each reason, and remember its number if it is among the first."""
        numbers = self.first.setdefault(reason, [])
        if numbers and numbers[-1] == number:
            return
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(numbers) < _SHOWN:
            numbers.append(number)

    def report(self, path: str) -> Iterator[SkippedLines]:
        """One problem for each reason."""
        for reason, count in self.counts.items():
            yield SkippedLines(path, reason, count, tuple(self.first[reason]))


def is_record(record: Record) -> bool:
    """Does the object look like a line of a transcript at all?"""
    return isinstance(record.get("type"), str) and not _MARKS.isdisjoint(record)


def read_records(file: BinaryIO, tally: Tally) -> Iterator[tuple[int, Record]]:
    """Line numbers, from 1, and the objects on them; what is no object is tallied.

    Of a damaged line every whole record is salvaged. What a last line that is not finished lacks is left out without a
    word: its session is still being written.

    Raises:
        OSError: the file cannot be read on.
    """
    for number, line in _numbered(file, tally):
        ends = line.endswith(b"\n")
        if line.startswith(codecs.BOM_UTF8):
            line = line[len(codecs.BOM_UTF8) :]
        record = _parsed(line)
        if isinstance(record, dict):
            yield number, record
        elif isinstance(record, list) and any(isinstance(each, dict) and is_record(each) for each in record):
            yield from ((number, each) for each in record if isinstance(each, dict))
        elif record is not None:
            if ends:
                tally.add(NOT_AN_OBJECT, number)
        else:
            yield from ((number, each) for each in _salvaged(line, number, tally if ends else Tally()))


def _parsed(line: bytes) -> Any:
    """What the line holds, if it is JSON from end to end, else None."""
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # also numbers and nesting beyond what the parser takes
        return None


def _salvaged(line: bytes, number: int, tally: Tally) -> Iterator[Record]:
    """The whole records on a damaged line, and a tally of what else there is."""
    text = line.decode("utf-8", "replace")
    is_broken = "\N{REPLACEMENT CHARACTER}" in text and b"\xef\xbf\xbd" not in line
    whole = _object(text.strip()) if is_broken else None
    if whole is not None:
        tally.add(NOT_UTF_8, number)
        yield whole
        return
    position, budget = 0, _MOST_SCANNED * len(text)
    between: list[str] = []
    start = 0
    while budget > 0 and (match := _BEGINNING.search(text, start)) is not None:
        is_outermost = not text[position : match.start()].strip(_BETWEEN)
        found, stop = _decoded(text, match.start(), is_outermost)
        budget -= stop - match.start()
        if found is None:
            start = match.start() + 1
            continue
        between.append(text[position : match.start()])
        if "\N{REPLACEMENT CHARACTER}" in text[match.start() : stop]:
            tally.add(NOT_UTF_8, number)
        yield found
        position = start = stop
    rest = "".join((*between, text[position:])).replace("\N{BYTE ORDER MARK}", "")
    if rest.strip("\0 \t\r\n"):
        tally.add(NOT_JSON, number)
    elif "\0" in rest:
        tally.add(NUL_BYTES, number)


def _object(text: str) -> Record | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _decoded(text: str, start: int, is_outermost: bool) -> tuple[Record | None, int]:
    """The record that begins there, if it is one and whole, and how far it was read. Control characters in its texts
    are taken as they are, but for NUL, by which something was overwritten."""
    try:
        value, stop = _DECODER.raw_decode(text, start)
    except RecursionError:
        return None, start + _DEEPEST
    except json.JSONDecodeError as error:
        return None, len(text) if error.msg.startswith("Unterminated") else max(error.pos, start + 1)
    except ValueError:  # a number that is too long
        return None, len(text)
    is_whole = isinstance(value, dict) and is_record(value) and ("uuid" in value or "sessionId" in value)
    is_whole = is_whole and (is_outermost or not _INSIDE.match(text, stop)) and "\0" not in text[start:stop]
    return (value if is_whole else None), stop if is_whole else start + 1 + (stop - start) // 2


_DECODER = json.JSONDecoder(strict=False)


def _numbered(file: BinaryIO, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Lines that are neither blank nor longer than `LONGEST_LINE`."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            tally.add(f"longer than {LONGEST_LINE // MEBIBYTE} MiB", number)
            while line and not line.endswith(b"\n"):
                line = file.readline(MEBIBYTE)
        elif not line.isspace():
            yield number, line


_SEPARATORS = ("\n\n", "\n", " ")
_MOST_BYTES = 4
"""Of one character in UTF-8. A blob has one byte a character."""


def cut(text: str, longest: int) -> Iterator[str]:
    """Parts of about `longest` characters at most, ending at a paragraph, a line or a space where there is one.

    Blobs (`core/blobs.py`) do not count, and are cut only where a part would have more bytes than a drawer may have.
    """
    cutter = _Cutter(text, longest)
    start = 0
    while (stop := cutter.stop(start)) < len(text):
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def fits(text: str, longest: int) -> bool:
    """Would the text be left whole?"""
    return len(text) <= longest or _Cutter(text, longest).stop(0) == len(text)


class _Cutter:
    """One text with the measures that its parts need."""

    def __init__(self, text: str, longest: int) -> None:
        self._text = text
        self._longest = longest
        self._most = max(longest, MAX_CONTENT_BYTES - _MOST_BYTES * (longest + 1))
        self._blobs = find_blobs(text)
        self._starts = [blob.start for blob in self._blobs]
        lengths = (blob.stop - blob.start for blob in self._blobs)
        self._lengths = list(accumulate(lengths, initial=0))
        # where each blob begins in the text without blobs
        self._places = [blob.start - before for blob, before in zip(self._blobs, self._lengths, strict=False)]

    def stop(self, start: int) -> int:
        """Where the part that begins here ends."""
        farthest = self._reach(start, self._longest)
        if farthest == len(self._text):
            return farthest
        middle = self._reach(start, self._longest // 2)
        for separator in _SEPARATORS:
            found = self._last(separator, middle, farthest)
            if found > start:
                return found
        return between_characters(self._text, farthest)

    def _reach(self, start: int, longest: int) -> int:
        """The farthest position with no more than so many characters that count before it; behind a blob there."""
        index = bisect_right(self._starts, start)
        inside = max(0, self._blobs[index - 1].stop - start) if index else 0
        place = start + inside - self._lengths[index] + longest
        passed = bisect_right(self._places, place)
        return min(place + self._lengths[passed], start + self._most, len(self._text))

    def _last(self, separator: str, low: int, high: int) -> int:
        """Behind the last such separator in a range that is in no blob, or -1."""
        while (found := self._text.rfind(separator, low, high)) >= 0:
            index = bisect_right(self._starts, found) - 1
            if index < 0 or self._blobs[index].stop <= found:
                return found + len(separator)
            high = self._starts[index]
        return -1
