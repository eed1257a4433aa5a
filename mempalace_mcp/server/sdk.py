"""The official SDK behind a session: its server, its handlers, and how messages reach them.

The SDK's handlers of lists, resources, prompts and completions: its models of what other modules say in JSON.

Hearing of changes: `resources/subscribe` of sessions, `subscriptions/listen` where there are none.

The MCP server: tools, resources, prompts and completions behind the SDK's handlers.

One session of the SDK's server, between two streams of ours, for what sessions are not answered plainly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.shared.subscriptions import event_from_wire, event_to_notification
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    Tool,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import to_json

from mempalace_mcp import __version__
from mempalace_mcp.core.errors import Forbidden, InvalidArgument, NotFound, PalaceError
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.server.calls import Answer, Call, Calls, Requests, Work, refusal
from mempalace_mcp.server.completions import complete
from mempalace_mcp.server.initialize import INITIALIZE, SERVER_NAME, SERVER_TITLE, RequestId
from mempalace_mcp.server.methods import PROMPTS_LIST, RESOURCES_LIST, TEMPLATES_LIST, Lists
from mempalace_mcp.server.prompts import get_prompt
from mempalace_mcp.server.request_context import RequestContext, subscriptions_of
from mempalace_mcp.server.resources import read_resource
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.subscriptions import MAX_FOLLOWED, Subscriber

RESOURCE_NOT_FOUND = -32002
"""Until 2025-11-25; later revisions say INVALID_PARAMS."""

Context = ServerRequestContext[Any, Any]
Page = PaginatedRequestParams | None


class Handlers:
    """One for each method."""

    def __init__(self, services: Services) -> None:
        self._requests = Requests(services)
        self._lists = Lists(services)

    async def list_resources(self, context: Context, params: Page) -> ListResourcesResult:
        return ListResourcesResult.model_validate_json(await self._list(context, RESOURCES_LIST, params))

    async def list_templates(self, context: Context, params: Page) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult.model_validate_json(await self._list(context, TEMPLATES_LIST, params))

    async def list_prompts(self, context: Context, params: Page) -> ListPromptsResult:
        return ListPromptsResult.model_validate_json(await self._list(context, PROMPTS_LIST, params))

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        work = partial(read_resource, uri=params.uri)
        return ReadResourceResult.model_validate_json(
            await self._answer(context, "resources/read", work, uri=params.uri)
        )

    async def get_prompt(self, context: Context, params: GetPromptRequestParams) -> GetPromptResult:
        work = partial(get_prompt, name=params.name, arguments=params.arguments or {})
        return GetPromptResult.model_validate_json(await self._answer(context, "prompts/get", work))

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        work = partial(complete, params=params)
        return CompleteResult.model_validate_json(await self._answer(context, "completion/complete", work))

    async def _list(self, context: Context, method: str, params: Page) -> bytes:
        origin, cursor = RequestContext.of_request(context.request), params.cursor if params else None
        followed = context.protocol_version not in MODERN_PROTOCOL_VERSIONS
        async with origin.pacing():
            with refusing(context):
                return await self._lists.answer(method, cursor, origin, followed=followed)

    async def _answer(self, context: Context, method: str, work: Work, uri: str | None = None) -> bytes:
        origin = RequestContext.of_request(context.request)
        async with origin.pacing():
            with refusing(context, uri):
                return await self._requests.answer(origin, method, work)


@contextmanager
def refusing(context: Context, uri: str | None = None) -> Iterator[None]:
    """Turn refusals into errors of the revision that was agreed on. `uri` is the resource that was asked for: what is
    wrong with it means that there is none.

    Raises:
        MCPError: something was refused within the block.
    """
    try:
        yield
    except PalaceError as error:
        told = refusal(error)
        if uri is None or not isinstance(error, InvalidArgument | NotFound):
            raise MCPError(**told) from None
        code = INVALID_PARAMS if context.protocol_version in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
        message, data = f"Resource not found: {error.message}", {"uri": uri, **told["data"]}
        raise MCPError(code=code, message=message, data=data) from None


class ChangeStreams:
    """What `resources/subscribe`, `resources/unsubscribe` and `subscriptions/listen` answer."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell the session from now on when the resource changes."""
        with _counted(context, "resources/subscribe") as origin:
            follower = subscriptions_of(origin).follower(origin.access)
            if follower is not None:
                follower.follow(params.uri)
                await follower.join(self._feed, again=origin.resent)
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell the session no more of it."""
        with _counted(context, "resources/unsubscribe") as origin:
            follower = subscriptions_of(origin).follower(origin.access)
            if follower is not None:
                follower.forget(params.uri)
        return EmptyResult()

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Tell on this request's stream what changes, until the client or the process ends it.

        The first notification says what of the wishes is granted: what is no resource of this palace is not.
        """
        with _counted(context, "subscriptions/listen") as origin:
            stream, granted = _open(params.notifications, origin)
            subscriptions = subscriptions_of(origin)
            subscriptions.add(stream)
        meta = {SUBSCRIPTION_ID_META_KEY: origin.request_id}
        try:
            with refusing(context):
                await stream.join(self._feed, again=origin.resent)
            acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=granted, _meta=meta)
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(params=acknowledged), context.request_id
            )
            while (news := await stream.news()) is not None:
                for method, told in news:
                    event = event_from_wire(method, told)
                    assert event is not None
                    await context.session.send_notification(event_to_notification(event, meta), context.request_id)
        finally:
            subscriptions.discard(stream)
        return SubscriptionsListenResult(_meta=meta)


