"""What the server has been asked."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import Arguments, Cursor, Limit
from mempalace_mcp.server.tools.tool import Tool, ToolContext

LAST_SESSION = 2**53 - 1
"""The last whole number that every reader of JSON takes as it is."""


class HistoryArguments(Arguments):
    """Whose calls, and which page of them."""

    session: Annotated[int, Field(ge=1, le=LAST_SESSION, description="Number of a session")] | None = None
    limit: Limit = 20
    cursor: Cursor | None = None


class HistoryAnswer(TypedDict):
    """One page of calls and the sessions they belong to; `total` counts the calls that are remembered.

    `totals` count since the process began, beyond what is remembered.
    """

    calls: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None
    sessions: list[Json]
    totals: NotRequired[Json]
    history_limit: NotRequired[int]


def history(context: ToolContext, arguments: HistoryArguments, deadline: Deadline) -> dict[str, Any]:
    return context.history(session=arguments.session, limit=arguments.limit, cursor=arguments.cursor)


HISTORY = Tool(
    name="history",
    title="History",
    description="List the calls this server has answered, newest first: tool, outcome, duration, sizes, no contents.",
    arguments=HistoryArguments,
    answer=HistoryAnswer,
    run=history,
)
