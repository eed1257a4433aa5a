"""The methods of MCP, once: `method -> handler(request, params) -> result`, all of it plain JSON.

Sessions call the handlers directly for common requests (`session.py`). The SDK calls the same handlers for all others
(`sdk.py`): importing it takes half a second and 25 MB, which most sessions never need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from mempalace_mcp.core.call_context import Deadline, Principal
from mempalace_mcp.core.errors import Conflict, Forbidden, InvalidArgument, NotFound, PalaceError, ReadOnly
from mempalace_mcp.server.calls import ToolCalls, counted, progress_token
from mempalace_mcp.server.completions import complete
from mempalace_mcp.server.initialize import PROGRESS_TOKEN, PROTOCOL_VERSION, initialize_result, revision_for
from mempalace_mcp.server.jsonrpc import CALL, INTERNAL_ERROR, INVALID_PARAMS, SERVER_ERROR, Error, Result
from mempalace_mcp.server.prompts import get_prompt, list_prompts
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.resources import list_resources, list_templates, read_resource
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.subscriptions import MAX_FOLLOWED, RESOURCES, Subscriber
from mempalace_mcp.server.tools.answers import Json

if TYPE_CHECKING:
    from mempalace_mcp.server.sdk import PalaceServer

PING = "ping"
TOOLS_LIST = "tools/list"
RESOURCES_LIST = "resources/list"
RESOURCES_READ = "resources/read"
TEMPLATES_LIST = "resources/templates/list"
PROMPTS_LIST = "prompts/list"
SUBSCRIBE = "resources/subscribe"
UNSUBSCRIBE = "resources/unsubscribe"
LISTEN = "subscriptions/listen"

RESOURCE_NOT_FOUND = -32002
"""Until 2025-11-25; later revisions use INVALID_PARAMS."""

SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
"""The key in `_meta` of all messages of a stream of changes: the id of the request that opened the stream."""

_CALLERS_FAULT = (InvalidArgument, NotFound, Conflict, Forbidden, ReadOnly)

Handler = Callable[[RequestContext, Json], Awaitable[Result]]
"""Answers one request with these parameters, or raises `PalaceError`."""

Query = Callable[[Services, Json], Json]
"""Forms the result of a request with these parameters from the caller's services. It runs in a thread."""


def _verify_first_page(listed: str, params: Json) -> None:
    if params.get("cursor"):
        raise InvalidArgument(
            f"cursor is unknown: all {listed} are on the first page", argument="cursor", hint="Leave it out."
        )


def _list_tools(services: Services, params: Json) -> Json:
    _verify_first_page("tools", params)
    return {"tools": services.tools.definitions()}


def _list_templates(services: Services, params: Json) -> Json:
    _verify_first_page("templates", params)
    return list_templates()


def _list_prompts(services: Services, params: Json) -> Json:
    _verify_first_page("prompts", params)
    return list_prompts(services)


_QUERIES: Mapping[str, Query] = MappingProxyType(
    {
        RESOURCES_READ: read_resource,
        TEMPLATES_LIST: _list_templates,
        PROMPTS_LIST: _list_prompts,
        "prompts/get": get_prompt,
        "completion/complete": complete,
    }
)

_PLAIN_PARAMETERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        PING: frozenset({"_meta"}),
        CALL: frozenset({"name", "arguments", "_meta"}),
        **dict.fromkeys((TOOLS_LIST, RESOURCES_LIST, TEMPLATES_LIST, PROMPTS_LIST), frozenset({"cursor", "_meta"})),
    }
)
"""The methods that need no SDK, each with the parameters that are verified here."""


