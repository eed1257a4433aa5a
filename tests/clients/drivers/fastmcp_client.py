"""fastmcp's client. Answers are what its `.data` keeps: that is what programs are told to use."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from driving import Failed, Json, drive
from fastmcp import Client as FastClient
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError


def transport(where: Json) -> Any:
    """The client's end of it."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        return StdioTransport(command, arguments, env={**os.environ, **where["env"]})
    kind = SSETransport if where["transport"] == "sse" else StreamableHttpTransport
    return kind(where["url"], headers=where["headers"])


def plain(value: Any) -> Any:
    """What `.data` holds, as JSON has it: it makes dataclasses of objects."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return getattr(value, "__dict__", value)


class Client:
    """A connected client."""

    def __init__(self, client: FastClient) -> None:
        self.client = client

    async def tools(self) -> Json:
        listed = await self.client.list_tools()
        return {tool.name: tool.model_dump(by_alias=True)["inputSchema"] for tool in listed}

    async def call(self, tool: str, arguments: Json) -> Json:
        found = plain((await self.client.call_tool(tool, arguments)).data)
        if not isinstance(found, dict):
            raise Failed(f".data of {tool} is {found!r}")
        return found

    async def refusal(self, tool: str, arguments: Json) -> str:
        try:
            await self.client.call_tool(tool, arguments)
        except ToolError as error:
            return str(error)
        raise Failed(f"{tool} is not refused")

    async def resources(self) -> list[str]:
        return [str(each.uri) for each in await self.client.list_resources()]

    async def templates(self) -> list[str]:
        listed = await self.client.list_resource_templates()
        return [each.model_dump(by_alias=True)["uriTemplate"] for each in listed]

    async def read(self, uri: str) -> str:
        return "\n".join(each.text for each in await self.client.read_resource(uri))

    async def prompts(self) -> list[str]:
        return [each.name for each in await self.client.list_prompts()]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        contents = [each.content for each in (await self.client.get_prompt(name, arguments)).messages]
        return "\n".join(each.text if each.type == "text" else each.resource.text for each in contents)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """A client that holds its connection."""
    async with FastClient(transport(where)) as client:
        yield Client(client)


if __name__ == "__main__":
    drive(connect)
