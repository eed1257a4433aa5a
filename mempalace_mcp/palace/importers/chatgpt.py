"""Exports of ChatGPT: `conversations.json`, or for large accounts `conversations-000.json` and so on, alone or zipped.

A conversation is a tree of messages; what is shown of it leads from its `current_node` to the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from mempalace_mcp.palace.importers.archives import SUFFIXES, ZIP, beginnings, read_export
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    epoch_time,
    label,
    read_conversation,
    shortened,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.json_lines import LineFaults
from mempalace_mcp.palace.importers.json_values import Json, entries, inner, string
from mempalace_mcp.palace.importers.reader import Candidate, Reader

NAME = "chatgpt"
NO_CONVERSATIONS = "an export without conversations"
NO_TEXT = "a conversation without text"
NOT_REMEMBERED = "a conversation that is not to be remembered"
NO_CONVERSATION = "not a conversation"

_FILES = re.compile(r"(?:\A|/)conversations(?:-\d+)?\.json\Z")
_MARKS = ('"mapping"', '"parent"', '"children"')
_OTHER_FILES = frozenset({"chat.html", "message_feedback.json", "shared_conversations.json"})
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_RESULTS = frozenset({"text", "multimodal_text", "execution_output", "tether_quote", "tether_browsing_display"})
_MARK = re.compile("\ue200([^\ue200\ue201]*)\ue201")
_LEFT_OF_MARKS = re.compile("[\ue200-\ue20f]")
_SOURCE_MARK = re.compile(r"【\d{1,4}(?::\d{1,4})?†[^【】\n]{0,300}】")


def read_chatgpt(source: Source) -> Iterator[Document | Problem]:
    """The conversations in an export.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    faults, spoken = LineFaults(), False
    for number, found in enumerate(read_export(source, _FILES), 1):
        if isinstance(found, SkippedFile):
            spoken = True  # that is what there is to say of the file
            yield found
            continue
        _, conversation = found
        reason = NO_TEXT
        if not isinstance(conversation, Mapping) or not isinstance(conversation.get("mapping"), Mapping):
            reason = NO_CONVERSATION
        elif conversation.get("is_do_not_remember") is True:
            reason = NOT_REMEMBERED
        else:
            for document in _read(source, conversation):
                reason, spoken = "", True
                yield document
        if reason:
            faults.add(reason, number)
    if not spoken and not faults.counts:
        yield source.skipped(NO_CONVERSATIONS)
    yield from faults.report(source.name)


def _read(source: Source, conversation: Json) -> Iterator[Document]:
    messages = list(_messages(conversation))
    times = [time for message in messages if (time := epoch_time(message.get("create_time"))) is not None]
    started = epoch_time(conversation.get("create_time")) or min(times, default=None)
    template = label(conversation.get("conversation_template_id")) or label(conversation.get("gizmo_id"))
    session = Session(
        NAME,
        label(conversation.get("conversation_id")) or label(conversation.get("id")) or _first_id(messages),
        model=label(conversation.get("default_model_slug")),
        title=label(conversation.get("title")),
        room=template,  # a project, or a GPT; exports do not name them
        wing=NAME,
        started_at=started if started is not None else epoch_time(conversation.get("update_time")),
        source_format="chatgpt-export",
    )
    turns = (turn for message in messages for turn in _turns(message, source))
    yield from read_conversation(source, session, turns, is_ended=True)


def _first_id(messages: list[Json]) -> str:
    return next(filter(None, (label(message.get("id")) for message in messages)), "unnamed")


def _messages(conversation: Json) -> Iterator[Json]:
    """What is shown of a conversation, from its root on."""
    mapping = inner(conversation, "mapping")
    branch: list[Json] = []
    seen: set[str] = set()
    place = conversation.get("current_node")
    if not isinstance(place, str) or not isinstance(mapping.get(place), Mapping):
        place = _newest_leaf(mapping)
    while isinstance(place, str) and place not in seen:
        seen.add(place)
        node = inner(mapping, place)
        message = inner(node, "message")
        if message:
            branch.append(message if label(message.get("id")) else {**message, "id": place})
        place = node.get("parent")
    return reversed(branch)