@contextmanager
def _counted(context: Context, method: str) -> Iterator[RequestContext]:
    """Count the request, and refuse as every other one is refused."""
    origin = RequestContext.of_request(context.request)
    with refusing(context), origin.session.call(method, origin.size):
        yield origin


def _open(wishes: SubscriptionFilter, origin: RequestContext) -> tuple[Subscriber, SubscriptionFilter]:
    """A follower of all that can be granted, and what that is."""
    uris = wishes.resource_subscriptions or []
    if len(uris) > MAX_FOLLOWED:
        raise InvalidArgument(
            f"resourceSubscriptions has {len(uris):,} entries; the limit is {MAX_FOLLOWED}",
            argument="notifications.resourceSubscriptions",
            hint="Subscribe to rooms or wings instead, or listen on another stream, too.",
        )
    lists = {
        "resources": wishes.resources_list_changed,
        "tools": wishes.tools_list_changed,
        "prompts": wishes.prompts_list_changed,
    }
    follower = Subscriber([kind for kind, wished in lists.items() if wished], origin.access.wings)
    for uri in uris:
        try:
            follower.follow(uri)
        except (InvalidArgument, Forbidden):
            continue
    granted = SubscriptionFilter(
        resources_list_changed=wishes.resources_list_changed or None,
        tools_list_changed=wishes.tools_list_changed or None,
        prompts_list_changed=wishes.prompts_list_changed or None,
        resource_subscriptions=list(follower.uris) or None,
    )
    return follower, granted


class PalaceServer(Server[Any]):
    """The SDK's server, and the way to its tools that leads past the SDK's models."""

    calls: Calls


def build_server(services: Services, calls: Calls, *, sessions: bool = True) -> PalaceServer:
    """The server for any number of sessions, or for a door that knows none: before 2026-07-28 its clients cannot be
    told of changes."""
    tools, handlers, listening = _ToolHandlers(services, calls), Handlers(services), ChangeStreams(services.feed)
    server = PalaceServer(
        SERVER_NAME,
        version=__version__,
        title=SERVER_TITLE,
        instructions=services.tools.instructions,
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
        get_tool_input_schema=tools.input_schemas.get,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=listening.subscribe if sessions else None,
        on_unsubscribe_resource=listening.unsubscribe if sessions else None,
        on_subscriptions_listen=listening.listen,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_completion=handlers.complete,
    )
    server.calls = calls
    server.middleware.clear()  # only the tracing of the SDK is in it, and nobody collects traces here
    return server


