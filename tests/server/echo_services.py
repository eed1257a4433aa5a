"""A small real process behind the transports: a table of test tools, a pool of threads, activity and health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NoReturn, TypeVar

from mempalace_mcp.core.call_context import Deadline, Principal
from mempalace_mcp.core.errors import InvalidArgument, NotFound, PalaceMissing
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.runtime.health import Health

T = TypeVar("T")

_OBJECT = {"type": "object"}


class EchoTools:
    """`echo` answers its arguments; `slow` takes its time; `large` is long; `refuse` and `fail` do as they say."""

    instructions = "Tools for tests."
    names: ClassVar[dict[str, str]] = {}

    def definitions(self) -> list[dict[str, Any]]:
        names = ("echo", "slow", "large", "refuse", "fail", "print")
        return [
            {
                "name": name,
                "title": name.title(),
                "description": f"The tool {name}.",
                "inputSchema": _OBJECT,
                "outputSchema": _OBJECT,
                "annotations": {"readOnlyHint": True},
            }
            for name in names
        ]

    def runs_in_writer(self, name: str, size: int) -> bool:
        return False

    def call(self, context: Any, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise NotFound(f"there is no tool {name}", argument="name", hint="See tools/list.")
        answer: dict[str, Any] = method(context, arguments, deadline)
        return answer

    def _echo(self, context: Any, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        return {"echo": dict(arguments)}

    def _slow(self, context: SlowCalls, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        context.begun += 1
        end = time.monotonic() + float(arguments.get("seconds", 0.3))
        try:
            while time.monotonic() < end:
                deadline.check("the end of the sleep")
                time.sleep(0.005)
        finally:
            context.ended += 1
        return {"slept": True}

    def _large(self, context: Any, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        return {"text": "x" * int(arguments["size"])}

    def _refuse(self, context: Any, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        raise InvalidArgument("limit must be from 1 to 100", argument="limit", hint="Use 5.")

    def _fail(self, context: Any, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    def _print(self, context: Any, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        print("stray print")  # what a careless library does
        return {"printed": True}


@dataclass
class SlowCalls:
    """What the tools are given as their context."""

    begun: int = 0
    ended: int = 0


@dataclass
class Pool:
    """A bounded executor."""

    threads: ThreadPoolExecutor

    async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(function, *args))


class _NoWriter:
    """No tool here runs in the writer."""

    has_room = False

    async def run(self, function: Callable[[], T], deadline: Deadline) -> T:
        raise PalaceMissing("there is no palace behind these transports")


class _NoPalace:
    """Whoever wants to hear of changes is refused."""

    def read(self) -> NoReturn:
        raise PalaceMissing("there is no palace behind these transports")


@dataclass
class EchoServices:
    """What the transports need, with nothing behind it."""

    executor: Pool
    activity: Activity = field(default_factory=lambda: Activity(history_limit=5))
    tools: EchoTools = field(default_factory=EchoTools)
    tool_context: SlowCalls = field(default_factory=SlowCalls)
    writer: _NoWriter = field(default_factory=_NoWriter)

    def __post_init__(self) -> None:
        self.health = Health(self.activity, gauges=(("slow", lambda: self.tool_context),))
        self.feed = ChangeFeed(_NoPalace(), self.executor)

    def granted(self, access: Principal) -> EchoServices:
        return self


@contextmanager
def echo_services() -> Iterator[EchoServices]:
    """Services whose threads end with the block."""
    with ThreadPoolExecutor(8) as threads:
        yield EchoServices(Pool(threads))
