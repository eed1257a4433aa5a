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
class _Agent:
    """What is known of one sub-agent so far."""

    task: Turn | None = None
    report: Turn | None = None


@dataclass(slots=True)
class SubAgents:
    """Gathers the records of the sub-agents in one file; several may be at work at a time."""

    agents: dict[str, _Agent] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """The agent of each record, where records do not name it themselves."""

    def add(self, record: Record) -> None:
        """Take in a record that has `isSidechain`."""
        agent = self.agents.setdefault(self._agent_of(record), _Agent())
        if record.get("isMeta") or record.get("isApiErrorMessage"):
            return
        match record:
            case {"type": "user", "message": {"content": content}} if agent.task is None:
                text = user_text(content)
                agent.task = made_turn(record, Speaker.TASK, text) if text else None
            case {"type": "assistant", "message": {"content": content}}:
                if calls_tools(content):
                    agent.report = None  # what it said before it went on with its work
                elif text := assistant_text(content):
                    agent.report = made_turn(record, Speaker.REPORT, text)

    def documents(self, source: Source, identities: Identities) -> Iterator[Document]:
        """One for each agent, or several for a long one."""
        for name, agent in self.agents.items():
            if agent.report is None or name.startswith(_OWN_BUSINESS):
                continue
            if agent.task is not None and agent.task.text == _WARM_UP:
                continue
            exchange = Exchange(source, SUBAGENTS, _named(name))
            for named in filter(None, map(identities.admit, filter(None, (agent.task, agent.report)))):
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
