"""What the user typed while the assistant was at work: the client queues it, and most of it becomes a record later."""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO

from mempalace_mcp.palace.importers.lines import LONGEST_LINE, Tally, read_records
from mempalace_mcp.palace.importers.turns import Speaker, queued_text, turn_of

_MARK = b"queue-operation"


def unrepeated(file: BinaryIO) -> frozenset[int]:
    """The numbers of the lines that queue what no record says afterwards: there alone it was said.

    What the assistant took in at work was said, what the user took back into the prompt was not. The file is left at
    its beginning.

    Raises:
        OSError: the file cannot be read on.
    """
    if not _is_queueing(file):
        return frozenset()
    waiting: dict[int, str] = {}
    taken: set[int] = set()
    for number, record in read_records(file, Tally()):
        if record.get("type") == "queue-operation":
            if text := queued_text(record):
                waiting[number] = text
            elif record.get("operation") == "remove":
                taken.update(islice((line for line in waiting if line not in taken), 1))
            elif record.get("operation") == "popAll":
                waiting = {line: text for line, text in waiting.items() if line in taken}
        elif waiting and (turn := turn_of(record)) is not None and turn.speaker is Speaker.USER:
            lines = f"\n{turn.text}\n"
            for queued in [line for line, text in waiting.items() if f"\n{text}\n" in lines]:
                lines = lines.replace(f"\n{waiting.pop(queued)}\n", "\n", 1)
    file.seek(0)
    return frozenset(waiting)


def _is_queueing(file: BinaryIO) -> bool:
    try:
        return any(_MARK in line for line in iter(lambda: file.readline(LONGEST_LINE), b""))
    finally:
        file.seek(0)
