"""openai-agents: tools as its agents get them, their schemas made strict where that can be done."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents import Agent, RunContextWrapper, set_tracing_disabled
from agents.mcp import MCPServerSse, MCPServerStdio, MCPServerStreamableHttp, MCPUtil
from agents.tool_context import ToolContext
from driving import Failed, Json, drive, reading


def server(where: Json) -> Any:
    """The server as its agents are given one."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        environment = {**os.environ, **where["env"]}
        return MCPServerStdio({"command": command, "args": arguments, "env": environment})
    kind = MCPServerSse if where["transport"] == "sse" else MCPServerStreamableHttp
    return kind({"url": where["url"], "headers": where["headers"]})


class Client:
    """The function tools of an agent, and what else the server gives."""

    def __init__(self, connected: Any, tools: dict[str, Any]) -> None:
        self.server = connected
        self.by_name = tools

    async def tools(self) -> Json:
        return {name: tool.params_json_schema for name, tool in self.by_name.items()}

    async def output(self, tool: str, arguments: Json) -> str:
        """The text that a model gets."""
        given = json.dumps(arguments)
        context = ToolContext(context=None, tool_name=tool, tool_call_id="1", tool_arguments=given)
        output = await self.by_name[tool].on_invoke_tool(context, given)
        return output["text"] if isinstance(output, dict) else str(output)

    async def call(self, tool: str, arguments: Json) -> Json:
        found = reading(await self.output(tool, arguments))
        if "error" in found:
            raise Failed(str(found))
        return found

    async def refusal(self, tool: str, arguments: Json) -> str:
        return await self.output(tool, arguments)

    async def resources(self) -> list[str]:
        return [str(each.uri) for each in (await self.server.list_resources()).resources]

    async def read(self, uri: str) -> str:
        return "\n".join(each.text for each in (await self.server.read_resource(uri)).contents)

    async def prompts(self) -> list[str]:
        return [each.name for each in (await self.server.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        contents = [each.content for each in (await self.server.get_prompt(name, arguments)).messages]
        return "\n".join(each.text if each.type == "text" else each.resource.text for each in contents)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """An agent's server and tools."""
    set_tracing_disabled(True)  # it would report to its maker
    async with server(where) as connected:
        tools = await MCPUtil.get_all_function_tools(
            [connected], True, RunContextWrapper(context=None), Agent(name="suite")
        )
        yield Client(connected, {tool.name: tool for tool in tools})


if __name__ == "__main__":
    drive(connect)
