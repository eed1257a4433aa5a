"""The MCP server: tools, resources, prompts and completions behind the SDK's handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from mempalace_mcp import __version__
from mempalace_mcp.protocol.calls import Answer, Call, Calls
from mempalace_mcp.protocol.handlers import Context, Handlers
from mempalace_mcp.protocol.handshake import SERVER_NAME, SERVER_TITLE
from mempalace_mcp.protocol.listening import Listening
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.services import Services


class PalaceServer(Server[Any]):
    """The SDK's server, and the way to its tools that leads past the SDK's models."""

    calls: Calls


def build_server(services: Services, calls: Calls, *, sessions: bool = True) -> PalaceServer:
    """The server for any number of sessions, or for a door that knows none: before 2026-07-28 its clients cannot be
    told of changes."""
    tools, handlers, listening = _ToolHandlers(services, calls), Handlers(services), Listening(services.feed)
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
        access = Origin.of_request(context.request).access
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
        origin = Origin.of_request(context.request)
        if self._calls.is_brief(call, origin):
            return await self._run(context, call, origin)
        async with origin.pacing():
            return await self._run(context, call, origin)

    async def _run(self, context: Context, call: Call, origin: Origin) -> Answer:
        if context.meta is None or "progress_token" not in context.meta:
            return await self._calls.answer(call, origin)
        return await self._calls.answer_and_tell(call, origin, context.session.report_progress)


def _listing(services: Services) -> ListToolsResult:
    return ListToolsResult(tools=[Tool.model_validate(definition) for definition in services.tools.definitions()])
