"""JSON that no reader of conversations knows: it is left out, unless it is a transcript under another name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from mempalace_mcp.palace.importers.claude_code import LARGEST_TRANSCRIPT, read_transcript
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import open_file, read_text
from mempalace_mcp.palace.importers.json_lines import LineFaults, is_record, read_records
from mempalace_mcp.palace.importers.notes import read_plain_text

CONVERSATIONS = "a conversation export, which this version does not read"
MEMORIES = "the store of another memory server; `mempalace-mcp migrate` brings it here"
OTHER_JSON = "JSON that is no transcript"

_HEAD_BYTES = 65_536
_HEAD_RECORDS = 100
_OF_CONVERSATIONS = ('"chat_messages"', '"mapping"', '"conversation_id"', '"messages"', '"chat_history"')
_OF_MEMORIES = ('"entityType"', '"relationType"', '"observations"', '"memories"')


def read_json(source: Source) -> Iterator[Document | Problem]:
    """A transcript, whatever its file is called; any other JSON is left out with a reason.

    Raises:
        OSError: the file cannot be opened or read.
    """
    file = open_file(source, LARGEST_TRANSCRIPT)
    if isinstance(file, SkippedFile):
        yield file
        return
    with file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        is_transcript = _holds_transcript(file)
    if is_transcript:
        yield from read_transcript(source)
    else:
        yield source.skipped(_kind(head.decode("utf-8", "replace")))


def read_any_text(source: Source) -> Iterator[Document | Problem]:
    """Plain text of any kind, or a transcript, but no other JSON.

    Raises:
        OSError: the file cannot be opened or read.
    """
    file = open_file(source, LARGEST_TRANSCRIPT)
    if not isinstance(file, SkippedFile):
        with file:
            is_transcript = _holds_transcript(file)
        if is_transcript:
            yield from read_transcript(source)
            return
    text = read_text(source)
    if not isinstance(text, SkippedFile) and _is_json(text.content):
        yield source.skipped(_kind(text.content))
    else:
        yield from read_plain_text(source)


def _holds_transcript(file: BinaryIO) -> bool:
    records = islice(read_records(file, LineFaults()), _HEAD_RECORDS)
    return any(is_record(record) and "message" in record for _, record in records)


def _kind(head: str) -> str:
    """What a file is that begins like this."""
    if any(name in head for name in _OF_MEMORIES):
        return MEMORIES
    return CONVERSATIONS if any(name in head for name in _OF_CONVERSATIONS) else OTHER_JSON


def _is_json(text: str) -> bool:
    """Is the text an object or array, or a line of them after the other?"""
    if not text.lstrip("\N{BYTE ORDER MARK} \t\r\n").startswith(("{", "[")):
        return False
    lines = [line for line in text.split("\n") if line.strip()]
    return _parses(text) or all(map(_parses, lines))


def _parses(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
