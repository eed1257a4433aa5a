"""Sub-agents of Claude Code: of each the tasks and the reports are kept, and none of the messages between.

Their records have `isSidechain`. They are in the file of their session in older versions, else in
`SESSION/subagents/agent-ID.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.claude_records import (
    RecordTurn,
    assistant_text,
    calls_tools,
    ends_turn,
    identify,
    made_turn,
    user_text,
)
from mempalace_mcp.palace.importers.conversations import Exchange, IdentifiedTurn, Identities, Speaker, label
from mempalace_mcp.palace.importers.documents import Document, Source
from mempalace_mcp.palace.importers.json_lines import Record
from mempalace_mcp.palace.importers.naming import SUBAGENTS

_OWN_BUSINESS = ("acompact", "aprompt_suggestion")
"""Beginnings of the ids of agents that the client runs for itself: for summaries and suggestions."""
_WARM_UP = "Warmup"


@dataclass(slots=True)
class _Round:
    """A task of a sub-agent and its report so far. One that has reported may be given another task."""

    task: RecordTurn | None
    report: list[RecordTurn] = field(default_factory=list)
    message: str | None = None
    """The id of the message that reports; each of its blocks is a record of its own."""
    is_ended: bool = False

    def add(self, said: RecordTurn, message: str | None, is_ended: bool) -> None:
        """Add a message, or a further block of one, that may be the report. The last message is the report."""
        if message is None or message != self.message:
            self.report.clear()
        self.report.append(said)
        self.message = message
        self.is_ended = is_ended


@dataclass(slots=True)
class SubAgents:
    """Collects the tasks and reports of the sub-agents in one file. Several may work at the same time."""

    agents: dict[str, list[_Round]] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """The agent of each record, for records that do not name it."""

    def add(self, record: Record) -> None:
        """Add a record that has `isSidechain`."""
        rounds = self.agents.setdefault(self._agent_of(record), [])
        is_ended = ends_turn(record, False)
        if record.get("isMeta") or record.get("isApiErrorMessage"):
            return
        match record:
            case {"type": "user", "message": {"content": content}} if not rounds or rounds[-1].report:
                if text := user_text(content):
                    rounds.append(_Round(made_turn(record, Speaker.TASK, text)))
            case {"type": "assistant", "message": {"content": content, **message}}:
                if not rounds:
                    rounds.append(_Round(None))
                if calls_tools(content):
                    rounds[-1].report.clear()  # it was no report: the work goes on
                elif text := assistant_text(content):
                    rounds[-1].add(
                        made_turn(record, Speaker.REPORT, text),
                        label(message.get("id")),
                        is_ended,
                    )

    def documents(self, source: Source, identities: Identities) -> Iterator[Document]:
        """A document for each report, or several for a long one."""
        for name, rounds in self.agents.items():
            if name.startswith(_OWN_BUSINESS):
                continue
            for each in rounds:
                if not each.report or (each.task is not None and each.task.text == _WARM_UP):
                    continue
                exchange = Exchange(source, SUBAGENTS, {"agent": "claude-code", **_named(name)})
                for identified in _identified(identities, each):
                    yield from exchange.add(identified)
                yield from (replace(part, may_grow=not each.is_ended) for part in exchange.finish())

    def _agent_of(self, record: Record) -> str:
        named = label(record.get("agentId"))
        if named is not None:
            return named
        uuid, parent = label(record.get("uuid")), label(record.get("parentUuid"))
        root = self.roots.get(parent or "", f"~{uuid or ''}" if parent is None else f"~{parent}")
        if uuid is not None:
            self.roots[uuid] = root
        return root


def _identified(identities: Identities, task: _Round) -> Iterator[IdentifiedTurn]:
    turns = [*([] if task.task is None else [task.task]), *task.report]
    return filter(None, (identify(identities, turn) for turn in turns))


def _named(name: str) -> Metadata:
    return {} if name.startswith("~") else {"agent_id": name}
