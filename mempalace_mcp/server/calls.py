"""Calls of tools and other requests: what names them, what they tell meanwhile, and the answer.

By which key a call is known when it is repeated.

How far a long call is, told to a client that asked for it.

One call of a tool, from its arguments to its answer, whichever door it came through.

What is asked beside calls of tools: answered in the executor, within a deadline, counted, refused in one shape.

A refusal is a JSON-RPC error whose `data` is what a refused call of a tool has as its `error`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import anyio

from mempalace_mcp.core.call_context import IDEMPOTENCY_KEY, Deadline, IdempotencyKey, Principal
from mempalace_mcp.core.errors import Conflict, Forbidden, InvalidArgument, NotFound, PalaceError, ReadOnly
from mempalace_mcp.server.initialize import CLIENT_INFO, PROGRESS_TOKEN, PROTOCOL_VERSION
from mempalace_mcp.server.jsonrpc import CALL, INVALID_PARAMS
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.tools.answers import Json, to_json

MAX_KEY_CHARACTERS = 128
CLIENT_SCOPE = "client"
"""Of the keys that clients choose: those of a token's bearers are apart from all others, and so are, without a token,
those of each client that can be told from others."""

_META_KEY = IDEMPOTENCY_KEY.removeprefix("_meta.")
_DIGEST_BYTES = 16


def receipt_key(
    origin: RequestContext, tool: str, arguments: Mapping[str, Any], meta: Mapping[str, object]
) -> IdempotencyKey | None:
    """The key that the client gave with the call, else the one its door gave, else None.

    Raises:
        InvalidArgument: the client's key is not a text of 1 to 128 characters.
    """
    if _META_KEY in meta:
        return IdempotencyKey(_scope(origin, meta), _verified(meta[_META_KEY]), _digest(tool, arguments))
    if origin.receipt_scope is not None and origin.sequence is not None:
        return IdempotencyKey(origin.receipt_scope, str(origin.sequence), _digest(tool, arguments))
    return None


def _scope(origin: RequestContext, meta: Mapping[str, object]) -> str:
    """Whose key it is. A client is known by its token, else by the session that it names, else by its own name."""
    if origin.access.name:
        return f"{CLIENT_SCOPE} {origin.access.name}"
    if origin.session_id is not None:
        return f"{CLIENT_SCOPE} session {origin.session_id}"
    client = meta.get(CLIENT_INFO)
    name = client.get("name") if isinstance(client, dict) else None
    return CLIENT_SCOPE if not isinstance(name, str) else f"{CLIENT_SCOPE} name {_fingerprint(name)}"


def _verified(key: object) -> str:
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise InvalidArgument(
        f"{IDEMPOTENCY_KEY} must be a text of 1 to {MAX_KEY_CHARACTERS} characters",
        argument=IDEMPOTENCY_KEY,
        hint="Use a UUID for each call, the same one when the call is repeated, or leave it out. Nothing was done.",
    )


def _digest(tool: str, arguments: Mapping[str, Any]) -> bytes:
    """Equal for the same request, in whatever order its arguments come."""
    request = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"))
    return blake2b(request.encode("ascii"), digest_size=_DIGEST_BYTES).digest()


def _fingerprint(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


PERIOD_SECONDS = 0.5
"""From one report to the next; what a tool says in between is replaced by what it says last."""

LONG_SECONDS = 1.0
"""After that a tool that says nothing is reported to be at work."""

Send = Callable[[float, float | None, str | None], Awaitable[None]]
"""Tells the client the progress, the total if it is known, and what that means."""


class ProgressReporter:
    """What one call has reported. `note` is called from its thread, `tell` runs beside it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._latest: tuple[float, float | None, str] | None = None

    def note(self, done: float, total: float | None, message: str) -> None:
        """The call has come that far."""
        self._latest = done, total, message

    async def tell(self, send: Send) -> None:
        """Tell every news, for ever; never less than before."""
        told = -1.0
        while True:
            await anyio.sleep(PERIOD_SECONDS)
            done, total, message = self._latest or self._at_work()
            if done > told and (self._latest or done >= LONG_SECONDS):
                await send(done, total, message)
                told = done

    def _at_work(self) -> tuple[float, None, str]:
        seconds = round(time.monotonic() - self._began, 1)
        return seconds, None, f"at work for {seconds:.0f} s"


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

    async def answer(self, call: Call, origin: RequestContext, progress: ProgressReporter | None = None) -> Answer:
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

    async def answer_and_tell(self, call: Call, origin: RequestContext, send: Send) -> Answer:
        """The same, and tell the client meanwhile how far it is."""
        progress = ProgressReporter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.tell, send)
            answer = await self.answer(call, origin, progress)
            tasks.cancel_scope.cancel()
        return answer

    def is_brief(self, call: Call, origin: RequestContext) -> bool:
        """True if the call is better run where it writes than in a thread of its own, whose turn it would wait for."""
        services = self._services
        return origin.size <= BRIEF_BYTES and services.tools.is_brief(call.tool) and services.writer.has_room

    async def _run(self, call: Call, deadline: Deadline, origin: RequestContext) -> Answer:
        work = partial(self._work, call, deadline, origin.access)
        try:
            if self.is_brief(call, origin):
                return await self._services.writer.run(work, deadline)
            return await self._services.executor.run(origin.client, work)
        finally:
            deadline.cancel()  # whichever way this is left, nobody waits for the tool any more

    def _work(self, call: Call, deadline: Deadline, access: Principal) -> Answer:
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


INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
_CALLERS_FAULT = (InvalidArgument, NotFound, Conflict, Forbidden, ReadOnly)

Work = Callable[[Services], Json]
"""Forms a result from what the caller may use. It runs in a thread."""

Before = Callable[[RequestContext], Awaitable[None]]


class Requests:
    """Answers them one by one, with the SDK or without it; `method` names each in the history."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, origin: RequestContext, method: str, work: Work, *, before: Before | None = None) -> bytes:
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

    async def _run(self, origin: RequestContext, work: Work) -> bytes:
        deadline = Deadline()
        try:
            return await self._services.executor.run(origin.client, self._work, work, deadline, origin.access)
        finally:
            deadline.cancel()

    def _work(self, work: Work, deadline: Deadline, access: Principal) -> bytes:
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
