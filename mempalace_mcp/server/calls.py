"""Calls of tools: their idempotency keys, their progress, their results.

`counted` runs any request that is part of the history, not only calls.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

import anyio

from mempalace_mcp.core.call_context import IDEMPOTENCY_KEY, Deadline, IdempotencyKey, Principal
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.server.initialize import CLIENT_INFO, PROGRESS_TOKEN
from mempalace_mcp.server.jsonrpc import Result
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.tools.answers import Json, present, to_json

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one result; that of a call holds its content twice, as JSON and as text."""

MAX_KEY_CHARACTERS = 128
CLIENT_SCOPE = "client"
"""Begins the scope of all keys that clients choose; the rest of it separates the clients that can be told apart."""

_META_KEY = IDEMPOTENCY_KEY.removeprefix("_meta.")
_DIGEST_BYTES = 16

PERIOD_SECONDS = 0.5
"""Between two reports of progress; the tool's last report replaces those before it."""

LONG_SECONDS = 1.0
"""After that a tool that reports nothing is reported to be at work."""

SendProgress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Sends the progress, the total if it is known, and a message to the client."""


def idempotency_key(
    request: RequestContext, tool: str, arguments: Mapping[str, Any], meta: Mapping[str, object]
) -> IdempotencyKey | None:
    """The key that the client gave with the call, else the one of its transport, else None.

    Raises:
        InvalidArgument: the client's key is not a text of 1 to 128 characters.
    """
    if _META_KEY in meta:
        return IdempotencyKey(_scope(request, meta), _verify_key(meta[_META_KEY]), _digest(tool, arguments))
    if request.idempotency_scope is not None and request.sequence is not None:
        return IdempotencyKey(request.idempotency_scope, str(request.sequence), _digest(tool, arguments))
    return None


def _scope(request: RequestContext, meta: Mapping[str, object]) -> str:
    """A client is known by its token, else by its session id, else by its name."""
    if request.access.name:
        return f"{CLIENT_SCOPE} {request.access.name}"
    if request.session_id is not None:
        return f"{CLIENT_SCOPE} session {request.session_id}"
    client = meta.get(CLIENT_INFO)
    name = client.get("name") if isinstance(client, dict) else None
    return CLIENT_SCOPE if not isinstance(name, str) else f"{CLIENT_SCOPE} name {_fingerprint(name)}"


def _verify_key(key: object) -> str:
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise InvalidArgument(
        f"{IDEMPOTENCY_KEY} must be a text of 1 to {MAX_KEY_CHARACTERS} characters",
        argument=IDEMPOTENCY_KEY,
        hint="Use a UUID for each call, the same one when the call is repeated, or leave it out. Nothing was done.",
    )


def _digest(tool: str, arguments: Mapping[str, Any]) -> bytes:
    """Equal for equal calls, in whatever order their arguments come."""
    call = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"))
    return blake2b(call.encode("ascii"), digest_size=_DIGEST_BYTES).digest()


def _fingerprint(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


class ProgressReporter:
    """The progress of one call. `note` is called in the call's thread; `run` runs beside the call."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._latest: tuple[float, float | None, str] | None = None

    def note(self, done: float, total: float | None, message: str) -> None:
        """Keep the progress for the next report."""
        self._latest = done, total, message

    async def run(self, send: SendProgress) -> None:
        """Send reports until cancelled. The progress of each is more than that of the one before."""
        sent = -1.0
        while True:
            await anyio.sleep(PERIOD_SECONDS)
            done, total, message = self._latest or self._at_work()
            if done > sent and (self._latest or done >= LONG_SECONDS):
                await send(done, total, message)
                sent = done

    def _at_work(self) -> tuple[float, None, str]:
        seconds = round(time.monotonic() - self._started, 1)
        return seconds, None, f"at work for {seconds:.0f} s"


def progress_token(meta: Mapping[str, object]) -> str | int | None:
    """The token under which the client wants reports of progress, or None."""
    token = meta.get(PROGRESS_TOKEN)
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None


