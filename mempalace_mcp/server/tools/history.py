"""The calls that the server has answered."""

from typing import Annotated, NotRequired, TypedDict, cast

from pydantic import Field

from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import Cursor, Limit
from mempalace_mcp.server.tools.tool import ToolCall, tool

LAST_SESSION = 2**53 - 1
"""The last whole number that every reader of JSON takes as it is."""


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


@tool("List the calls this server has answered, newest first: tool, outcome, duration, sizes, no contents.")
def history(
    call: ToolCall,
    session: Annotated[int, Field(ge=1, le=LAST_SESSION, description="Number of a session")] | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> HistoryAnswer:
    page = call.context.history(session=session, limit=limit, cursor=cursor)
    return cast(HistoryAnswer, page)
