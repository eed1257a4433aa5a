"""The MCP Inspector's command line: one process for each request. It is run by the Python of the suite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from driving import Failed, Json, drive, reading


class Client:
    """How it is told where the server is."""

    one_call_each = True

    def __init__(self, target: list[str]) -> None:
        self.target = target

    async def run(self, method: str, *options: str) -> tuple[int, str]:
        """One request; the exit code, and all that a person sees."""
        process = await asyncio.create_subprocess_exec(
            *("mcp-inspector", "--cli", "--method", method, *options, *self.target),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode() or err.decode()

    async def ask(self, method: str, *options: str) -> Json:
        """One request that must succeed."""
        code, shown = await self.run(method, *options)
        if code:
            raise Failed(shown[-500:])
        return reading(shown)

    def options(self, tool: str, arguments: Json) -> list[str]:
        """A call as it is written for the command line."""
        pairs = [f"{key}={each if isinstance(each, str) else json.dumps(each)}" for key, each in arguments.items()]
        return ["--tool-name", tool, *(["--tool-arg", *pairs] if pairs else [])]

    async def tools(self) -> Json:
        return {tool["name"]: tool["inputSchema"] for tool in (await self.ask("tools/list", "--strict"))["tools"]}

    async def call(self, tool: str, arguments: Json) -> Json:
        found: Any = await self.ask("tools/call", *self.options(tool, arguments))
        return found["structuredContent"]

    async def refusal(self, tool: str, arguments: Json) -> str:
        return (await self.run("tools/call", *self.options(tool, arguments)))[1]

    async def resources(self) -> list[str]:
        return [each["uri"] for each in (await self.ask("resources/list"))["resources"]]

    async def templates(self) -> list[str]:
        return [each["uriTemplate"] for each in (await self.ask("resources/templates/list"))["resourceTemplates"]]

    async def read(self, uri: str) -> str:
        return "\n".join(each["text"] for each in (await self.ask("resources/read", "--uri", uri))["contents"])

    async def prompts(self) -> list[str]:
        return [each["name"] for each in (await self.ask("prompts/list"))["prompts"]]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        pairs = [f"{key}={each}" for key, each in arguments.items()]
        found = await self.ask("prompts/get", "--prompt-name", name, "--prompt-args", *pairs)
        contents = [each["content"] for each in found["messages"]]
        return "\n".join(each["text"] if each["type"] == "text" else each["resource"]["text"] for each in contents)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """Nothing is connected until something is asked."""
    if where["transport"] == "stdio":
        yield Client(["--", *where["command"]])
    else:
        headers = [f"{name}: {value}" for name, value in where["headers"].items()]
        yield Client(["--transport", where["transport"], "--header", *headers, "--", where["url"]])


if __name__ == "__main__":
    drive(connect)
