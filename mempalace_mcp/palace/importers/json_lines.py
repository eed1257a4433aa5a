"""JSON Lines: the objects in a file, one a line. Damaged lines are counted; whole objects in them are kept."""

from __future__ import annotations

import codecs
import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from mempalace_mcp.palace.importers.documents import SkippedLines
from mempalace_mcp.palace.importers.files import MEBIBYTE

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
_KIND = re.compile(rb'\{"type":"([a-z-]+)"')
_SESSION = b'"sessionId":'

Record = Mapping[str, Any]


@dataclass(slots=True)
class LineFaults:
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


def read_records(
    file: BinaryIO, faults: LineFaults, noise: frozenset[bytes] = frozenset(), before: int = 0
) -> Iterator[tuple[int, Record]]:
    """Line numbers and the objects on them, from the file's place on, before which there are `before` lines.

    What is no object is counted. Lines that begin with a `type` of `noise` are left out without being parsed.

    Of a damaged line every whole record is salvaged. What a last line that is not finished lacks is left out without a
    word: its session is still being written.

    Raises:
        OSError: the file cannot be read on.
    """
    for number, line in _numbered(file, faults, before):
        if noise and _is_noise(line, noise):
            continue
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
                faults.add(NOT_AN_OBJECT, number)
        else:
            yield from ((number, each) for each in _salvaged(line, number, faults if ends else LineFaults()))


def _is_noise(line: bytes, noise: frozenset[bytes]) -> bool:
    """Does a record of such a type stand on the line, and no other one behind it, as after a crash?"""
    kind = _KIND.match(line)
    return kind is not None and kind.group(1) in noise and line.count(_SESSION) < 2


def _parsed(line: bytes) -> Any:
    """What the line holds, if it is JSON from end to end, else None."""
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # also numbers and nesting beyond what the parser takes
        return None


def _salvaged(line: bytes, number: int, faults: LineFaults) -> Iterator[Record]:
    """The whole records on a damaged line, and a faults of what else there is."""
    text = line.decode("utf-8", "replace")
    is_broken = "\N{REPLACEMENT CHARACTER}" in text and b"\xef\xbf\xbd" not in line
    whole = _object(text.strip()) if is_broken else None
    if whole is not None:
        faults.add(NOT_UTF_8, number)
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
            faults.add(NOT_UTF_8, number)
        yield found
        position = start = stop
    rest = "".join((*between, text[position:])).replace("\N{BYTE ORDER MARK}", "")
    if rest.strip("\0 \t\r\n"):
        faults.add(NOT_JSON, number)
    elif "\0" in rest:
        faults.add(NUL_BYTES, number)


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
        return None, start + _reach()
    except json.JSONDecodeError as error:
        return None, len(text) if error.msg.startswith("Unterminated") else max(error.pos, start + 1)
    except ValueError:  # a number that is too long
        return None, len(text)
    is_whole = isinstance(value, dict) and is_record(value) and ("uuid" in value or "sessionId" in value)
    is_whole = is_whole and (is_outermost or not _INSIDE.match(text, stop)) and "\0" not in text[start:stop]
    return (value if is_whole else None), stop if is_whole else start + 1 + (stop - start) // 2


_DECODER = json.JSONDecoder(strict=False)


@functools.cache
def _reach() -> int:
    """Characters, about, that the parser reads before it gives up on nesting. No limit of `sys` tells it: Python 3.13
    goes ten times as deep as 3.11."""
    levels = 1_000
    with suppress(RecursionError):
        while levels < MEBIBYTE:
            json.loads("[" * levels + "]" * levels)
            levels *= 2
    return levels * len('{"a":')


def _numbered(file: BinaryIO, faults: LineFaults, before: int) -> Iterator[tuple[int, bytes]]:
    """Lines that are neither blank nor longer than `LONGEST_LINE`."""
    number = before
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            faults.add(f"longer than {LONGEST_LINE // MEBIBYTE} MiB", number)
            while line and not line.endswith(b"\n"):
                line = file.readline(MEBIBYTE)
        elif not line.isspace():
            yield number, line