class _ToolHandlers:
    def __init__(self, services: Services, calls: Calls) -> None:
        self._services = services
        self._calls = calls
        self._listing = _listing(services)
        self.input_schemas: Mapping[str, Mapping[str, Any]] = {
            tool.name: tool.input_schema for tool in self._listing.tools
        }

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """All tools that the caller may use on one page, always in the same order."""
        if params is not None and params.cursor:
            raise MCPError(code=INVALID_PARAMS, message="cursor is unknown: all tools are on the first page")
        access = RequestContext.of_request(context.request).access
        return self._listing if access.is_full else _listing(self._services.granted(access))

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Run one call; whatever is refused or fails is an error result."""
        call = Call(params.name, params.arguments or {}, params.meta or {})
        answer = await self._answer(context, call)
        return CallToolResult(
            content=[TextContent(type="text", text=answer.text)],
            structured_content=answer.content,
            is_error=answer.is_error,
        )

    async def _answer(self, context: Context, call: Call) -> Answer:
        """Run the call, and tell how far it is if the client asked for that."""
        origin = RequestContext.of_request(context.request)
        if self._calls.is_brief(call, origin):
            return await self._run(context, call, origin)
        async with origin.pacing():
            return await self._run(context, call, origin)

    async def _run(self, context: Context, call: Call, origin: RequestContext) -> Answer:
        if context.meta is None or "progress_token" not in context.meta:
            return await self._calls.answer(call, origin)
        return await self._calls.answer_and_tell(call, origin, context.session.report_progress)


def _listing(services: Services) -> ListToolsResult:
    return ListToolsResult(tools=[Tool.model_validate(definition) for definition in services.tools.definitions()])


_REPEATED = "the handshake, repeated"


class Stage(Protocol):
    """The session that the client sees."""

    tools_change: bool

    async def answer(self, request_id: RequestId, body: bytes) -> None:
        """Settle a request; the body is its result or its error, with that key."""
        ...

    async def unanswered(self, origin: RequestContext) -> None:
        """A request is settled, and nothing is to be written for it."""
        ...

    async def tell(self, message: bytes) -> None:
        """Write a message that answers nothing."""
        ...


class SdkSession:
    """`serve` runs as long as the client's session; `take` hands over its messages."""

    def __init__(self, server: PalaceServer, stage: Stage) -> None:
        self.shaken = False
        """True once the SDK has done the handshake with the client itself."""
        self._server = server
        self._stage = stage
        self._sink, self._source = anyio.create_memory_object_stream[SessionMessage](0)
        self._handshake: RequestId | None = None
        self._repeated = anyio.Event()
        self._ended = anyio.Event()

    async def serve(self) -> None:
        """Answer until the session is closed; what is in flight then is answered as cancelled."""
        changes = NotificationOptions(tools_changed=self._stage.tools_change, resources_changed=True)
        options = self._server.create_initialization_options(changes)
        try:
            await self._server.run(self._source, _Answers(self), options)
        finally:
            self._sink.close()
            self._source.close()
            self._repeated.set()
            self._ended.set()

    async def repeat(self, handshake: Sequence[Mapping[str, Any]]) -> None:
        """Let the SDK know what was agreed without it, beginning with `initialize`.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        initialize, *rest = handshake
        await self._sink.send(SessionMessage(_read({**initialize, "id": _REPEATED})))
        await self._repeated.wait()
        for message in rest:
            await self._sink.send(SessionMessage(_read(message)))

    async def take(self, content: Mapping[str, Any], origin: RequestContext) -> None:
        """Take one verified message from there; returns when it has been handed over.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if content.get("method") == INITIALIZE and "id" in content:
            self._handshake = content["id"]
        metadata = ServerMessageMetadata(
            request_context=origin, on_request_unanswered=partial(self._stage.unanswered, origin)
        )
        await self._sink.send(SessionMessage(_read(content), metadata))

    async def close(self) -> None:
        """Take no more messages; returns when `serve` has nothing more to say."""
        self._sink.close()
        await self._ended.wait()

    async def pass_on(self, message: JSONRPCMessage) -> None:
        """Give the session what the SDK has to say."""
        if not isinstance(message, JSONRPCResponse | JSONRPCError) or message.id is None:
            await self._stage.tell(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        elif message.id == _REPEATED and not self._repeated.is_set():
            self._repeated.set()
        else:
            if message.id == self._handshake:
                self._handshake, self.shaken = None, self.shaken or isinstance(message, JSONRPCResponse)
            await self._stage.answer(message.id, _body(message))


def _read(content: Mapping[str, Any]) -> JSONRPCMessage:
    kind: type[JSONRPCMessage]
    if "method" in content:
        kind = JSONRPCRequest if "id" in content else JSONRPCNotification
    else:
        kind = JSONRPCResponse if "result" in content else JSONRPCError
    return kind.model_validate(content, by_name=False)


def _body(message: JSONRPCResponse | JSONRPCError) -> bytes:
    if isinstance(message, JSONRPCResponse):
        return b'"result":' + to_json(message.result)
    return b'"error":' + message.error.model_dump_json(by_alias=True, exclude_unset=True).encode()


class _Answers:
    """The write stream that the SDK is given."""

    def __init__(self, session: SdkSession) -> None:
        self._session = session

    async def send(self, item: SessionMessage, /) -> None:
        await self._session.pass_on(item.message)

    async def aclose(self) -> None:
        """The session outlives the SDK's use of it."""

    async def __aenter__(self) -> _Answers:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()
