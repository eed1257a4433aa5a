"""What sub-agents found: the task each was given and its report. What one says at work is noise to others, and one that
was stopped at work has not reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.document import Document, Source
from mempalace_mcp.palace.importers.exchange import Exchange
from mempalace_mcp.palace.importers.identity import Identities
from mempalace_mcp.palace.importers.lines import Record
from mempalace_mcp.palace.importers.naming import SUBAGENTS
from mempalace_mcp.palace.importers.turns import Speaker, Turn, assistant_text, calls_tools, label, made_turn, user_text

_OWN_BUSINESS = ("acompact", "aprompt_suggestion")
"""How the ids of the agents begin by which the client itself sums up and suggests."""
_WARM_UP = "Warmup"


@dataclass(slots=True)
class _Round:
    """A task of a sub-agent and its report so far. One that has reported may be given another task."""

    task: Turn | None
    report: list[Turn] = field(default_factory=list)
    message: str | None = None
    """The id of the message that reports; each of its blocks is a record of its own."""

    def add(self, said: Turn, message: str | None) -> None:
        """Take in what may be the report or a further block of it; of several messages the last one is."""
        if message is None or message != self.message:
            self.report.clear()
        self.report.append(said)
        self.message = message


@dataclass(slots=True)
class SubAgents:
    """Gathers the records of the sub-agents in one file; several may be at work at a time."""

    agents: dict[str, list[_Round]] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """The agent of each record, where records do not name it themselves."""

    def add(self, record: Record) -> None:
        """Take in a record that has `isSidechain`."""
        rounds = self.agents.setdefault(self._agent_of(record), [])
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
                    rounds[-1].report.clear()  # what it said before it went on with its work
                elif text := assistant_text(content):
                    rounds[-1].add(made_turn(record, Speaker.REPORT, text), label(message.get("id")))

    def documents(self, source: Source, identities: Identities) -> Iterator[Document]:
        """One for each report, or several for a long one."""
        for name, rounds in self.agents.items():
            if name.startswith(_OWN_BUSINESS):
                continue
            for each in rounds:
                if not each.report or (each.task is not None and each.task.text == _WARM_UP):
                    continue
                exchange = Exchange(source, SUBAGENTS, _named(name))
                for named in filter(None, map(identities.admit, filter(None, (each.task, *each.report)))):
                    yield from exchange.add(named)
                yield from exchange.finish()

    def _agent_of(self, record: Record) -> str:
        named = label(record.get("agentId"))
        if named is not None:
            return named
        uuid, parent = label(record.get("uuid")), label(record.get("parentUuid"))
        root = self.roots.get(parent or "", f"~{uuid or ''}" if parent is None else f"~{parent}")
        if uuid is not None:
            self.roots[uuid] = root
        return root


def _named(name: str) -> Metadata:
    return {} if name.startswith("~") else {"agent_id": name}
