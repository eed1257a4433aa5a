"""One call of a tool, from its arguments to its answer, whichever door it came through."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.protocol.envelope import CALL
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.progress import Progress, Send
from mempalace_mcp.protocol.receipt import receipt_key
from mempalace_mcp.protocol.revisions import PROGRESS_TOKEN, PROTOCOL_VERSION
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.tools.answers import to_json

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one answer, which carries its JSON twice: as structured content and as text."""

BRIEF_BYTES = 16 * 1024
"""A call that is longer takes too long to read and write for running where everybody's writes wait."""

_PARAMETERS = {"name", "arguments", "_meta"}


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks of a tool; `meta` is what it says about the request itself, and with the token it wants to be
    told how far the call is."""

    tool: str
    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    progress_token: str | int | None = None


def read_call(content: Mapping[str, Any]) -> Call | None:
    """The call in a verified message of a session that began with a handshake.

    None if there is none, or more in it than a call: the SDK understands tasks and later revisions.
    """
    if content.get("method") != CALL or "id" not in content:
        return None
    params = content.get("params") or {}
    meta = params.get("_meta", {})
    if not params.keys() <= _PARAMETERS or not is_plain_meta(meta):
        return None
    return Call(params["name"], params.get("arguments") or {}, meta, meta.get(PROGRESS_TOKEN))


def is_plain_meta(meta: object) -> bool:
    """True if there is nothing in a request's `_meta` that only the SDK understands."""
    if not isinstance(meta, dict) or PROTOCOL_VERSION in meta:
        return False
    token = meta.get(PROGRESS_TOKEN, "")
    return isinstance(token, str | int) and not isinstance(token, bool)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: its content, the same as text, and both as a `CallToolResult` in JSON."""

    content: dict[str, Any]
    text: str
    encoded: bytes
    is_error: bool

    @classmethod
    def of(cls, content: dict[str, Any], *, is_error: bool = False) -> Answer:
        """The answer with that content, in the form that all revisions with a handshake share."""
        text = to_json(content)
        shown = f'"content":[{{"type":"text","text":{to_json(text)}}}]'
        encoded = f'{{{shown},"structuredContent":{text},"isError":{to_json(is_error)}}}'.encode()
        return cls(content, text, encoded, is_error)

    @classmethod
    def refusing(cls, error: PalaceError) -> Answer:
        """The one shape of every refusal."""
        return cls.of({"error": error.as_dict()}, is_error=True)


def encode_response(request_id: str | int, answer: Answer) -> bytes:
    """The answer as the response to a request, without a newline."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (json.dumps(request_id).encode(), answer.encoded)


class Calls:
    """Runs calls. Nothing that a tool does or refuses is raised: every call has an answer."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._names = frozenset(str(definition["name"]) for definition in services.tools.definitions())

    async def answer(self, call: Call, origin: Origin, progress: Progress | None = None) -> Answer:
        """Run one call within its deadline, and count it; it notes in `progress` how far it is."""
        tool = call.tool if call.tool in self._names else "unknown"
        try:
            with origin.session.call(tool, origin.size) as running:
                if origin.fault is not None:
                    raise origin.fault
                deadline = Deadline(receipt=receipt_key(origin, call.tool, call.arguments, call.meta))
                if progress is not None:
                    deadline.report = progress.note
                answer = await self._run(call, deadline, origin)
                running.bytes_out = len(answer.encoded)
                verify_size(running.bytes_out)
                return answer
        except PalaceError as error:
            return Answer.refusing(error)
        except Exception as error:  # the client gets an answer whatever a tool does; the trace is in the log
            logger.exception("the tool %s failed", tool)
            return Answer.refusing(unexpected(error))

    async def answer_and_tell(self, call: Call, origin: Origin, send: Send) -> Answer:
        """The same, and tell the client meanwhile how far it is."""
        progress = Progress()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.tell, send)
            answer = await self.answer(call, origin, progress)
            tasks.cancel_scope.cancel()
        return answer

    def is_brief(self, call: Call, origin: Origin) -> bool:
        """True if the call is better run where it writes than in a thread of its own, whose turn it would wait for."""
        services = self._services
        return origin.size <= BRIEF_BYTES and services.tools.is_brief(call.tool) and services.writer.has_room

    async def _run(self, call: Call, deadline: Deadline, origin: Origin) -> Answer:
        work = partial(self._work, call, deadline, origin.access)
        try:
            if self.is_brief(call, origin):
                return await self._services.writer.run(work, deadline)
            return await self._services.executor.run(origin.client, work)
        finally:
            deadline.cancel()  # whichever way this is left, nobody waits for the tool any more

    def _work(self, call: Call, deadline: Deadline, access: Access) -> Answer:
        deadline.check("a free worker")
        services = self._services.granted(access)
        return Answer.of(services.tools.call(services.tool_context, call.tool, call.arguments, deadline))


def verify_size(size: int) -> None:
    """Return if an answer of so many bytes may be given.

    Raises:
        InvalidArgument: it is too long; the caller asked for too much.
    """
    if size > MAX_ANSWER_BYTES:
        raise InvalidArgument(
            f"the answer has {size:,} bytes; the limit is {MAX_ANSWER_BYTES:,}",
            hint="Ask for less at a time: a lower limit, fewer ids, or narrower filters.",
        )


def unexpected(error: Exception) -> PalaceError:
    """Stands for an error that nobody foresaw; says no more than its type."""
    return PalaceError(
        f"the server made a mistake ({type(error).__name__}); its log has the details",
        hint="Try again; if it happens again, report it.",
    )
