"""What was said in one record of a Claude Code transcript, without the noise of tools, hooks and commands.

A record is an object with a `type`. `user` and `assistant` records carry a `message` whose `content` is a text or a
list of blocks (`text`, `thinking`, `tool_use`, `tool_result`, `image`); a prompt typed while the assistant was busy is
an `attachment` of type `queued_command`. All others (`system`, `summary`, `progress`, `file-history-snapshot`, ...)
say nothing by themselves. Records of a sub-agent have `isSidechain`, those that the client made up have flags of their
own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace.importers.bytestream import unstorable
from mempalace_mcp.palace.importers.decisions import Decision, asked, decided, planned, presented, turned_down
from mempalace_mcp.palace.importers.lines import Record
from mempalace_mcp.palace.importers.wrappers import users_words

_NOT_SAID = ("isSidechain", "isMeta", "isCompactSummary", "isVisibleInTranscriptOnly", "isApiErrorMessage")
_LONGEST_LABEL = 4_096
_FILLERS = frozenset({"(no content)", "No response requested."})


class Speaker(StrEnum):
    """Who said it, as it is shown; a sub-agent is given a task and reports."""

    USER = "User"
    ASSISTANT = "Assistant"
    TASK = "Task"
    REPORT = "Report"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said at once, where and when, and the id of the record.

    A turn that `goes_on` is an answer to the assistant in the midst of its work. The `plan` is what it is about.
    """

    speaker: Speaker
    text: str
    said_at: Instant | None
    session_id: str | None
    git_branch: str | None
    cwd: str | None
    record: str | None
    goes_on: bool = False
    plan: str = ""


def turn_of(record: Record) -> Turn | None:
    """What the record says, or None if it is noise."""
    if any(record.get(flag) for flag in _NOT_SAID):
        return None
    decision: Decision | None = None
    match record:
        case {"type": "assistant", "message": {"content": content, **message}}:
            speaker, text = Speaker.ASSISTANT, assistant_text(content)
            if message.get("model") == "<synthetic>" or text in _FILLERS or not text:
                return None
            return made_turn(record, speaker, text, plan=next(filter(None, map(planned, _of(content))), ""))
        case {"type": "user", "message": {"content": content}} if _by_human(record):
            speaker, text = Speaker.USER, user_text(content)
            decision = decided(content, record.get("toolUseResult"))
        case {"type": "attachment", "attachment": {"type": "queued_command", "prompt": content, **attachment}} if (
            _by_human(attachment) and attachment.get("commandMode", "prompt") == "prompt"
        ):
            speaker, text = Speaker.USER, user_text(content)
        case _:
            return None
    if decision is not None:
        goes_on, text = not text, "\n\n".join(filter(None, (decision.text, text)))
        return made_turn(record, speaker, text, goes_on=goes_on, plan=decision.plan)
    return made_turn(record, speaker, text) if text else None


def presented_plans(record: Record) -> list[str]:
    """The ids of the calls by which plans are presented in the record."""
    match record:
        case {"type": "assistant", "message": {"content": content}}:
            return presented(content)
        case _:
            return []


def refusal_of(record: Record, plans: Container[str]) -> Turn | None:
    """That the user turned one of these plans down, if the record says so without a word of the user's."""
    match record:
        case {"type": "user", "message": {"content": content}} if text := turned_down(content, plans):
            return made_turn(record, Speaker.USER, text, goes_on=True)
        case _:
            return None


def queued_turn(record: Record) -> Turn | None:
    """What the user typed while the assistant was at work, if the record says no more than that it was queued."""
    match record:
        case {"type": "queue-operation", "operation": "enqueue", "content": content} if record.get("timestamp"):
            text = user_text(content)
            return made_turn(record, Speaker.USER, text) if text else None
        case _:
            return None


def made_turn(record: Record, speaker: Speaker, text: str, *, goes_on: bool = False, plan: str = "") -> Turn:
    """The turn with what the record tells of itself."""
    return Turn(
        speaker,
        text,
        _instant(record.get("timestamp")),
        label(record.get("sessionId")),
        label(record.get("gitBranch")),
        label(record.get("cwd")),
        label(record.get("uuid")),
        goes_on,
        plan,
    )


def label(value: Any) -> str | None:
    """The value if it is a text fit for metadata, else None."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_LABEL and unstorable(value) is None:
        return value
    return None


def assistant_text(content: Any) -> str:
    """What the assistant says and what it asks of the user."""
    if isinstance(content, str):
        return content.strip()
    texts = (_block_text(block) or (asked(block) if block.get("type") == "tool_use" else "") for block in _of(content))
    return "\n\n".join(filter(None, texts))


def calls_tools(content: Any) -> bool:
    """Does the assistant go on with its work after this?"""
    return any(block.get("type") == "tool_use" for block in _of(content))


def user_text(content: Any) -> str:
    """What the user typed. What the client adds is a block of its own, or the whole text."""
    texts = [content] if isinstance(content, str) else map(_block_text, _of(content))
    return "\n\n".join(filter(None, map(users_words, texts)))


def _of(content: Any) -> list[Mapping[Any, Any]]:
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _block_text(block: Mapping[Any, Any]) -> str:
    text = block.get("text") if block.get("type") == "text" else None
    return text.strip() if isinstance(text, str) else ""


def _by_human(record: Mapping[Any, Any]) -> bool:
    """Records of older versions do not say, and then a human it was."""
    if record.get("promptSource") == "system":
        return False
    match record.get("origin"):
        case {"kind": str(kind)}:
            return kind == "human"
        case _:
            return True


def _instant(value: Any) -> Instant | None:
    try:
        return clock.parse(value, "timestamp") if isinstance(value, str) else None
    except InvalidArgument:
        return None
