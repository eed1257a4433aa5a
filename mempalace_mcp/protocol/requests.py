"""What is asked beside calls of tools: answered in the executor, within a deadline, counted, refused in one shape.

A refusal is a JSON-RPC error whose `data` is what a refused call of a tool has as its `error`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import Conflict, Forbidden, InvalidArgument, NotFound, PalaceError, ReadOnly
from mempalace_mcp.protocol.calls import unexpected, verify_size
from mempalace_mcp.protocol.envelope import INVALID_PARAMS
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.tools.answers import Json, to_json

logger = logging.getLogger(__name__)

INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
_CALLERS_FAULT = (InvalidArgument, NotFound, Conflict, Forbidden, ReadOnly)

Work = Callable[[Services], Json]
"""Forms a result from what the caller may use. It runs in a thread."""

Before = Callable[[Origin], Awaitable[None]]


class Requests:
    """Answers them one by one, with the SDK or without it; `method` names each in the history."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, origin: Origin, method: str, work: Work, *, before: Before | None = None) -> bytes:
        """Do the work, and something else before it; its result in JSON.

        Raises:
            PalaceError: it was refused, or failed.
        """
        try:
            with origin.session.call(method, origin.size) as running:
                if origin.fault is not None:
                    raise origin.fault
                if before is not None:
                    await before(origin)
                encoded = await self._run(origin, work)
                running.bytes_out = len(encoded)
                verify_size(running.bytes_out)
                return encoded
        except PalaceError:
            raise
        except Exception as error:  # the client gets an answer whatever happens; the trace is in the log
            logger.exception("%s failed", method)
            raise unexpected(error) from None

    async def _run(self, origin: Origin, work: Work) -> bytes:
        deadline = Deadline()
        try:
            return await self._services.executor.run(origin.client, self._work, work, deadline, origin.access)
        finally:
            deadline.cancel()

    def _work(self, work: Work, deadline: Deadline, access: Access) -> bytes:
        deadline.check("a free worker")
        return encode(work(self._services.granted(access)))


def refusal(error: PalaceError) -> Json:
    """The refusal as a JSON-RPC error."""
    return {"code": _code(error), "message": error.message, "data": error.as_dict()}


def _code(error: PalaceError) -> int:
    if isinstance(error, _CALLERS_FAULT):
        return INVALID_PARAMS
    return SERVER_ERROR if error.retryable else INTERNAL_ERROR


def verify_no_cursor(cursor: str | None, listed: str) -> None:
    """Return if a listing of one page is asked for its beginning.

    Raises:
        InvalidArgument: a cursor was given, and none is ever handed out.
    """
    if cursor:
        raise InvalidArgument(
            f"cursor is unknown: all {listed} are on the first page", argument="cursor", hint="Leave it out."
        )


def encode(content: Json) -> bytes:
    """The content as it is written."""
    return to_json(content).encode()
