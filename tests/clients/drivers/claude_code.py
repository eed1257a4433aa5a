"""Claude Code without an account, with a scripted model. It is run by the Python of the suite."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from driving import Failed, Json, drive, reading
from scripted_model import ScriptedModel

SERVER = "mempalace"
PREFIX = f"mcp__{SERVER}__"
ALLOWED = f"mcp__{SERVER},ListMcpResourcesTool,ReadMcpResourceTool"
OPTIONS = ("--strict-mcp-config", "--mcp-config", "mcp.json", "--allowedTools", ALLOWED, "--print")


class Model(ScriptedModel):
    """`/v1/messages`. What the program asks beside its turns, with other tools or none, gets a word for an answer."""

    def answer(self, path: str, body: Json) -> tuple[str, str]:
        if any(tool["name"].startswith(PREFIX) for tool in body.get("tools", [])):
            return "text/event-stream", self.wait_for_reply(body)
        if body.get("stream"):
            return "text/event-stream", written({"type": "text", "text": ""}, {"type": "text_delta", "text": "Yes."})
        return "application/json", json.dumps({**message(), "content": [{"type": "text", "text": "Yes."}]})


def message() -> Json:
    """An answer that is empty so far."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "content": []}
    return {**told, "stop_reason": None, "stop_sequence": None, "usage": usage}


def written(block: Json, delta: Json) -> str:
    """An answer of one block as a stream of events."""
    reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
    events: list[Json] = [
        {"type": "message_start", "message": message()},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def configuration(where: Json) -> Json:
    """What it is told of the server."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        return {"type": "stdio", "command": command, "args": arguments, "env": where["env"]}
    return {"type": where["transport"], "url": where["url"], "headers": where["headers"]}


def texts(content: Any) -> str:
    """The texts of a message or a tool's result."""
    if isinstance(content, str):
        return content
    return "\n".join(each.get("text", "") for each in content)


class Client:
    """A program in the middle of a turn; `body` is what it has asked last."""

    def __init__(self, model: Model, process: subprocess.Popen[bytes], body: Json) -> None:
        self.model, self.process, self.body, self.calls = model, process, body, 0

    async def tools(self) -> Json:
        ours = [each for each in self.body["tools"] if each["name"].startswith(PREFIX)]
        return {each["name"].removeprefix(PREFIX): each["input_schema"] for each in ours}

    async def result(self, tool: str, arguments: Json) -> Json:
        """What the model is told after it has called the tool."""
        self.calls += 1
        called = {"type": "tool_use", "id": f"toolu_{self.calls}", "name": tool, "input": {}}
        self.model.reply(written(called, {"type": "input_json_delta", "partial_json": json.dumps(arguments)}))
        self.body = await asyncio.to_thread(self.model.turn, self.process)
        results = [
            part for each in self.body["messages"] if isinstance(each["content"], list) for part in each["content"]
        ]
        return next(part for part in results if part.get("tool_use_id") == called["id"])

    async def call(self, tool: str, arguments: Json) -> Json:
        result = await self.result(PREFIX + tool, arguments)
        if result.get("is_error"):
            raise Failed(texts(result["content"]))
        return reading(texts(result["content"]))

    async def refusal(self, tool: str, arguments: Json) -> str:
        result = await self.result(PREFIX + tool, arguments)
        if not result.get("is_error"):
            raise Failed(f"{tool} is not refused")
        return texts(result["content"])

    async def resources(self) -> list[str]:
        result = await self.result("ListMcpResourcesTool", {"server": SERVER})
        return [each["uri"] for each in json.loads(texts(result["content"]))]

    async def read(self, uri: str) -> str:
        result = await self.result("ReadMcpResourceTool", {"server": SERVER, "uri": uri})
        return "\n".join(each["text"] for each in reading(texts(result["content"]))["contents"])

    async def prompts(self) -> None:
        """They become commands; a program without a window does not list them."""

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        """It takes one word for each argument, in their order."""
        model, command = Model(), " ".join([f"/{PREFIX}{name}", *list(arguments.values())[:1]])
        process = start(model, command)
        try:
            body = await asyncio.to_thread(model.turn, process)
            return "\n".join(texts(each["content"]) for each in body["messages"])
        finally:
            process.kill()
            process.wait()


def start(model: Model, prompt: str) -> subprocess.Popen[bytes]:
    """The program, with this to begin with."""
    environment = {
        **os.environ,
        "ANTHROPIC_BASE_URL": model.address,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
    }
    return subprocess.Popen(["claude", *OPTIONS, prompt], env=environment, stdout=2, stdin=subprocess.DEVNULL)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """The program, after its first request."""
    Path("mcp.json").write_text(json.dumps({"mcpServers": {SERVER: configuration(where)}}))
    model = Model()
    process = start(model, "Go.")
    yield Client(model, process, await asyncio.to_thread(model.turn, process))


if __name__ == "__main__":
    drive(connect)
