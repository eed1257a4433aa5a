"""Records of Claude Code transcripts: who speaks, and what is said.

A record is an object with a `type`. `user` and `assistant` records carry a `message` whose `content` is a text or a
list of blocks (`text`, `thinking`, `tool_use`, `tool_result`, `image`). A prompt typed while the assistant was busy is
an `attachment` of type `queued_command`; most of these become records later. All others (`system`, `summary`,
`progress`, `file-history-snapshot`, ...) say nothing by themselves. Records of a sub-agent have `isSidechain`; those
that the client made up have flags of their own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.palace.importers.claude_decisions import (
    Decision,
    decision_of,
    plan_calls,
    plan_of,
    question_of,
    refusal_text,
)
from mempalace_mcp.palace.importers.conversations import (
    IdentifiedTurn,
    Identities,
    Speaker,
    Turn,
    iso_time,
    label,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.json_lines import Record
from mempalace_mcp.palace.importers.typed_text import typed_text

_NOT_SAID = ("isSidechain", "isMeta", "isCompactSummary", "isVisibleInTranscriptOnly", "isApiErrorMessage")
_FINAL = ("end_turn", "stop_sequence", "refusal")
_FILLERS = frozenset({"(no content)", "No response requested."})


@dataclass(frozen=True, slots=True)
class RecordTurn(Turn):
    """The turn in a record. `plan` is the plan that it presents or decides on."""

    plan: str = ""


def turn_of(record: Record) -> RecordTurn | None:
    """The turn in a record; None if nobody says anything in it."""
    if any(record.get(flag) for flag in _NOT_SAID):
        return None
    is_result = bool(record.get("sourceToolAssistantUUID"))
    decision: Decision | None = None
    match record:
        case {"type": "assistant", "message": {"content": content, **message}}:
            speaker, text = Speaker.ASSISTANT, assistant_text(content)
            if message.get("model") == "<synthetic>" or text in _FILLERS or not text:
                return None
            return made_turn(record, speaker, text, plan=next(filter(None, map(plan_of, _of(content))), ""))
        case {"type": "user", "message": {"content": content}} if _by_human(record):
            speaker, text = Speaker.USER, "" if is_result else user_text(content)
            decision = decision_of(content, record.get("toolUseResult"))
        case {"type": "attachment", "attachment": {"type": "queued_command", "prompt": content, **attachment}} if (
            _by_human(attachment)
            and attachment.get("commandMode", "prompt") == "prompt"
            and not attachment.get("isMeta")
            and not attachment.get("carriedByCompaction")
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
            return plan_calls(content)
        case _:
            return []


def refusal_of(record: Record, plans: Container[str]) -> RecordTurn | None:
    """A turn that turns one of these plans down, if the user did so without a comment; else None."""
    match record:
        case {"type": "user", "message": {"content": content}} if text := refusal_text(content, plans):
            return made_turn(record, Speaker.USER, text, goes_on=True)
        case _:
            return None


def tool_turn(record: Record) -> RecordTurn | None:
    """What tools returned in the record, shortened; None if nothing."""
    match record:
        case {"type": "user", "message": {"content": [*blocks]}}:
            results = (block.get("content") for block in filter(_is_result, _of(blocks)))
            text = "\n\n".join(filter(None, map(text_of, results)))
            return made_turn(record, Speaker.TOOL, shortened(text)) if text else None
        case _:
            return None


def queued_turn(record: Record) -> RecordTurn | None:
    """The prompt that a record of the queue adds to it; None for other records."""
    match record:
        case {"type": "queue-operation", "operation": "enqueue", "content": content} if record.get("timestamp"):
            text = user_text(content)
            return made_turn(record, Speaker.USER, text) if text else None
        case _:
            return None


def ends_turn(record: Record, before: bool) -> bool:
    """Is the turn of the assistant over after this record? `before` is the answer for the record before it."""
    match record:
        case {"type": "assistant", "message": {**message}}:
            return message.get("stop_reason") in _FINAL
        case {"type": "user", "message": {"content": [*blocks]}} if any(map(_is_result, _of(blocks))):
            return False
        case {"type": "system", "subtype": "turn_duration" | "stop_hook_summary"}:
            return True
        case _:
            return before


def _is_result(block: Mapping[Any, Any]) -> bool:
    return block.get("type") == "tool_result"


def made_turn(record: Record, speaker: Speaker, text: str, *, goes_on: bool = False, plan: str = "") -> RecordTurn:
    """A turn with the ids, the time and the metadata of the record."""
    origin, message = record.get("forkedFrom"), record.get("message")
    owner = origin if isinstance(origin, dict) and origin.get("sessionId") else record
    uuid, session_id = label(record.get("uuid")), label(owner.get("sessionId"))
    known = {
        "session_id": session_id,
        "git_branch": label(record.get("gitBranch")),
        "cwd": label(record.get("cwd")),
        "record": uuid,
        "client_version": label(record.get("version")),
        "model": label(message.get("model")) if isinstance(message, dict) else None,
    }
    metadata = {name: value for name, value in known.items() if value}
    return RecordTurn(speaker, text, iso_time(record.get("timestamp")), uuid, session_id, goes_on, metadata, plan)


def assistant_text(content: Any) -> str:
    """The text of the assistant, with its questions and plans."""
    if isinstance(content, str):
        return content.strip()
    texts = (question_of(each) if each.get("type") == "tool_use" else _block_text(each) for each in _of(content))
    return "\n\n".join(filter(None, texts))


def calls_tools(content: Any) -> bool:
    """Does the content call a tool?"""
    return any(block.get("type") == "tool_use" for block in _of(content))


def user_text(content: Any) -> str:
    """The text that the user typed. Text of the client is a block of its own, or the whole content."""
    texts = [content] if isinstance(content, str) else map(_block_text, _of(content))
    return "\n\n".join(filter(None, map(typed_text, texts)))


def _of(content: Any) -> list[Mapping[Any, Any]]:
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _block_text(block: Mapping[Any, Any]) -> str:
    text = block.get("text") if block.get("type") == "text" else None
    return text.strip() if isinstance(text, str) else ""


def _by_human(record: Mapping[Any, Any]) -> bool:
    """Did a human write it? Older versions do not record that; then the answer is yes."""
    if record.get("promptSource") == "system":
        return False
    match record.get("origin"):
        case {"kind": str(kind)}:
            return kind == "human"
        case _:
            return True


def identify(identities: Identities, turn: RecordTurn, queued: RecordTurn | None = None) -> IdentifiedTurn | None:
    """The turn with the name of its message; None if the file had it before.

    Palaces know messages by these names, so the names must stay as they are.
    """
    identified = identities.admit(turn, _name_of(identities, turn))
    if identified is None or queued is None:
        return identified
    return replace(identified, queued_name=_name_of(identities, queued))


def _name_of(identities: Identities, turn: RecordTurn) -> str:
    if turn.message_id is not None and turn.speaker is not Speaker.TOOL:
        return f"record:{turn.message_id}"
    if turn.message_id is not None:
        return f"record:{turn.message_id}:tool"
    when = str(turn.time) if turn.time is not None else f"session:{turn.session_id or ''}"
    return identities.name_by_content(turn.speaker, when, turn.text)
