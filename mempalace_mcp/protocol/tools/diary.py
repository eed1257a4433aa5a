"""Each agent's diary."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from mempalace_mcp.core.clock import show
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.model import DiaryEntry
from mempalace_mcp.protocol.tools.answers import Json, Quoting, quoting
from mempalace_mcp.protocol.tools.arguments import Arguments, Content, Limit
from mempalace_mcp.protocol.tools.context import ToolContext
from mempalace_mcp.protocol.tools.tool import Effect, Tool


class EntryArguments(Arguments):
    """An entry to write."""

    agent_name: str
    entry: Content
    topic: str = "general"
    wing: str | None = None


class WrittenAnswer(TypedDict):
    """The entry's drawer and its head; `topic` and `agent` as they are stored."""

    drawer_id: str
    agent: NotRequired[str]
    topic: NotRequired[str]
    written_at: NotRequired[str]


class DiaryReadArguments(Arguments):
    """Whose diary, and how much of it."""

    agent_name: str
    last_n: Limit = 10
    topic: str | None = None
    cursor: str | None = None


class DiaryReadAnswer(Quoting):
    """Entries, newest first."""

    agent: NotRequired[str]
    entries: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


def diary_write(context: ToolContext, arguments: EntryArguments, deadline: Deadline) -> WrittenAnswer:
    written = context.palace.diary_write(
        arguments.agent_name, arguments.entry, topic=arguments.topic, wing=arguments.wing, deadline=deadline
    )
    return written_entry(written)


def written_entry(entry: DiaryEntry) -> WrittenAnswer:
    """An entry without its text."""
    return {
        "drawer_id": entry.drawer_id,
        "agent": entry.agent,
        "topic": entry.topic,
        "written_at": show(entry.written_at),
    }


def diary_read(context: ToolContext, arguments: DiaryReadArguments, deadline: Deadline) -> DiaryReadAnswer:
    page = context.palace.diary_read(
        arguments.agent_name, last_n=arguments.last_n, topic=arguments.topic, cursor=arguments.cursor
    )
    return {
        "agent": page.items[0].agent if page.items else arguments.agent_name,
        "entries": [{**written_entry(entry), "content": entry.content} for entry in page.items],
        "count": len(page.items),
        "total": page.total,
        "next_cursor": page.next_cursor,
        **quoting(page.items),
    }


DIARY_WRITE = Tool(
    name="diary_write",
    title="Write diary",
    description="Write down what you did, decided and learned. Returns its drawer_id.",
    arguments=EntryArguments,
    answer=WrittenAnswer,
    run=diary_write,
    effect=Effect.WRITE,
    idempotent=False,
    within_wings=True,
)
DIARY_READ = Tool(
    name="diary_read",
    title="Read diary",
    description="Read an agent's diary, newest entry first.",
    arguments=DiaryReadArguments,
    answer=DiaryReadAnswer,
    run=diary_read,
    within_wings=True,
)
