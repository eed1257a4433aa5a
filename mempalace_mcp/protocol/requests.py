"""What is asked beside calls of tools: answered in the executor, within a deadline, counted, refused in one shape.

A refusal is a JSON-RPC error whose `data` is what a refused call of a tool has as its `error`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import Conflict, Forbidden, InvalidArgument, NotFound, PalaceError, ReadOnly
from mempalace_mcp.protocol.calls import unexpected, verify_size
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.services import Services

logger = logging.getLogger(__name__)

RESOURCE_NOT_FOUND = -32002
"""Until 2025-11-25; later revisions say INVALID_PARAMS."""

SERVER_ERROR = -32000
_CALLERS_FAULT = (InvalidArgument, NotFound, Conflict, Forbidden, ReadOnly)

Context = ServerRequestContext[Any, Any]
R = TypeVar("R", bound=BaseModel)
Work = Callable[[Services], R]
"""Forms an answer from what the caller may use. It runs in a thread."""

Before = Callable[[Origin], Awaitable[None]]


class Requests:
    """Answers them one by one; `method` names each in the history."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(
        self, context: Context, method: str, work: Work[R], *, uri: str | None = None, before: Before | None = None
    ) -> R:
        """Do the work, and something else before it. `uri` is the resource that is asked for: what is wrong with it
        means that there is none.

        Raises:
            MCPError: it was refused, or failed.
        """
        origin = Origin.of_request(context.request)
        try:
            with origin.session.call(method, origin.size) as running:
                if origin.fault is not None:
                    raise origin.fault
                if before is not None:
                    await before(origin)
                result, running.bytes_out = await self._run(origin, work)
                verify_size(running.bytes_out)
                return result
        except PalaceError as error:
            raise mcp_error(error, context.protocol_version, uri) from None
        except Exception as error:  # the client gets an answer whatever happens; the trace is in the log
            logger.exception("%s failed", method)
            raise mcp_error(unexpected(error), context.protocol_version) from None

    async def _run(self, origin: Origin, work: Work[R]) -> tuple[R, int]:
        deadline = Deadline()
        try:
            return await self._services.executor.run(origin.client, self._work, work, deadline, origin.access)
        finally:
            deadline.cancel()

    def _work(self, work: Work[R], deadline: Deadline, access: Access) -> tuple[R, int]:
        deadline.check("a free worker")
        result = work(self._services.granted(access))
        return result, len(result.model_dump_json(by_alias=True, exclude_none=True).encode())


def mcp_error(error: PalaceError, revision: str, uri: str | None = None) -> MCPError:
    """The refusal as a JSON-RPC error of that revision of the protocol."""
    told: dict[str, Any] = error.as_dict()
    if uri is not None and isinstance(error, InvalidArgument | NotFound):
        code = INVALID_PARAMS if revision in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
        return MCPError(code=code, message=f"Resource not found: {error.message}", data={"uri": uri, **told})
    if isinstance(error, _CALLERS_FAULT):
        return MCPError(code=INVALID_PARAMS, message=error.message, data=told)
    return MCPError(code=SERVER_ERROR if error.retryable else INTERNAL_ERROR, message=error.message, data=told)


def verify_no_cursor(cursor: str | None, listed: str) -> None:
    """Return if a listing of one page is asked for its beginning.

    Raises:
        InvalidArgument: a cursor was given, and none is ever handed out.
    """
    if cursor:
        raise InvalidArgument(
            f"cursor is unknown: all {listed} are on the first page", argument="cursor", hint="Leave it out."
        )
