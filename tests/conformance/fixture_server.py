"""The fixtures of the official suite behind our own transports, as a process that prints its port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
    TextResourceContents,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.server.jsonrpc import CALL, Result
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.sdk import PalaceServer
from mempalace_mcp.server.security import HostGuard, ListenSettings
from mempalace_mcp.server.sse import MESSAGES_PATH, SseTransport
from mempalace_mcp.server.streamable_http import StreamableHttpTransport
from tests.conformance.content import LISTED_RESOURCES, PROMPTS, RESOURCES, TEMPLATE, TOOLS, FixtureTool
from tests.conformance.questions import ROUNDS, next_question

Context = ServerRequestContext[Any, Any]

_ASKING = [FixtureTool(name) for name in ROUNDS if name.startswith("test_input_required_result_")]
_TOOLS = {tool.name: tool for tool in (*TOOLS, *_ASKING)}
_PROMPTS = {prompt.name: prompt for prompt in PROMPTS}


class FixtureMethods(MethodServer):
    """Answers calls without the SDK, and nothing else."""

    def __init__(self) -> None:
        """There is no palace behind it."""

    async def answer(self, method: str, request: RequestContext, params: dict[str, Any]) -> Result:
        result = _result(params["name"])
        return Result.of(result.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"result_type"}))

    def initialize(self, params: Mapping[str, Any] | None, *, tools_change: bool) -> None:
        return None

    def is_plain(self, content: Mapping[str, Any]) -> bool:
        return content["method"] == CALL and super().is_plain(content)

    async def sdk_server(self) -> PalaceServer:
        return build_fixtures(self)


def _result(name: str) -> CallToolResult:
    if name not in _TOOLS:
        return CallToolResult(content=[TextContent(text=f"there is no tool {name}")], is_error=True)
    return _TOOLS[name].result()


async def _list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[tool.listed() for tool in _TOOLS.values()])


async def _call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
    client = context.session.client_capabilities
    if params.name == "test_missing_capability" and (client is None or client.sampling is None):
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="sampling is needed", data=needed)
    if params.name == "test_tool_with_progress":
        for done in (0, 50, 100):
            await context.session.report_progress(done, 100)
    question = next_question(params.name, params.input_responses, params.request_state, client)
    return _result(params.name) if question is None else question


async def _list_resources(context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
    return ListResourcesResult(resources=LISTED_RESOURCES)


async def _list_templates(context: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(resource_templates=[TEMPLATE])


async def _read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    before, after = TEMPLATE.uri_template.split("{id}")
    if params.uri in RESOURCES:
        return ReadResourceResult(contents=[RESOURCES[params.uri]])
    if not (params.uri.startswith(before) and params.uri.endswith(after)):
        raise MCPError(code=INVALID_PARAMS, message="Resource not found", data={"uri": params.uri})
    number = params.uri.removeprefix(before).removesuffix(after)
    told = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
    return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=TEMPLATE.mime_type, text=told)])


async def _list_prompts(context: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(prompts=[prompt.listed() for prompt in PROMPTS])


async def _get_prompt(context: Context, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
    if params.name not in _PROMPTS:
        raise MCPError(code=INVALID_PARAMS, message=f"there is no prompt {params.name}")
    client = context.session.client_capabilities
    question = next_question(params.name, params.input_responses, params.request_state, client)
    if question is not None:
        return question
    return GetPromptResult(messages=list(_PROMPTS[params.name].write(params.arguments or {})))


async def _complete(context: Context, params: CompleteRequestParams) -> CompleteResult:
    return CompleteResult(completion=Completion(values=["paris", "park", "party"], total=3, has_more=False))


def build_fixtures(methods: FixtureMethods) -> PalaceServer:
    """The SDK's server with the fixtures, and the way past it that our transports take."""
    server = PalaceServer(
        "fixtures",
        version="1",
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
        get_tool_input_schema=lambda name: _TOOLS[name].schema if name in _TOOLS else None,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_completion=_complete,
    )
    server.methods = methods
    return server


def build_application() -> Starlette:
    """The transports with the fixtures behind them."""
    activity = Activity(history_limit=1)
    methods = FixtureMethods()
    streamable, sse = StreamableHttpTransport(build_fixtures(methods), activity), SseTransport(methods, activity)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with streamable.run():
            yield

    return Starlette(
        routes=[Route("/mcp", streamable), Route("/sse", sse), Route(MESSAGES_PATH, sse)],
        middleware=[Middleware(HostGuard, ListenSettings())],
        lifespan=lifespan,
    )


def main() -> None:
    """Serve until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(build_application(), log_level="warning", timeout_graceful_shutdown=2)
        asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    main()
