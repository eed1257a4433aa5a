"""langchain-mcp-adapters: tools as a LangChain agent gets them, each call in a session of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from driving import Failed, Json, drive, reading
from langchain_mcp_adapters.client import MultiServerMCPClient

SERVER = "mempalace"


def connection(where: Json) -> Json:
    """What its configuration says of a server."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        environment = {**os.environ, **where["env"]}
        return {"transport": "stdio", "command": command, "args": arguments, "env": environment}
    kind = "sse" if where["transport"] == "sse" else "streamable_http"
    return {"transport": kind, "url": where["url"], "headers": where["headers"]}


class Client:
    """The tools and what else the adapters load."""

    def __init__(self, client: MultiServerMCPClient, tools: dict[str, Any]) -> None:
        self.client = client
        self.by_name = tools

    async def tools(self) -> Json:
        return {
            name: tool.args_schema if isinstance(tool.args_schema, dict) else tool.args_schema.model_json_schema()
            for name, tool in self.by_name.items()
        }

    async def message(self, tool: str, arguments: Json) -> Any:
        """The message that a model gets."""
        return await self.by_name[tool].ainvoke({"type": "tool_call", "id": "1", "name": tool, "args": arguments})

    async def call(self, tool: str, arguments: Json) -> Json:
        message = await self.message(tool, arguments)
        if message.status == "error":
            raise Failed(message.text)
        return reading(message.text)

    async def refusal(self, tool: str, arguments: Json) -> str:
        message = await self.message(tool, arguments)
        if message.status != "error":
            raise Failed(f"{tool} is not refused")
        return message.text

    async def resources(self) -> list[str]:
        return [str(each.metadata["uri"]) for each in await self.client.get_resources(SERVER)]

    async def read(self, uri: str) -> str:
        return "\n".join(each.as_string() for each in await self.client.get_resources(SERVER, uris=uri))

    async def prompts(self) -> list[str]:
        async with self.client.session(SERVER) as session:
            return [each.name for each in (await session.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        messages = await self.client.get_prompt(SERVER, name, arguments=arguments)
        return "\n".join(each.text for each in messages)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """The client and its tools."""
    client = MultiServerMCPClient({SERVER: connection(where)})
    tools = await client.get_tools()
    yield Client(client, {tool.name: tool for tool in tools})


if __name__ == "__main__":
    drive(connect)
