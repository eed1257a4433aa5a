"""Exports of Claude.ai: conversations, projects with their documents, and memories, each as JSON, alone or zipped.

Conversations do not name their project. A message names the one that it answers, so that edited prompts are branches;
what is read ends with the newest message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.archives import SUFFIXES, ZIP, beginnings, read_export
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    hashed,
    iso_time,
    label,
    read_conversation,
    read_note,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.json_lines import LineFaults
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, string
from mempalace_mcp.palace.importers.naming import name_of
from mempalace_mcp.palace.importers.reader import Candidate, Reader

NAME = "claude-ai"
WING = "claude"
MEMORY = "memory"
DOCUMENTS = "documents"
NO_TEXT = "a conversation without text"
UNKNOWN = "neither a conversation nor a project nor a memory"
NOTHING = "an export without conversations"

_FILES = re.compile(
    r"(?:\A|/)(?:(?:conversations|memories|projects)(?:-\d+)?\.json|(?:conversations|memories|projects)/[^/]+\.json"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json)\Z"
)
_PROJECTS = re.compile(r"(?:\A|/)projects(?:-\d+)?\.json\Z|(?:\A|/)projects/[^/]+\.json\Z")
_PROJECT_FOLDER = "projects"
_MARKS = (('"chat_messages"',), ('"conversations_memory"',), ('"project_memories"',), ('"prompt_template"', '"docs"'))
_SPEAKERS = {"human": Speaker.USER, "assistant": Speaker.ASSISTANT}
_UNSUPPORTED = re.compile(r"```\s*This block is not supported on your current device yet\.\s*```")
_HEADING = re.compile(r"^(?:#{1,6}[ \t]+\S[^\n]*|\*\*[^*\n]{1,200}\*\*:?)[ \t]*$", re.MULTILINE)


def read_claude_ai(source: Source) -> Iterator[Document | Problem]:
    """What an export holds.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    faults, spoken = LineFaults(), False
    projects = _project_names(source)
    for number, found in enumerate(read_export(source, _FILES), 1):
        if isinstance(found, SkippedFile):
            spoken = True  # that is what there is to say of the file
            yield found
            continue
        _, element = found
        reason = UNKNOWN
        if isinstance(element, Mapping):
            reason = NO_TEXT if "chat_messages" in element else "" if _is_known(element) else UNKNOWN
            for document in _read(source, element, projects):
                reason, spoken = "", True
                yield document
        if reason:
            faults.add(reason, number)
    if not spoken and not faults.counts:
        yield source.skipped(NOTHING)
    yield from faults.report(source.name)


def _is_known(element: Json) -> bool:
    return any(all(mark.strip('"') in element for mark in marks) for marks in _MARKS)


def _read(source: Source, element: Json, projects: Mapping[str, str]) -> Iterator[Document]:
    if "chat_messages" in element:
        yield from _read_conversation(source, element)
    elif "prompt_template" in element or "docs" in element:
        yield from _read_project(source, element)
    else:
        yield from _read_memories(source, element, projects)


def _read_conversation(source: Source, conversation: Json) -> Iterator[Document]:
    messages = _branch(conversation)
    session = Session(
        NAME,
        label(conversation.get("uuid"))
        or next(filter(None, (label(each.get("uuid")) for each in messages)), "unnamed"),
        title=label(conversation.get("name")),
        model=label(conversation.get("model")),
        wing=WING,
        started_at=iso_time(conversation.get("created_at")),
        source_format="claude-ai-export",
    )
    turns = (turn for message in messages for turn in _turns(message, source))
    yield from read_conversation(source, session, turns, is_ended=True)
    if source.include_tools:
        for message in messages:
            yield from _read_attachments(source, message)


def _branch(conversation: Json) -> list[Json]:
    """The messages from the root to the newest one; all in their order where they do not hang together."""
    messages = objects(conversation, "chat_messages")
    by_id = {uuid: each for each in messages if (uuid := label(each.get("uuid")))}
    roots = {string(each.get("parent_message_uuid")) for each in messages} - by_id.keys()
    if len(by_id) < len(messages) or len(roots) != 1 or "" in roots:
        return messages
    leaf = label(conversation.get("current_leaf_message_uuid"))
    message = (
        by_id.get(leaf or "")
        or max(enumerate(messages), key=lambda each: (iso_time(each[1].get("created_at")) or 0, each[0]))[1]
    )
    branch: list[Json] = []
    while message and len(branch) < len(messages):
        branch.append(message)
        message = by_id.get(string(message.get("parent_message_uuid")), {})
    return messages if message else branch[::-1]  # a circle has no root


def _turns(message: Json, source: Source) -> Iterator[Turn]:
    speaker = _SPEAKERS.get(string(message.get("sender")))
    if speaker is None:
        return
    time, uuid = iso_time(message.get("created_at")), label(message.get("uuid"))
    yield Turn(speaker, _said(message), time, message_id=uuid)
    if source.include_tools:
        for number, block in enumerate(objects(message, "content")):
            if block.get("type") == "tool_result":
                name = f"{uuid}:{number}" if uuid else None
                yield Turn(Speaker.TOOL, shortened(text_of(block.get("content"))), time, message_id=name)


