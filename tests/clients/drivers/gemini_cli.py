"""Gemini CLI without an account, with a scripted model. It is run by the Python of the suite."""

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

PREFIX = "mcp_mempalace_"
COMMAND = ("gemini", "--model", "gemini-2.5-flash", "--approval-mode", "yolo", "--prompt")


class Model(ScriptedModel):
    """`streamGenerateContent` and, for what the program asks beside its turns, `generateContent`."""

    def answer(self, path: str, body: Json) -> tuple[str, str]:
        if "streamGenerateContent" in path and body.get("tools"):
            return "text/event-stream", self.wait_for_reply(body)
        if "streamGenerateContent" in path:
            return "text/event-stream", written({"text": "{}"})
        return "application/json", json.dumps(candidate({"text": "{}"}))


def candidate(part: Json) -> Json:
    """An answer with one part."""
    content = {"role": "model", "parts": [part]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}


def written(part: Json) -> str:
    """The same as the only event of a stream."""
    return f"data: {json.dumps(candidate(part))}\r\n\r\n"


def settings(where: Json) -> Json:
    """What its settings say of the server."""
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        return {"command": command, "args": arguments, "env": where["env"], "timeout": 30000}
    kind = "sse" if where["transport"] == "sse" else "http"
    return {"url": where["url"], "type": kind, "headers": where["headers"], "timeout": 30000}


class Client:
    """A program in the middle of a turn; `body` is what it has asked last."""

    def __init__(self, model: Model, process: subprocess.Popen[bytes], body: Json) -> None:
        self.model, self.process, self.body = model, process, body

    async def tools(self) -> Json:
        declared = [each for tool in self.body["tools"] for each in tool.get("functionDeclarations", [])]
        ours = {each["name"].removeprefix(PREFIX): each for each in declared if each["name"].startswith(PREFIX)}
        schemas = {name: each.get("parametersJsonSchema") or each.get("parameters") for name, each in ours.items()}
        for schema in schemas.values():
            schema.get("properties", {}).pop("wait_for_previous", None)  # its own, which it takes out of calls again
        return schemas

    async def response(self, tool: str, arguments: Json) -> Json:
        """What the model is told after it has called the tool."""
        self.model.reply(written({"functionCall": {"name": PREFIX + tool, "args": arguments}}))
        self.body = await asyncio.to_thread(self.model.turn, self.process)
        parts = self.body["contents"][-1]["parts"]
        return next(part["functionResponse"]["response"] for part in parts if "functionResponse" in part)

    async def call(self, tool: str, arguments: Json) -> Json:
        response = await self.response(tool, arguments)
        if "output" not in response:
            raise Failed(json.dumps(response))
        return reading(response["output"].removeprefix("<untrusted_context>").removesuffix("</untrusted_context>"))

    async def refusal(self, tool: str, arguments: Json) -> str:
        return json.dumps(await self.response(tool, arguments), ensure_ascii=False)

    async def prompts(self) -> None:
        """They become commands; a program without a window does not list them."""

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        told = " ".join(f'--{key}="{each}"' for key, each in arguments.items())
        model = Model()
        process = start(model, f"/{name} {told}")
        try:
            body: Any = await asyncio.to_thread(model.turn, process)
            return "\n".join(part.get("text", "") for part in body["contents"][-1]["parts"])
        finally:
            process.kill()
            process.wait()


def start(model: Model, prompt: str) -> subprocess.Popen[bytes]:
    """The program, with this to begin with."""
    environment = {
        **os.environ,
        "GEMINI_API_KEY": "none",
        "GOOGLE_GEMINI_BASE_URL": model.address,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }
    return subprocess.Popen([*COMMAND, prompt], env=environment, stdout=2, stdin=subprocess.DEVNULL)


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """The program, after its first request."""
    folder = Path.home() / ".gemini"
    folder.mkdir()
    told = {
        "mcpServers": {"mempalace": settings(where)},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
    }
    (folder / "settings.json").write_text(json.dumps(told))
    model = Model()
    process = start(model, "Go.")
    yield Client(model, process, await asyncio.to_thread(model.turn, process))


if __name__ == "__main__":
    drive(connect)
