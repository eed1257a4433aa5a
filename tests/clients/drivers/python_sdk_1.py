"""The official Python SDK 1.x."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from driving import Failed, Json, drive, reading
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client


@asynccontextmanager
async def streams(where: Json) -> AsyncIterator[tuple[Any, Any]]:
    """The two ends of the transport."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        parameters = StdioServerParameters(command=command, args=arguments, env={**os.environ, **where["env"]})
        async with stdio_client(parameters) as ends:
            yield ends
    elif where["transport"] == "sse":
        async with sse_client(where["url"], headers=where["headers"]) as ends:
            yield ends
    else:
        from mcp.client.streamable_http import streamablehttp_client  # 1.3 had none

        async with streamablehttp_client(where["url"], headers=where["headers"]) as (read, write, _):
            yield read, write


class Client:
    """A session."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def tools(self) -> Json:
        return {tool.name: tool.inputSchema for tool in (await self.session.list_tools()).tools}

    async def call(self, tool: str, arguments: Json) -> Json:
        result = await self.session.call_tool(tool, arguments)
        if result.isError:
            raise Failed(result.content[0].text)
        structured = getattr(result, "structuredContent", None)  # 1.3 had none
        return reading(result.content[0].text) if structured is None else structured

    async def refusal(self, tool: str, arguments: Json) -> str:
        result = await self.session.call_tool(tool, arguments)
        if not result.isError:
            raise Failed(f"{tool} is not refused")
        return "\n".join(each.text for each in result.content)

    async def resources(self) -> list[str]:
        return [str(each.uri) for each in (await self.session.list_resources()).resources]

    async def templates(self) -> list[str]:
        return [each.uriTemplate for each in (await self.session.list_resource_templates()).resourceTemplates]

    async def read(self, uri: str) -> str:
        return "\n".join(each.text for each in (await self.session.read_resource(uri)).contents)

    async def prompts(self) -> list[str]:
        return [each.name for each in (await self.session.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        messages = (await self.session.get_prompt(name, arguments)).messages
        return "\n".join(
            each.content.text if each.content.type == "text" else each.content.resource.text for each in messages
        )


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """A session after its handshake."""
    async with streams(where) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield Client(session)


if __name__ == "__main__":
    drive(connect)