def _said(message: Json) -> str:
    """The text of a message. The field `text` repeats the blocks, with a fence for each one of another kind."""
    blocks = objects(message, "content")
    texts = [
        text_of(block, kind=string(block.get("type")))
        for block in blocks
        if block.get("type") in ("text", "voice_note")
    ]
    if blocks:
        return "\n\n".join(filter(None, texts))
    return _UNSUPPORTED.sub("", string(message.get("text"))).strip()


def _read_attachments(source: Source, message: Json) -> Iterator[Document]:
    for number, attachment in enumerate(objects(message, "attachments")):
        name = f"{NAME}:attachment:{message.get('uuid')}:{number}"
        yield from _note(
            source,
            name,
            string(attachment.get("extracted_content")),
            WING,
            "attachments",
            message.get("created_at"),
            {"title": attachment.get("file_name")},
        )


def _read_project(source: Source, project: Json) -> Iterator[Document]:
    """The documents of a project, and its instructions."""
    wing, uuid = _wing(project.get("name")), project.get("uuid")
    about = {"project_id": uuid, "project": project.get("name")}
    template = string(project.get("prompt_template"))
    name = f"{NAME}:project:{uuid}:instructions"
    created = project.get("updated_at") or project.get("created_at")
    yield from _note(source, name, template, wing, "instructions", created, about)
    for number, document in enumerate(objects(project, "docs")):
        name = f"{NAME}:document:{label(document.get('uuid')) or f'{uuid}:{number}'}"
        known = {**about, "title": document.get("filename")}
        yield from _note(
            source, name, string(document.get("content")), wing, DOCUMENTS, document.get("created_at"), known
        )


def _read_memories(source: Source, memories: Json, projects: Mapping[str, str]) -> Iterator[Document]:
    """A note for each heading. A text that says something else in a later export is another note."""
    account = label(memories.get("account_uuid")) or "unnamed"
    texts = [("", WING, string(memories.get("conversations_memory")))]
    for uuid, text in inner(memories, "project_memories").items():
        texts.append((uuid, _wing(projects.get(uuid)), string(text)))
    for file in objects(memories, "memory_files"):
        title = string(file.get("path")) or string(file.get("name"))
        texts.append((title, WING, string(file.get("content")) or string(file.get("text"))))
    for scope, wing, text in texts:
        alike: Counter[int] = Counter()
        for part in _sections(text):
            said = hashed(part)
            alike[said] += 1
            if alike[said] == 1:
                name = f"{NAME}:memory:{account}:{scope}:{said}"
                yield from _note(
                    source, name, part, wing, MEMORY, None, {"project_id": scope} if scope in projects else {}
                )


def _sections(text: str) -> Iterator[str]:
    """The text cut before each heading; a heading without a text stays with what follows."""
    start = 0
    for heading in _HEADING.finditer(text):
        before = text[start : heading.start()]
        if _HEADING.sub("", before).strip():
            yield before.strip()
            start = heading.start()
    yield text[start:].strip()


def _note(
    source: Source, name: str, text: str, wing: str, room: str, time: Any, metadata: Mapping[str, Any]
) -> Iterator[Document]:
    if text.strip():
        known: Metadata = {key: value for key, value in metadata.items() if label(value)}
        about = {"agent": NAME, "source_format": "claude-ai-export", **known}
        yield from read_note(source, name, text, wing=wing, room=room, time=iso_time(time), metadata=about)


def _wing(name: Any) -> str:
    """The wing of a project."""
    return name_of(string(name), WING)


def _project_names(source: Source) -> Mapping[str, str]:
    """The names of the projects in an export by their ids, in the archive itself or beside the file."""
    names: dict[str, str] = {}
    if source.path.suffix.lower() == ZIP:
        files = [source]
    else:
        folders = (source.path.parent, source.path.parent.parent)  # memories may be in a folder of their own
        patterns = ("projects*.json", f"{_PROJECT_FOLDER}/*.json")
        beside = [path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern))]
        files = [Source(path) for path in beside] if _may_hold_memories(source.path) else []
    for file in files:
        for found in _projects(file):
            uuid, name = label(found.get("uuid")), label(found.get("name"))
            if uuid and name:
                names[uuid] = name
    return names


def _projects(source: Source) -> Iterator[Json]:
    try:
        for found in read_export(source, _PROJECTS):
            if not isinstance(found, SkippedFile) and isinstance(found[1], Mapping):
                yield found[1]
    except OSError:
        return  # it is reported when the file itself is read


def _may_hold_memories(path: Path) -> bool:
    return any('"project_memories"' in text for text in beginnings(Candidate(path), _FILES))


def _recognizes(candidate: Candidate) -> bool:
    if any(all(mark in text for mark in marks) for text in beginnings(candidate, _FILES) for marks in _MARKS):
        return True
    members = {PurePosixPath(name).name for name in candidate.members}
    return "users.json" in members and any(map(_FILES.search, candidate.members))


CLAUDE_AI = Reader(NAME, "Claude.ai", SUFFIXES, _recognizes, read_claude_ai)