def _newest_leaf(mapping: Json) -> str | None:
    """The message after which nothing was said, the latest of several; of those without a time, the last one."""
    nodes = {name: node for name, node in mapping.items() if isinstance(node, Mapping)}
    parents = {node["parent"] for node in nodes.values() if isinstance(node.get("parent"), str)}
    leaves = [name for name, node in nodes.items() if name not in parents and inner(node, "message")]
    return max(enumerate(leaves), key=lambda each: (_time(nodes[each[1]]), each[0]), default=(0, None))[1]


def _time(node: Json) -> int:
    return epoch_time(inner(node, "message").get("create_time")) or 0


def _turns(message: Json, source: Source) -> Iterator[Turn]:
    """The turn that a message is, if it is one for people to read."""
    metadata, role = inner(message, "metadata"), string(inner(message, "author").get("role"))
    if metadata.get("is_visually_hidden_from_conversation") or message.get("weight") in (0, 0.0):
        return
    if role in _SPEAKERS and message.get("recipient", "all") in ("all", None):
        text = _said(inner(message, "content"), metadata)
        speaker = _SPEAKERS[role]
    elif role == "tool" and source.include_tools:
        text = shortened(_result(inner(message, "content")))
        speaker = Speaker.TOOL
    else:
        return
    model = label(metadata.get("model_slug"))
    yield Turn(
        speaker,
        text,
        epoch_time(message.get("create_time")),
        message_id=label(message.get("id")),
        metadata={"model": model} if model and speaker is Speaker.ASSISTANT else {},
    )


def _said(content: Json, metadata: Json) -> str:
    kind = content.get("content_type")
    if kind in ("text", "multimodal_text"):
        return _without_marks("\n".join(filter(None, map(_part, entries(content, "parts")))), metadata)
    if kind == "code" and (text := string(content.get("text"))).strip():
        language = string(content.get("language"))
        return f"```{'' if language == 'unknown' else language}\n{text}\n```"
    return ""


def _part(part: Any) -> str:
    """A part of a message: a text, what was spoken, or the mark of a picture."""
    if isinstance(part, str):
        return part
    kind = part.get("content_type") if isinstance(part, Mapping) else None
    if kind == "image_asset_pointer":
        return "[image]"
    return string(part.get("text")) if kind in ("audio_transcription", "text") else ""


def _result(content: Json) -> str:
    """What a tool returned."""
    if content.get("content_type") not in _RESULTS:
        return ""
    parts = "\n".join(filter(None, map(_part, entries(content, "parts"))))
    return parts or string(content.get("text")) or string(content.get("result"))


def _without_marks(text: str, metadata: Json) -> str:
    """The text without the marks of citations. Those that stand for a link or a name become that."""
    if "\ue200" in text:
        for reference in entries(metadata, "content_references"):
            if isinstance(reference, Mapping) and (marked := string(reference.get("matched_text"))).startswith(
                "\ue200"
            ):
                text = text.replace(marked, string(reference.get("alt")) or _MARK.sub(_shown, marked))
    text = _LEFT_OF_MARKS.sub("", _MARK.sub(_shown, text))
    return _SOURCE_MARK.sub("", text) if "†" in text else text


def _shown(mark: re.Match[str]) -> str:
    """What people see of a mark."""
    kind, *values = mark.group(1).split("\ue202")
    if kind == "url" and values:
        return values[0]
    if kind == "entity" and values:
        try:
            named = json.loads(values[0])
        except (ValueError, RecursionError):
            return ""
        return named[1] if isinstance(named, list) and len(named) > 1 and isinstance(named[1], str) else ""
    return ""


def _recognizes(candidate: Candidate) -> bool:
    if any(all(mark in text for mark in _MARKS) for text in beginnings(candidate, _FILES)):
        return True
    if candidate.path.suffix.lower() == ZIP:
        members = {PurePosixPath(name).name for name in candidate.members}
        return not _OTHER_FILES.isdisjoint(members) or ("user.json" in members and any(map(_FILES.search, members)))
    return _FILES.match(candidate.path.name) is not None and candidate.text.strip() == "[]"


CHATGPT = Reader(NAME, "ChatGPT", SUFFIXES, _recognizes, read_chatgpt)
