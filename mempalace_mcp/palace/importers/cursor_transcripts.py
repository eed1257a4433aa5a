"""Transcripts that Cursor writes beside its database: `projects/SLUG/agent-transcripts/ID/ID.jsonl`.

They have neither ids nor, for answers, times, and are written anew when a conversation goes on. The database of the
editor holds the same conversations, those of the program for terminals excepted. So a message is known by what it says:
in both files it has the same key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import Instant, Zone
from mempalace_mcp.palace.importers.conversations import (
    Conversation,
    Session,
    Speaker,
    Turn,
    iso_time,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records
from mempalace_mcp.palace.importers.naming import named_by_slug, wing_of
from mempalace_mcp.palace.importers.said import Named
from mempalace_mcp.palace.importers.typed_text import unwrapped

NAME = "cursor"
FOLDER = "agent-transcripts"
LARGEST = 256 * MEBIBYTE

_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_HIDDEN = re.compile(r"^[ \t]*\[REDACTED\][ \t]*$", re.MULTILINE)
_TIME = re.compile(
    r"<timestamp>\w+, (\w{3} \d{1,2}, \d{4}, \d{1,2}:\d{2} [AP]M)(?: \(UTC(?:([+-])(\d{1,2})(?::(\d{2}))?)?\))?<"
)
"""As in `<timestamp>Friday, Sep 4, 2026, 2:21 AM (UTC+8)</timestamp>`; without a zone it is the machine's."""
_NO_PROJECT = "empty-window"
_DRIVE = re.compile(r"\A[a-z]-")


def is_transcript(record: Record) -> bool:
    """Is this a line of such a transcript?"""
    message = record.get("message")
    return record.keys() == {"role", "message"} and record["role"] in _SPEAKERS and isinstance(message, Mapping)


def read_transcript(source: Source) -> Iterator[Document | Problem]:
    """The conversation in a transcript.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    if source.path.suffix.lower() != ".jsonl":
        yield source.skipped("a transcript of an earlier version; the database of the editor holds what it says")
        return
    if source.path.parent.name == "subagents":
        yield source.skipped("a sub-agent's transcript")
        return
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults = LineFaults()
    named, is_ended, spoken = Named(), False, False
    session = Session(NAME, source.path.stem, wing=_wing(source.path), source_format="cursor-transcript")
    conversation = Conversation(source, session)
    with file:
        for _, record in read_records(file, faults):
            is_ended = record.get("type") == "turn_ended"
            for turn in _turns(record, named, source):
                for document in conversation.add(turn):
                    spoken = True
                    yield document
    for document in conversation.finish(is_ended=is_ended):
        spoken = True
        yield document
    if not spoken:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _turns(record: Record, named: Named, source: Source) -> Iterator[Turn]:
    speaker, message = _SPEAKERS.get(str(record.get("role"))), record.get("message")
    if speaker is None or not isinstance(message, Mapping):
        return
    text = text_of(message.get("content"))
    if speaker is Speaker.USER:
        turn = named.turn(speaker, unwrapped(text, "user_query"), _time(text, source.zone))
    else:
        turn = named.turn(speaker, _HIDDEN.sub("", text))
    if turn is not None:
        yield turn
    if source.include_tools:
        yield from filter(None, (named.turn(Speaker.TOOL, result) for result in _results(message.get("content"))))


def _results(content: Any) -> Iterator[str]:
    for block in content if isinstance(content, list) else ():
        if isinstance(block, Mapping) and block.get("type") == "tool_result":
            yield shortened(text_of(block.get("content")))


def _time(text: str, zone: Zone) -> Instant | None:
    match = _TIME.match(text)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], "%b %d, %Y, %I:%M %p")
    except ValueError:
        return None
    if match[2]:
        return iso_time(f"{moment.isoformat()}{match[2]}{int(match[3]):02}:{match[4] or '00'}")
    return iso_time(f"{moment.isoformat()}Z") if "(UTC)" in match[0] else iso_time(moment.isoformat(), zone)


def _wing(path: Path) -> str | None:
    """The name of the project, as far as the name of the folder around the transcripts lets it be guessed."""
    slug = next((folder.parent.name for folder in path.parents if folder.name == FOLDER), _NO_PROJECT)
    return None if slug == _NO_PROJECT else wing_of(named_by_slug(_DRIVE.sub("", slug)))
