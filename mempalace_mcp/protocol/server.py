"""The MCP server: the table of tools behind the SDK's handlers, every refusal in one shape."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from mcp.server.context import ServerRequestContext
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
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.receipt import receipt_key
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.runtime.activity import RunningCall

logger = logging.getLogger(__name__)

SERVER_NAME = "mempalace-mcp"
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one answer to a tool call, which carries its JSON twice: as structured content and as text."""

Context = ServerRequestContext[Any, Any]


def build_server(services: Services) -> Server[Any]:
    """The server for every session of the process."""
    handlers = _Handlers(services)
    server: Server[Any] = Server(
        SERVER_NAME,
        version=__version__,
        title="MemPalace",
        instructions=services.tools.instructions,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        get_tool_input_schema=handlers.input_schemas.get,
    )
    server.middleware.clear()  # only the tracing of the SDK is in it, and nobody collects traces here
    return server


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        tools = [Tool.model_validate(definition) for definition in services.tools.definitions()]
        self._listing = ListToolsResult(tools=tools)
        self.input_schemas: Mapping[str, Mapping[str, Any]] = {tool.name: tool.input_schema for tool in tools}

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """All tools on one page, always in the same order."""
        if params is not None and params.cursor:
            raise MCPError(code=INVALID_PARAMS, message="cursor is unknown: all tools are on the first page")
        return self._listing

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Run one call within its deadline; whatever is refused or fails is an error result."""
        origin = Origin.of_request(context.request)
        tool = params.name if params.name in self.input_schemas else "unknown"
        try:
            with origin.session.call(tool, origin.size) as running:
                if origin.fault is not None:
                    raise origin.fault
                deadline = Deadline(receipt=receipt_key(origin, params))
                return await self._run(params.name, params.arguments or {}, deadline, running)
        except PalaceError as error:
            return _refusal(error)
        except Exception as error:  # the client gets an answer whatever a tool does; the trace is in the log
            logger.exception("the tool %s failed", tool)
            return _refusal(_unexpected(error))

    async def _run(
        self, name: str, arguments: Mapping[str, Any], deadline: Deadline, running: RunningCall
    ) -> CallToolResult:
        try:
            content, text = await self._services.executor.run(self._work, name, arguments, deadline)
        finally:
            deadline.cancel()  # whichever way this is left, nobody waits for the tool any more
        running.bytes_out = _answer_bytes(text)
        if running.bytes_out > MAX_ANSWER_BYTES:
            raise InvalidArgument(
                f"the answer has {running.bytes_out:,} bytes; the limit is {MAX_ANSWER_BYTES:,}",
                hint="Ask for less at a time: a lower limit, fewer ids, or narrower filters.",
            )
        return _result(content, text, is_error=False)

    def _work(self, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> tuple[dict[str, Any], str]:
        deadline.check("a free worker")
        content = self._services.tools.call(self._services.tool_context, name, arguments, deadline)
        return content, _to_json(content)


def _unexpected(error: Exception) -> PalaceError:
    """Stands for an error that nobody foresaw; says no more than its type."""
    return PalaceError(
        f"the server made a mistake ({type(error).__name__}); its log has the details",
        hint="Try again; if it happens again, report it.",
    )


def _refusal(error: PalaceError) -> CallToolResult:
    content = {"error": error.as_dict()}
    return _result(content, _to_json(content), is_error=True)


def _result(content: dict[str, Any], text: str, *, is_error: bool) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content, is_error=is_error)


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _answer_bytes(text: str) -> int:
    """Bytes of the JSON as structured content, and again as a quoted text."""
    return len(text.encode()) + len(json.dumps(text, ensure_ascii=False).encode())
