"""Writing and reading the diaries of agents."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.model import DiaryEntry
from mempalace_mcp.palace.token_estimate import estimate_tokens
from mempalace_mcp.server.tools.answers import TOKENS, Json, Quoting, fitting_as_json, quoting, to_json
from mempalace_mcp.server.tools.schema import Content, Cursor, Limit
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool


class EntryArguments(TypedDict):
    """An entry to write."""

    agent_name: Annotated[str, Field(description="Yours")]
    entry: Content
    topic: NotRequired[Annotated[str, Field(default="general")]]
    wing: NotRequired[Annotated[str, Field(description="Default: one of your own")]]


class WrittenAnswer(TypedDict):
    """The entry's drawer and its head; `topic` and `agent` as they are stored."""

    drawer_id: str
    agent: NotRequired[str]
    topic: NotRequired[str]
    written_at: NotRequired[str]


class DiaryReadAnswer(Quoting):
    """Entries, newest first; fewer than `last_n` if they are long. `truncated`: the only one is too long, and cut."""

    agent: NotRequired[str]
    entries: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None
    truncated: NotRequired[bool]


@tool(
    "Write down what you did, decided and learned.",
    title="Write diary",
    effect=Effect.WRITE,
    idempotent=False,
    within_wings=True,
)
def diary_write(call: ToolCall, **entry: Unpack[EntryArguments]) -> WrittenAnswer:
    written = call.palace.diary_write(**entry, deadline=call.deadline)
    return format_entry_head(written)


def format_entry_head(entry: DiaryEntry) -> WrittenAnswer:
    """An entry of a diary without its text."""
    return {
        "drawer_id": entry.drawer_id,
        "agent": entry.agent,
        "topic": entry.topic,
        "written_at": format_instant(entry.written_at),
    }


@tool(
    "Read an agent's diary, newest first; {get_drawers} has entries that are cut.",
    title="Read diary",
    within_wings=True,
)
def diary_read(
    call: ToolCall, agent_name: str, last_n: Limit = 10, topic: str | None = None, cursor: Cursor | None = None
) -> DiaryReadAnswer:
    read = partial(call.palace.diary_read, agent_name, topic=topic, cursor=cursor)
    page = read(last_n=last_n)
    fitting = _count_fitting(page.items)
    if fitting < len(page.items):
        page = read(last_n=fitting)
    entries = [_format_entry(entry) for entry in page.items]
    is_cut = any(len(shown["content"]) < shown["characters"] for shown in entries)
    answer = DiaryReadAnswer(
        agent=page.items[0].agent if page.items else agent_name,
        entries=entries,
        count=len(page.items),
        total=page.total,
        next_cursor=page.next_cursor,
        truncated=is_cut,
    )
    return {**answer, **quoting(page.items)}


def _count_fitting(entries: Sequence[DiaryEntry]) -> int:
    """The number of entries from the first on that fit in an answer; the first one is cut if it does not fit."""
    room = TOKENS
    for count, entry in enumerate(entries):
        shown = _format_entry(entry)
        room -= estimate_tokens(to_json(shown))
        if count and (room < 0 or len(shown["content"]) < shown["characters"]):
            return count
    return len(entries)


def _format_entry(entry: DiaryEntry) -> Json:
    head = {**format_entry_head(entry), "characters": len(entry.content)}
    room = TOKENS - estimate_tokens(to_json(head))
    return {**head, "content": entry.content[: fitting_as_json(entry.content, room)]}
