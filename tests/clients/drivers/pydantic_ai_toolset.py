"""pydantic-ai: an agent whose model is a function here that calls the tools it is told to call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from driving import Failed, Json, drive, reading
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def transport(where: Json) -> Any:
    """The toolset's end of it."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        return StdioTransport(command, arguments, env={**os.environ, **where["env"]})
    kind = SSETransport if where["transport"] == "sse" else StreamableHttpTransport
    return kind(where["url"], headers=where["headers"])


class Client:
    """An agent with the toolset."""

    def __init__(self, toolset: MCPToolset) -> None:
        self.toolset = toolset
        self.shown: Json = {}

    async def part(self, tool: str, arguments: Json) -> Any:
        """What the model gets to read after it has called the tool."""
        read: list[Any] = []

        def model(messages: list[Any], info: AgentInfo) -> ModelResponse:
            self.shown = {each.name: each.parameters_json_schema for each in info.function_tools}
            read.extend(each for each in messages[-1].parts if isinstance(each, ToolReturnPart))
            return ModelResponse(parts=[TextPart("done") if read else ToolCallPart(tool, arguments)])

        await Agent(FunctionModel(model), toolsets=[self.toolset], retries=3).run("Go.")
        return read[0]

    async def tools(self) -> Json:
        await self.part("kg_stats", {})
        return self.shown

    async def call(self, tool: str, arguments: Json) -> Json:
        part = await self.part(tool, arguments)
        if part.outcome != "success":
            raise Failed(part.model_response_str())
        return reading(part.model_response_str())

    async def refusal(self, tool: str, arguments: Json) -> str:
        part = await self.part(tool, arguments)
        if part.outcome == "success":
            raise Failed(f"{tool} is not refused")
        return part.model_response_str()

    async def resources(self) -> list[str]:
        return [str(each.uri) for each in await self.toolset.list_resources()]

    async def templates(self) -> list[str]:
        return [each.uri_template for each in await self.toolset.list_resource_templates()]

    async def read(self, uri: str) -> str:
        return str(await self.toolset.read_resource(uri))

    async def prompts(self) -> list[str]:
        return [each.name for each in await self.toolset.list_prompts()]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        contents = [each.content for each in (await self.toolset.get_prompt(name, arguments)).messages]
        return "\n".join(each if isinstance(each, str) else str(getattr(each, "text", each)) for each in contents)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """A toolset that holds its connection."""
    async with MCPToolset(transport(where), init_timeout=60) as toolset:
        yield Client(toolset)


if __name__ == "__main__":
    drive(connect)
