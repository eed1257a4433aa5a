"""The official SDK: its server with the handlers of `methods.py`, and its part of a session.

The SDK verifies parameters, shapes results for each revision, and knows the revisions without a handshake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from mempalace_mcp import __version__
from mempalace_mcp.server.initialize import INITIALIZE, SERVER_NAME, SERVER_TITLE, RequestId
from mempalace_mcp.server.jsonrpc import CALL, Error, Result
from mempalace_mcp.server.methods import (
    LISTEN,
    PING,
    PROMPTS_LIST,
    RESOURCES_LIST,
    RESOURCES_READ,
    SUBSCRIBE,
    TEMPLATES_LIST,
    TOOLS_LIST,
    UNSUBSCRIBE,
    MethodServer,
)
from mempalace_mcp.server.request_context import RequestContext

if TYPE_CHECKING:
    from mempalace_mcp.server.session import Session

_MODELS: Mapping[str, tuple[type[BaseModel], type[BaseModel]]] = MappingProxyType(
    {
        PING: (types.RequestParams, types.EmptyResult),
        TOOLS_LIST: (types.PaginatedRequestParams, types.ListToolsResult),
        CALL: (types.CallToolRequestParams, types.CallToolResult),
        RESOURCES_LIST: (types.PaginatedRequestParams, types.ListResourcesResult),
        TEMPLATES_LIST: (types.PaginatedRequestParams, types.ListResourceTemplatesResult),
        RESOURCES_READ: (types.ReadResourceRequestParams, types.ReadResourceResult),
        SUBSCRIBE: (types.SubscribeRequestParams, types.EmptyResult),
        UNSUBSCRIBE: (types.UnsubscribeRequestParams, types.EmptyResult),
        LISTEN: (types.SubscriptionsListenRequestParams, types.SubscriptionsListenResult),
        PROMPTS_LIST: (types.PaginatedRequestParams, types.ListPromptsResult),
        "prompts/get": (types.GetPromptRequestParams, types.GetPromptResult),
        "completion/complete": (types.CompleteRequestParams, types.CompleteResult),
    }
)
"""The SDK's models of parameters and result, by the method."""

_NEED_SESSIONS = (SUBSCRIBE, UNSUBSCRIBE)


class PalaceServer(Server[Any]):
    """The SDK's server, and the methods behind it, which transports may also call directly."""

    methods: MethodServer


def build_server(methods: MethodServer, *, sessions: bool = True) -> PalaceServer:
    """The server for any number of sessions, or for a transport without sessions: that cannot notify clients of
    revisions before 2026-07-28, so they cannot subscribe."""
    server = PalaceServer(
        SERVER_NAME,
        version=__version__,
        title=SERVER_TITLE,
        instructions=methods.tools.instructions,
        get_tool_input_schema={each["name"]: each["inputSchema"] for each in methods.tools.definitions()}.get,
    )
    for method in methods.handlers:
        if sessions or method not in _NEED_SESSIONS:
            params, result = _MODELS[method]
            server.add_request_handler(method, params, partial(_handle, methods, method, result))
    server.methods = methods
    server.middleware.clear()  # it holds only the SDK's tracing, which nobody collects
    return server


async def _handle(
    methods: MethodServer,
    method: str,
    result: type[BaseModel],
    context: ServerRequestContext[Any, Any],
    params: BaseModel,
) -> BaseModel:
    """Answer a request whose parameters the SDK has verified.

    Raises:
        MCPError: it was refused.
    """

    async def notify(notification: str, content: Mapping[str, Any]) -> None:
        message = types.server_notification_adapter.validate_python({"method": notification, "params": content})
        await context.session.send_notification(message, context.request_id)

    request = RequestContext.of_request(context.request)
    session = replace(request.session, notify=notify)
    request = replace(request, session=session, is_modern=context.protocol_version in MODERN_PROTOCOL_VERSIONS)
    answer = await methods.answer(method, request, dict(context.params or {}))
    if isinstance(answer, Error):
        raise MCPError(**answer.content)
    return result.model_validate(answer.content)


_REPEATED = "the handshake, repeated"


class SdkSession:
    """The SDK's part of a session: `serve` runs as long as the session, `take` hands over messages."""

    def __init__(self, server: PalaceServer, session: Session) -> None:
        self.initialized = False
        """True once the SDK itself has agreed on a handshake with the client."""
        self._server = server
        self._session = session
        self._sink, self._source = anyio.create_memory_object_stream[SessionMessage](0)
        self._initialize_id: RequestId | None = None
        self._repeated = anyio.Event()
        self._ended = anyio.Event()

    async def serve(self) -> None:
        """Answer until the session is closed; requests in flight are then answered as cancelled."""
        changes = NotificationOptions(tools_changed=self._session.tools_change, resources_changed=True)
        options = self._server.create_initialization_options(changes)
        try:
            await self._server.run(self._source, _WriteStream(self), options)
        finally:
            self._sink.close()
            self._source.close()
            self._repeated.set()
            self._ended.set()

    async def repeat(self, handshake: Iterable[Mapping[str, Any]]) -> None:
        """Tell the SDK of a handshake that was agreed on without it: the client's messages, `initialize` first.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        initialize, *others = handshake
        await self._sink.send(SessionMessage(_model_of({**initialize, "id": _REPEATED})))
        await self._repeated.wait()
        for message in others:
            await self._sink.send(SessionMessage(_model_of(message)))

    async def take(self, content: Mapping[str, Any], request: RequestContext) -> None:
        """Hand over one verified message.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if content.get("method") == INITIALIZE and "id" in content:
            self._initialize_id = content["id"]
        unanswered = partial(self._session.settle_unanswered, request)
        metadata = ServerMessageMetadata(request_context=request, on_request_unanswered=unanswered)
        await self._sink.send(SessionMessage(_model_of(content), metadata))

    async def close(self) -> None:
        """Take no more messages; returns when `serve` has sent its last one."""
        self._sink.close()
        await self._ended.wait()

    async def send(self, message: types.JSONRPCMessage) -> None:
        """Send the client a message of the SDK."""
        if not isinstance(message, types.JSONRPCResponse | types.JSONRPCError) or message.id is None:
            await self._session.send_message(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        elif message.id == _REPEATED and not self._repeated.is_set():
            self._repeated.set()
        else:
            if message.id == self._initialize_id:
                self._initialize_id = None
                self.initialized = self.initialized or isinstance(message, types.JSONRPCResponse)
            await self._session.send_response(message.id, _answer_of(message))


def _model_of(content: Mapping[str, Any]) -> types.JSONRPCMessage:
    kind: type[types.JSONRPCMessage]
    if "method" in content:
        kind = types.JSONRPCRequest if "id" in content else types.JSONRPCNotification
    else:
        kind = types.JSONRPCResponse if "result" in content else types.JSONRPCError
    return kind.model_validate(content, by_name=False)


def _answer_of(message: types.JSONRPCResponse | types.JSONRPCError) -> Result | Error:
    if isinstance(message, types.JSONRPCResponse):
        return Result.of(message.result)
    return Error(message.error.model_dump(mode="json", by_alias=True, exclude_unset=True))


class _WriteStream:
    """The stream to which the SDK writes. Closing it does nothing: the session goes on without the SDK."""

    def __init__(self, session: SdkSession) -> None:
        self._session = session

    async def send(self, item: SessionMessage, /) -> None:
        await self._session.send(item.message)

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> _WriteStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
