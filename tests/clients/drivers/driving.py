"""What drivers in Python share: a job comes on stdin, and each step that is done goes to stdout as a line.

A driver gives `drive` an asynchronous context manager that connects its client. What that yields has a method for
each step the client knows; a step without a method is told as absent:

    tools() -> {name: schema of its arguments}            as the client shows them to a model
    call(tool, arguments) -> answer                       as the client gives it to a program or a model
    refusal(tool, arguments) -> text                      what a model would read
    resources() -> [uri], templates() -> [uri template]
    read(uri) -> text
    prompts() -> [name], prompt(name, arguments) -> text  all that a model would read

A client that connects anew for each call says so by `one_call_each`; it is not asked to outlive a server.

Lines on stdout: {"step", "value"}, {"step", "failed": text}, {"step", "absent": true}. The line {"step": "restart"}
asks for a restart of the server; a line on stdin says that it is done. {"step": "end"} comes last.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

Json = dict[str, Any]
STEP_SECONDS = 240.0
CALL_SECONDS = 15.0
PAUSE_SECONDS = 0.5


class Failed(Exception):
    """The client did not give what it should."""


def reading(text: str) -> Json:
    """A JSON object out of a text."""
    try:
        found = json.loads(text)
    except ValueError:
        raise Failed(f"no JSON object: {text[:400]}") from None
    if not isinstance(found, dict):
        raise Failed(f"no JSON object: {text[:400]}")
    return found


def explained(error: BaseException) -> str:
    """What went wrong, of a group the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


class Dialogue:
    """The line to the program that started the driver. Whatever else is printed goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.job: Json = json.loads(sys.stdin.readline())

    def tell(self, step: str, **what: Any) -> None:
        self._out.write(json.dumps({"step": step, **what}) + "\n")
        self._out.flush()

    async def restart(self) -> None:
        """Return when the server was killed and started again."""
        self.tell("restart")
        if not await asyncio.to_thread(sys.stdin.readline):
            raise Failed("nobody restarts the server")


Connect = Callable[[Json], AbstractAsyncContextManager[Any]]


class Probe:
    """The steps, done with one connected client."""

    def __init__(self, client: Any, dialogue: Dialogue) -> None:
        self.client, self.dialogue, self.job = client, dialogue, dialogue.job

    async def step(self, name: str, method: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do one step and tell what came of it."""
        if not hasattr(self.client, method):
            self.dialogue.tell(name, absent=True)
            return
        try:
            self.dialogue.tell(name, value=await asyncio.wait_for(work(), STEP_SECONDS))
        except Exception as error:  # noqa: BLE001 - a client may raise anything
            traceback.print_exc()
            self.dialogue.tell(name, failed=explained(error))

    async def all(self) -> None:
        """Every step, in the order that the job's calls need."""
        await self.step("tools", "tools", lambda: self.client.tools())
        await self.step("answers", "call", self.answers)
        await self.step("refusals", "refusal", self.refusals)
        await self.step("resources", "read", self.resources)
        await self.step("prompts", "prompt", self.prompts)
        await self.step("after", "none" if hasattr(self.client, "one_call_each") else "call", self.after_restart)

    async def answers(self) -> Json:
        return {each["label"]: await self.client.call(each["tool"], each["arguments"]) for each in self.job["calls"]}

    async def refusals(self) -> Json:
        return {
            each["label"]: await self.client.refusal(each["tool"], each["arguments"]) for each in self.job["refusals"]
        }

    async def resources(self) -> Json:
        templates = getattr(self.client, "templates", None)
        return {
            "texts": {uri: await self.client.read(uri) for uri in await self.client.resources()},
            "templates": await templates() if templates else None,
            "text": await self.client.read(self.job["resource"]),
        }

    async def prompts(self) -> Json:
        texts, failed = {}, {}
        for each in self.job["prompts"]:
            try:
                texts[each["name"]] = await self.client.prompt(each["name"], each["arguments"])
            except Exception as error:  # noqa: BLE001 - a client may raise anything
                failed[each["name"]] = explained(error)
        return {"listed": await self.client.prompts(), "texts": texts, "failed": failed}

    async def after_restart(self) -> Json:
        """Call until the call succeeds, as an agent would who tries again."""
        await self.dialogue.restart()
        failures: list[str] = []
        call, began = self.job["after_restart"], time.monotonic()
        while time.monotonic() - began < self.job["patience"]:
            try:
                answer = await asyncio.wait_for(self.client.call(call["tool"], call["arguments"]), CALL_SECONDS)
            except Exception as error:  # noqa: BLE001 - a client may raise anything
                failures.append(explained(error))
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return {"answer": answer, "failures": failures}
        return {"answer": None, "failures": failures}


def drive(connect: Connect) -> None:
    """Read the job, connect, do the steps, and leave without waiting for a client that cannot let go."""
    dialogue = Dialogue()

    async def main() -> None:
        try:
            async with connect(dialogue.job["connect"]) as client:
                await Probe(client, dialogue).all()
                dialogue.tell("end")
                os._exit(0)  # a client whose server was killed may wait for ever here
        except Exception as error:  # noqa: BLE001 - a client may raise anything
            traceback.print_exc()
            dialogue.tell("connect", failed=explained(error))
            dialogue.tell("end")

    asyncio.run(main())