class ToolCalls:
    """Runs calls of tools. Every call has a result: refusals and failures are results, too."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._names = frozenset(str(definition["name"]) for definition in services.tools.definitions())

    async def answer(self, request: RequestContext, params: Json) -> Result:
        """Run one call within its deadline, count it, and report its progress if the client asks for that."""
        token = progress_token(params.get("_meta") or {})
        if token is None:
            return await self._answer(request, params, None)

        async def send(done: float, total: float | None, message: str | None) -> None:
            report = {PROGRESS_TOKEN: token, "progress": done, "total": total, "message": message}
            await request.session.notify("notifications/progress", present(report))

        progress = ProgressReporter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.run, send)
            result = await self._answer(request, params, progress)
            tasks.cancel_scope.cancel()
        return result

    async def _answer(self, request: RequestContext, params: Json, progress: ProgressReporter | None) -> Result:
        tool, in_writer = params["name"], self._runs_in_writer(request, params["name"])
        run = partial(self._run, request, params, progress, in_writer)
        name = tool if tool in self._names else "unknown"
        try:
            if in_writer:
                return await counted(request, name, run)
            async with request.session.pacing:
                return await counted(request, name, run)
        except PalaceError as error:
            return tool_error(error)

    def _runs_in_writer(self, request: RequestContext, tool: str) -> bool:
        """True if the call is one small write: then it needs no thread of its own, and no turn of the executor."""
        services = self._services
        return services.tools.runs_in_writer(tool, request.size) and services.writer.has_room

    async def _run(
        self, request: RequestContext, params: Json, progress: ProgressReporter | None, in_writer: bool
    ) -> Result:
        tool, arguments, meta = params["name"], params.get("arguments") or {}, params.get("_meta") or {}
        deadline = Deadline(idempotency_key=idempotency_key(request, tool, arguments, meta))
        if progress is not None:
            deadline.report = progress.note
        work = partial(self._work, tool, arguments, deadline, request.access)
        try:
            if in_writer:
                return await self._services.writer.run(work, deadline)
            return await self._services.executor.run(request.client, work)
        finally:
            deadline.cancel()  # if the client cancelled the call, the tool stops

    def _work(self, tool: str, arguments: Mapping[str, Any], deadline: Deadline, access: Principal) -> Result:
        deadline.check("a free worker")
        services = self._services.granted(access)
        return tool_result(services.tools.call(services.tool_context, tool, arguments, deadline))


async def counted(request: RequestContext, name: str, run: Callable[[], Awaitable[Result]]) -> Result:
    """Run the request and enter it in the session's history under that name.

    Raises:
        PalaceError: it is at fault, was refused, or failed.
    """
    try:
        with request.session.activity.call(name, request.size) as record:
            if request.fault is not None:
                raise request.fault
            result = await run()
            record.bytes_out = len(result.encoded)
            _verify_size(record.bytes_out)
            return result
    except PalaceError:
        raise
    except Exception as error:  # every request is answered; the trace is in the log
        logger.exception("%s failed", name)
        raise PalaceError(
            f"the server made a mistake ({type(error).__name__}); its log has the details",
            hint="Try again; if it happens again, report it.",
        ) from None


def tool_result(content: Json, *, is_error: bool = False) -> Result:
    """The `CallToolResult` with that content: structured, and as text for clients that read nothing else."""
    text = to_json(content)
    # The content is encoded once for both places.
    blocks = f'"content":[{{"type":"text","text":{to_json(text)}}}]'
    encoded = f'{{{blocks},"structuredContent":{text},"isError":{to_json(is_error)}}}'.encode()
    result = {"content": [{"type": "text", "text": text}], "structuredContent": content, "isError": is_error}
    return Result(result, encoded)


def tool_error(error: PalaceError) -> Result:
    """The result of a call that was refused or failed."""
    return tool_result({"error": error.as_dict()}, is_error=True)


def _verify_size(size: int) -> None:
    if size > MAX_ANSWER_BYTES:
        raise InvalidArgument(
            f"the answer has {size:,} bytes; the limit is {MAX_ANSWER_BYTES:,}",
            hint="Ask for less at a time: a lower limit, fewer ids, or narrower filters.",
        )
