"""Codex CLI without an account, with a scripted model. It is run by the Python of the suite."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from driving import Failed, Json, drive, reading
from scripted_model import ScriptedModel

COMMAND = ("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "Go.")
SERVER = "mempalace"
TOKEN = "SUITE_TOKEN"


class Model(ScriptedModel):
    """`/v1/responses`."""

    def answer(self, path: str, body: Json) -> tuple[str, str]:
        if body.get("tools"):
            return "text/event-stream", self.wait_for_reply(body)
        return "text/event-stream", written({"type": "message", "role": "assistant", "content": []})


def written(item: Json) -> str:
    """An answer of one item as a stream of events."""
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    events: list[Json] = [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": usage}},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def configuration(model: Model, where: Json) -> Iterator[str]:
    """Its file; strings and lists of JSON are the same in TOML."""
    yield from ('model = "scripted"', 'model_provider = "suite"', "check_for_update_on_startup = false")
    yield from (
        "[model_providers.suite]",
        'name = "suite"',
        f'base_url = "{model.address}/v1"',
        'wire_api = "responses"',
    )
    yield from (f"[mcp_servers.{SERVER}]", "required = true")
    if where["transport"] == "stdio":
        command, *arguments = where["command"]
        yield from (
            f"command = {json.dumps(command)}",
            f"args = {json.dumps(arguments)}",
            f"[mcp_servers.{SERVER}.env]",
        )
        yield from (f"{name} = {json.dumps(value)}" for name, value in where["env"].items())
    else:
        yield from (f"url = {json.dumps(where['url'])}", f'bearer_token_env_var = "{TOKEN}"')


class Client:
    """A program in the middle of a turn; `body` is what it has asked last."""

    def __init__(self, model: Model, process: subprocess.Popen[bytes], body: Json) -> None:
        self.model, self.process, self.body, self.calls = model, process, body, 0
        self.space = next(each for each in body["tools"] if each.get("name", "").startswith(f"mcp__{SERVER}"))

    async def tools(self) -> Json:
        return {each["name"]: each["parameters"] for each in self.space["tools"]}

    async def output(self, tool: str, arguments: Json, space: str | None = None) -> str:
        """What the model is told after it has called a tool of ours, or one of the program's own."""
        self.calls += 1
        called = {"type": "function_call", "call_id": f"call_{self.calls}", "name": tool}
        called |= {"namespace": space} if space else {}
        self.model.reply(written({**called, "arguments": json.dumps(arguments)}))
        self.body = await asyncio.to_thread(self.model.turn, self.process)
        found: Any = next(
            each["output"]
            for each in self.body["input"]
            if each["type"] == "function_call_output" and each["call_id"] == called["call_id"]
        )
        return found if isinstance(found, str) else "\n".join(each.get("text", "") for each in found)

    async def call(self, tool: str, arguments: Json) -> Json:
        output = await self.output(tool, arguments, self.space["name"])
        found = json_of(output)
        if "error" in found:
            raise Failed(output)
        return found

    async def refusal(self, tool: str, arguments: Json) -> str:
        return await self.output(tool, arguments, self.space["name"])

    async def resources(self) -> list[str]:
        return [
            each["uri"] for each in json_of(await self.output("list_mcp_resources", {"server": SERVER}))["resources"]
        ]

    async def templates(self) -> list[str]:
        found = json_of(await self.output("list_mcp_resource_templates", {"server": SERVER}))
        return [each["uriTemplate"] for each in found["resourceTemplates"]]

    async def read(self, uri: str) -> str:
        found = json_of(await self.output("read_mcp_resource", {"server": SERVER, "uri": uri}))
        return "\n".join(each["text"] for each in found["contents"])


def json_of(output: str) -> Json:
    """The object in an output; the program puts a line about the time before it."""
    return reading(output[max(output.find("{"), 0) :])


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """The program, after its first request."""
    folder = Path.home() / ".codex"
    folder.mkdir()
    model = Model()
    (folder / "config.toml").write_text("\n".join(configuration(model, where)))
    token = where.get("headers", {}).get("Authorization", "").removeprefix("Bearer ")
    process = subprocess.Popen(COMMAND, env={**os.environ, TOKEN: token}, stdout=2, stdin=subprocess.DEVNULL)
    yield Client(model, process, await asyncio.to_thread(model.turn, process))


if __name__ == "__main__":
    drive(connect)
