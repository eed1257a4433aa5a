"""What the user typed while the assistant was at work: the client queues it, and most of it becomes a record later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from mempalace_mcp.palace.importers.lines import LONGEST_LINE, Record, Tally, is_record, read_records
from mempalace_mcp.palace.importers.turns import Speaker, queued_text, turn_of

_MARK = b"queue-operation"


def unrepeated(file: BinaryIO) -> frozenset[int]:
    """The numbers of the lines that queue what no record says afterwards: there alone it was said.

    What the user took back into the prompt was not said. The file is left at its beginning.

    Raises:
        OSError: the file cannot be read on.
    """
    if not _is_queueing(file):
        return frozenset()
    waiting: dict[int, str] = {}
    for number, record in _telling(file):
        if record.get("type") == "queue-operation":
            if record.get("operation") == "popAll":
                waiting.clear()
            elif text := queued_text(record):
                waiting[number] = text
        elif waiting and (turn := turn_of(record)) is not None and turn.speaker is Speaker.USER:
            lines = f"\n{turn.text}\n"
            for queued in [number for number, text in waiting.items() if f"\n{text}\n" in lines]:
                lines = lines.replace(f"\n{waiting.pop(queued)}\n", "\n", 1)
    file.seek(0)
    return frozenset(waiting)


def _is_queueing(file: BinaryIO) -> bool:
    try:
        return any(_MARK in line for line in iter(lambda: file.readline(LONGEST_LINE), b""))
    finally:
        file.seek(0)


def _telling(file: BinaryIO) -> Iterator[tuple[int, Record]]:
    return ((number, record) for number, record in read_records(file, Tally()) if is_record(record))
