"""Each agent's diary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.model import DiaryEntry, Page
from mempalace_mcp.palace.token_estimate import estimate_tokens
from mempalace_mcp.server.tools.answers import TOKENS, Json, Quoting, fitting_as_json, quoting, to_json
from mempalace_mcp.server.tools.schema import Arguments, Content, Cursor, Limit
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext


class EntryArguments(Arguments):
    """An entry to write."""

    agent_name: Annotated[str, Field(description="Yours")]
    entry: Content
    topic: str = "general"
    wing: Annotated[str, Field(description="Default: one of your own")] | None = None


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
    cursor: Cursor | None = None


class DiaryReadAnswer(Quoting):
    """Entries, newest first: fewer than asked for if they are long. `truncated`: the only one is cut, being longer."""

    agent: NotRequired[str]
    entries: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None
    truncated: NotRequired[bool]


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
        "written_at": format_instant(entry.written_at),
    }


def diary_read(context: ToolContext, arguments: DiaryReadArguments, deadline: Deadline) -> DiaryReadAnswer:
    page = _page(context, arguments, arguments.last_n)
    fitting = _count_fitting(page.items)
    if fitting < len(page.items):
        page = _page(context, arguments, fitting)
    entries = [_entry(entry) for entry in page.items]
    is_cut = any(len(shown["content"]) < shown["characters"] for shown in entries)
    answer = DiaryReadAnswer(
        agent=page.items[0].agent if page.items else arguments.agent_name,
        entries=entries,
        count=len(page.items),
        total=page.total,
        next_cursor=page.next_cursor,
        truncated=is_cut,
    )
    return {**answer, **quoting(page.items)}


def _page(context: ToolContext, arguments: DiaryReadArguments, last_n: int) -> Page[DiaryEntry]:
    page: Page[DiaryEntry] = context.palace.diary_read(
        arguments.agent_name, last_n=last_n, topic=arguments.topic, cursor=arguments.cursor
    )
    return page


def _count_fitting(entries: Sequence[DiaryEntry]) -> int:
    """How many entries from the first on fit in an answer; one always does, cut if it must be."""
    room = TOKENS
    for count, entry in enumerate(entries):
        shown = _entry(entry)
        room -= estimate_tokens(to_json(shown))
        if count and (room < 0 or len(shown["content"]) < shown["characters"]):
            return count
    return len(entries)


def _entry(entry: DiaryEntry) -> Json:
    head = {**written_entry(entry), "characters": len(entry.content)}
    room = TOKENS - estimate_tokens(to_json(head))
    return {**head, "content": entry.content[: fitting_as_json(entry.content, room)]}


DIARY_WRITE = Tool(
    name="diary_write",
    title="Write diary",
    description="Write down what you did, decided and learned.",
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
    description="Read an agent's diary, newest first; {get_drawers} has entries that are cut.",
    arguments=DiaryReadArguments,
    answer=DiaryReadAnswer,
    run=diary_read,
    within_wings=True,
)
