"""`GET /api/history`: what the server has been asked, for people and their dashboards. Its arguments are the tool's."""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.protocol.refusing import HttpRefusal
from mempalace_mcp.protocol.tools.arguments import readable
from mempalace_mcp.protocol.tools.history import HistoryArguments
from mempalace_mcp.protocol.tools.schema import input_schema
from mempalace_mcp.protocol.tools.validation import read_arguments
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.history import describe_history

PATH = "/api/history"

_SCHEMA = input_schema(HistoryArguments)


def history_route(activity: Activity) -> Route:
    """The route, which answers from memory."""

    async def history(request: Request) -> Response:
        try:
            asked = read_arguments(HistoryArguments, _read_query(request.query_params), _SCHEMA)
            told = describe_history(activity, session=asked.session, limit=asked.limit, cursor=asked.cursor)
        except (InvalidArgument, NotFound) as error:
            return HttpRefusal(404 if isinstance(error, NotFound) else 400, error).plain()
        return JSONResponse(told)

    return Route(PATH, history, methods=["GET"])


def _read_query(query: QueryParams) -> dict[str, str]:
    """The parameters by name.

    Raises:
        InvalidArgument: one is given twice.
    """
    pairs = query.multi_items()
    twice = next((name for position, (name, _) in enumerate(pairs) if name in dict(pairs[:position])), None)
    if twice is not None:
        raise InvalidArgument(f"{readable(twice)} is given twice", argument=readable(twice), hint="Give it once.")
    return dict(pairs)
