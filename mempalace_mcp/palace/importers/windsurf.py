"""Conversations with Windsurf, as its hooks tell them: `hooks/windsurf/CONVERSATION.jsonl` in the palace's folder.

Windsurf's own files are encrypted. Each line is a prompt or a response, by `daemon/hook_windsurf.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mempalace_mcp.palace.importers.conversations import Conversation, Session, Speaker, Turn, iso_time, label
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records
from mempalace_mcp.palace.importers.reader import Candidate, Reader

NAME = "windsurf"
LARGEST = 256 * MEBIBYTE

_SPEAKERS = {"user_prompt": Speaker.USER, "response": Speaker.ASSISTANT}


def read_windsurf(source: Source) -> Iterator[Document | Problem]:
    """The conversation in a file.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults = LineFaults()
    conversation: Conversation | None = None
    with file:
        for _, record in read_records(file, faults):
            if not _is_record(record):
                continue
            if conversation is None:
                session = Session(NAME, str(record["trajectory_id"]), cwd=label(record.get("cwd")), source_format=NAME)
                conversation = Conversation(source, session)
            for turn in _turns(record):
                yield from conversation.add(turn)
        if conversation is not None:
            yield from conversation.finish()
    if conversation is None:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _turns(record: Record) -> Iterator[Turn]:
    execution, time = label(record.get("execution_id")), iso_time(record.get("timestamp"))
    for name, speaker in _SPEAKERS.items():
        text = record.get(name)
        if isinstance(text, str):
            yield Turn(speaker, text, time, message_id=f"{execution}:{name}" if execution else None)


def _is_record(record: Record) -> bool:
    return isinstance(record.get("trajectory_id"), str) and not _SPEAKERS.keys().isdisjoint(record)


def _recognizes(candidate: Candidate) -> bool:
    return any(map(_is_record, candidate.records[:1]))


WINDSURF = Reader(NAME, "Windsurf", frozenset({".jsonl"}), _recognizes, read_windsurf)
