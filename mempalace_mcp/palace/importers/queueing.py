"""What the user typed while the assistant was at work: the client queues it, and most of it becomes a record later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from mempalace_mcp.palace.importers.lines import LONGEST_LINE, Tally, read_records
from mempalace_mcp.palace.importers.turns import Speaker, Turn, queued_turn, turn_of

_MARK = b"queue-operation"


@dataclass(frozen=True, slots=True)
class Queue:
    """What a file tells of queued prompts, by the numbers of its lines: those that no record says afterwards, so that
    they were said there alone, and for the records that say just another one what the client queued."""

    alone: frozenset[int] = frozenset()
    repeated: Mapping[int, Turn] = field(default_factory=dict)


def read_queue(file: BinaryIO) -> Queue:
    """What became of the prompts that were queued. What the assistant took in at work was said, what the user took back
    into the prompt was not. The file is left at its beginning.

    Raises:
        OSError: the file cannot be read on.
    """
    if not _is_queueing(file):
        return Queue()
    waiting: dict[int, Turn] = {}
    repeated: dict[int, Turn] = {}
    taken: set[int] = set()
    for number, record in read_records(file, Tally()):
        if record.get("type") == "queue-operation":
            if (queued := queued_turn(record)) is not None:
                waiting[number] = queued
            elif record.get("operation") == "remove":
                taken.update(islice((line for line in waiting if line not in taken), 1))
            elif record.get("operation") == "popAll":
                waiting = {line: turn for line, turn in waiting.items() if line in taken}
        elif waiting and (turn := turn_of(record)) is not None and turn.speaker is Speaker.USER:
            lines = f"\n{turn.text}\n"
            for line in [line for line, queued in waiting.items() if f"\n{queued.text}\n" in lines]:
                lines = lines.replace(f"\n{waiting[line].text}\n", "\n", 1)
                queued = waiting.pop(line)
                repeated |= {number: queued} if queued.text == turn.text else {}
    file.seek(0)
    return Queue(frozenset(waiting), repeated)


def _is_queueing(file: BinaryIO) -> bool:
    try:
        return any(_MARK in line for line in iter(lambda: file.readline(LONGEST_LINE), b""))
    finally:
        file.seek(0)
