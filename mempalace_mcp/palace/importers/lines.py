"""The lines of a transcript as JSON objects, one at a time, and a tally of those that could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from mempalace_mcp.palace.importers.bytestream import MEBIBYTE
from mempalace_mcp.palace.importers.document import SkippedLines

LONGEST_LINE = 16 * MEBIBYTE
_SHOWN = 10

Record = Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """Lines left out, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, number: int) -> None:
        """Count a line, and remember its number if it is among the first."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        numbers = self.first.setdefault(reason, [])
        if len(numbers) < _SHOWN:
            numbers.append(number)

    def report(self, path: str) -> Iterator[SkippedLines]:
        """One problem for each reason."""
        for reason, count in self.counts.items():
            yield SkippedLines(path, reason, count, tuple(self.first[reason]))


def read_records(file: BinaryIO, tally: Tally) -> Iterator[tuple[int, Record]]:
    """Line numbers, from 1, and the objects on them; what is no object is tallied.

    A last line that is not finished is left out without a word: its session is still being written.

    Raises:
        OSError: the file cannot be read on.
    """
    for number, line in _numbered(file, tally):
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            reason = "not UTF-8"
        except (ValueError, RecursionError):  # also numbers and nesting beyond what the parser takes
            reason = "not JSON"
        else:
            if isinstance(record, dict):
                yield number, record
                continue
            reason = "not a JSON object"
        if line.endswith(b"\n"):
            tally.add(reason, number)


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