class MethodServer:
    """Answers the requests of any number of sessions."""

    def __init__(self, services: Services) -> None:
        self.tools = services.tools
        self._services = services
        self._all_tools: Result | None = None
        self._sdk_server: PalaceServer | None = None
        self.handlers: Mapping[str, Handler] = {
            PING: self._ping,
            CALL: ToolCalls(services).answer,
            TOOLS_LIST: self._list_tools,
            RESOURCES_LIST: self._list_resources,
            SUBSCRIBE: partial(self._subscribe, follow=True),
            UNSUBSCRIBE: partial(self._subscribe, follow=False),
            LISTEN: self._listen,
            **{method: partial(self._query, method, query) for method, query in _QUERIES.items()},
        }
        """By their methods: all methods but `initialize`, and those that the SDK adds."""

    def initialize(self, params: Mapping[str, Any] | None, *, tools_change: bool) -> Result | None:
        """The result of `initialize`, or None if the SDK must verify the request. With `tools_change` the client may
        be notified that the list of tools changed."""
        revision = revision_for(params)
        if revision is None:
            return None
        return Result.of(initialize_result(revision, self.tools.instructions, tools_change=tools_change))

    def is_plain(self, content: Mapping[str, Any]) -> bool:
        """True if the verified request can be answered without the SDK: the SDK has nothing to verify in it."""
        known = _PLAIN_PARAMETERS.get(content["method"])
        params = content.get("params") or {}
        meta = params.get("_meta", {})
        if known is None or not params.keys() <= known or not isinstance(meta, dict) or PROTOCOL_VERSION in meta:
            return False
        has_good_token = PROGRESS_TOKEN not in meta or progress_token(meta) is not None
        return has_good_token and isinstance(params.get("cursor"), str | None)

    async def sdk_server(self) -> PalaceServer:
        """The SDK's server, for all other messages; the first call imports the SDK."""
        if self._sdk_server is None:
            # Not in the executor, which could refuse, or keep the import waiting behind slow calls.
            self._sdk_server = await anyio.to_thread.run_sync(_build_sdk_server, self)
        return self._sdk_server

    async def answer(self, method: str, request: RequestContext, params: Json) -> Result | Error:
        """The result of the request, or its refusal. The parameters were verified, by `is_plain` or by the SDK."""
        try:
            return await self.handlers[method](request, params)
        except PalaceError as error:
            if method == RESOURCES_READ and isinstance(error, InvalidArgument | NotFound):
                return _no_resource(error, params["uri"], request)
            return Error({"code": _code_of(error), "message": error.message, "data": error.as_dict()})

    async def _ping(self, request: RequestContext, params: Json) -> Result:
        return Result({}, b"{}")

    async def _list_tools(self, request: RequestContext, params: Json) -> Result:
        if not request.access.is_full or params.get("cursor"):
            return Result.of(_list_tools(self._services.granted(request.access), params))
        if self._all_tools is None:
            self._all_tools = Result.of(_list_tools(self._services, params))
        return self._all_tools

    async def _query(self, method: str, query: Query, request: RequestContext, params: Json) -> Result:
        async with request.session.pacing:
            return await counted(request, method, partial(self._run, query, request, params))

    async def _list_resources(self, request: RequestContext, params: Json) -> Result:
        async def run() -> Result:
            if not request.is_modern:
                await self._follow_resources(request)
            return await self._run(list_resources, request, params)

        async with request.session.pacing:
            return await counted(request, RESOURCES_LIST, run)

    async def _run(self, query: Query, request: RequestContext, params: Json) -> Result:
        deadline = Deadline()
        work = partial(self._work, query, params, deadline, request.access)
        try:
            return await self._services.executor.run(request.client, work)
        finally:
            deadline.cancel()

    def _work(self, query: Query, params: Json, deadline: Deadline, access: Principal) -> Result:
        deadline.check("a free worker")
        return Result.of(query(self._services.granted(access), params))

    async def _follow_resources(self, request: RequestContext) -> None:
        """Notify the session of the next change of the list that it is about to see."""
        subscriber = request.session.subscriptions.subscriber(request.access)
        if subscriber is not None:
            subscriber.lists.add(RESOURCES)
            await subscriber.join(self._services.feed, again=request.resent)

    async def _subscribe(self, request: RequestContext, params: Json, *, follow: bool) -> Result:
        with request.session.activity.call(SUBSCRIBE if follow else UNSUBSCRIBE, request.size):
            subscriber = request.session.subscriptions.subscriber(request.access)
            if subscriber is not None and follow:
                subscriber.follow(params["uri"])
                await subscriber.join(self._services.feed, again=request.resent)
            elif subscriber is not None:
                subscriber.unfollow(params["uri"])
        return Result({}, b"{}")

    async def _listen(self, request: RequestContext, params: Json) -> Result:
        """Notify of changes until the client or the process ends the stream. The first notification names the granted
        wishes: a URI that names no resource is not one of them."""
        subscriptions = request.session.subscriptions
        with request.session.activity.call(LISTEN, request.size):
            stream, granted = _open_stream(params["notifications"], request.access)
            subscriptions.add(stream)
        meta = {SUBSCRIPTION_ID: request.request_id}
        try:
            await stream.join(self._services.feed, again=request.resent)
            acknowledged = {"notifications": granted, "_meta": meta}
            await request.session.notify("notifications/subscriptions/acknowledged", acknowledged)
            while (events := await stream.next_events()) is not None:
                for method, changed in events:
                    await request.session.notify(method, {**changed, "_meta": meta})
        finally:
            subscriptions.discard(stream)
        return Result.of({"_meta": meta})


def _code_of(error: PalaceError) -> int:
    if isinstance(error, _CALLERS_FAULT):
        return INVALID_PARAMS
    return SERVER_ERROR if error.retryable else INTERNAL_ERROR


def _no_resource(error: PalaceError, uri: str, request: RequestContext) -> Error:
    """MCP has an error of its own for a URI that is wrong, or names nothing."""
    code = INVALID_PARAMS if request.is_modern else RESOURCE_NOT_FOUND
    return Error(
        {"code": code, "message": f"Resource not found: {error.message}", "data": {"uri": uri, **error.as_dict()}}
    )


def _open_stream(wishes: Json, access: Principal) -> tuple[Subscriber, Json]:
    """A subscriber to all wishes that can be granted, and these wishes.

    Raises:
        InvalidArgument: there are too many.
    """
    lists = [kind for kind in ("resources", "tools", "prompts") if wishes.get(f"{kind}ListChanged")]
    uris = wishes.get("resourceSubscriptions") or []
    if len(uris) > MAX_FOLLOWED:
        raise InvalidArgument(
            f"resourceSubscriptions has {len(uris):,} entries; the limit is {MAX_FOLLOWED}",
            argument="notifications.resourceSubscriptions",
            hint="Subscribe to rooms or wings instead, or listen on another stream, too.",
        )
    stream = Subscriber(lists, access.wings)
    for uri in uris:
        with suppress(InvalidArgument, Forbidden):
            stream.follow(uri)
    granted: Json = {f"{kind}ListChanged": True for kind in lists}
    if stream.uris:
        granted["resourceSubscriptions"] = list(stream.uris)
    return stream, granted


def _build_sdk_server(methods: MethodServer) -> PalaceServer:
    from mempalace_mcp.server.sdk import build_server

    return build_server(methods)
