"""Decisions of the user in transcripts of Claude Code.

A user decides through tools: answers to questions, accepted plans, and the reason when a tool is refused. The client
keeps these as calls of tools and their results; the results have the role of the user.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PLAN_TOOLS = ("ExitPlanMode", "exit_plan_mode")
_OF_PLANS = ("filePath", "isAgent")
_REFUSED = re.compile(
    r"(?:Error: )?(?:The user |Permission for |The agent |The tool )[^\n]*?[Tt]he user said:[ \t]*\n?(.*)", re.DOTALL
)
_NOTE = re.compile(r"\n\s*Note: The user's next message may contain a correction or preference\..*\Z", re.DOTALL)
_ANSWERED = re.compile(
    r"(?:(?:The )?[Uu]ser (?:has )?answered (?:your|the) questions?|Your questions? (?:has|have) been answered):"
    r"\s*(.*?)\.?\s*(?:You can now continue\b.*)?\Z",
    re.DOTALL,
)
_TURNED_DOWN = re.compile(r"(?:Error: )?(?:The user doesn't want to|User rejected)\b")
_CLARIFY = "The user wants to clarify these questions"
_ASKED = re.compile(r'^- "(.*)"\s*\n\s+Answer: (.*)$', re.MULTILINE)
_APPROVED = ("User has approved your plan", "User has approved the plan", "User has approved exiting plan mode")
_NO = "Turned the plan down."
_PLAN_REJECTED = "The agent proposed a plan that was rejected by the user."
_REJECTED_PLAN = "Rejected plan:\n"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the user decided, in words, and the plan that it was about."""

    text: str
    plan: str = ""


def question_of(call: Mapping[Any, Any]) -> str:
    """The questions, or the plan, that the assistant puts to the user by calling a tool; empty for other calls."""
    given = call.get("input")
    if not isinstance(given, dict) or call.get("name") != "AskUserQuestion":
        return plan_of(call)
    questions = given.get("questions")
    return "\n\n".join(filter(None, map(_question, questions if isinstance(questions, list) else [given])))


def plan_of(call: Mapping[Any, Any]) -> str:
    """The plan that the assistant presents by calling a tool; empty for any other call."""
    given = call.get("input")
    return _text(given.get("plan")) if isinstance(given, dict) and call.get("name") in _PLAN_TOOLS else ""


def plan_calls(content: Any) -> list[str]:
    """The ids of the calls by which the assistant presents plans."""
    blocks = content if isinstance(content, list) else []
    ids = (block.get("id") for block in blocks if isinstance(block, dict) and plan_of(block))
    return [each for each in ids if isinstance(each, str)]


def refusal_text(content: Any, plans: Container[str]) -> str:
    """A sentence if the user turned down one of these plans without a comment; else empty. Plans are given as the ids
    of the calls that presented them."""
    blocks = content if isinstance(content, list) else []
    is_refused = any(
        block.get("tool_use_id") in plans and _TURNED_DOWN.match(_flat(block.get("content")))
        for block in blocks
        if isinstance(block, dict) and isinstance(block.get("tool_use_id"), str)
    )
    return _NO if is_refused else ""


def decision_of(content: Any, result: Any) -> Decision | None:
    """The user's decision in a record: from its content, and from the result that the client keeps beside it."""
    blocks = content if isinstance(content, list) else []
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    if not results:
        return None
    kept = result if isinstance(result, dict) else {}
    answers = _answers(kept)
    if answers:
        return Decision(answers)
    texts = list(filter(None, (_flat(each.get("content")) for each in results)))
    if not texts and isinstance(result, str):
        texts = [result]
    decisions = list(filter(None, map(_by_text, texts)))
    plan = _text(kept.get("plan"))
    if not decisions:
        return Decision("Approved the plan.", plan) if plan and not kept.keys().isdisjoint(_OF_PLANS) else None
    return Decision("\n\n".join(each.text for each in decisions), plan or "".join(each.plan for each in decisions))


def _by_text(text: str) -> Decision | None:
    """The user's decision in the text of one result; None if it holds none."""
    text = text.strip()
    if text.startswith(_APPROVED):
        return Decision("Approved the plan.")
    if text.startswith(_PLAN_REJECTED):
        return Decision(_NO, text.partition(_REJECTED_PLAN)[2].strip())
    answered = _ANSWERED.match(text)
    if answered is not None:
        return Decision(answered.group(1).strip()) if answered.group(1).strip() else None
    refused = _REFUSED.match(text)
    words = "" if refused is None else _NOTE.sub("", refused.group(1)).strip()
    if words.startswith(_CLARIFY):
        words = "\n".join(f"{question} {answer.strip()}" for question, answer in _ASKED.findall(words))
    return Decision(words) if words else None


def _question(question: Any) -> str:
    """A question with its options, a line each."""
    if not isinstance(question, dict) or not _text(question.get("question")):
        return ""
    options = question.get("options")
    lines = [_text(question.get("question"))]
    lines += [f"- {option}" for option in map(_option, options if isinstance(options, list) else []) if option]
    return "\n".join(lines)


def _option(option: Any) -> str:
    if not isinstance(option, dict):
        return _text(option)
    parts = (_text(option.get("label")), _text(option.get("description")))
    return ": ".join(filter(None, parts))


def _answers(kept: Mapping[Any, Any]) -> str:
    """Each question with its answer, and what the user noted beside it."""
    notes = kept.get("annotations")
    return "\n".join(
        " ".join(filter(None, (question, answer, _note(notes, question))))
        for question, answer in _pairs(kept.get("answers"))
        if answer
    )


def _pairs(answers: Any) -> Iterator[tuple[str, str]]:
    if isinstance(answers, dict):
        for question, answer in answers.items():
            yield _text(question), _answer(answer)
    elif isinstance(answers, list):
        for each in answers:
            yield (_text(each.get("question")) if isinstance(each, dict) else ""), _answer(each)


def _answer(answer: Any) -> str:
    if isinstance(answer, list):
        return ", ".join(filter(None, map(_answer, answer)))
    if isinstance(answer, dict):
        return next(filter(None, (_answer(answer.get(name)) for name in ("answer", "answers", "label", "text"))), "")
    return _text(answer)


def _note(notes: Any, question: str) -> str:
    note = notes.get(question) if isinstance(notes, dict) else None
    text = _text(note.get("notes")) if isinstance(note, dict) else _text(note)
    return f"({text})" if text else ""


def _flat(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_text(block.get("text")) for block in content if isinstance(block, dict))
    return _text(content)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
