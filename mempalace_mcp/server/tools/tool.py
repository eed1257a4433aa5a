"""A tool: a typed function, how it is announced, and the process it works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Protocol, get_type_hints

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.server.tools.schema import Arguments, Schema, arguments_of, input_schema, outline, output_schema


class ToolContext(Protocol):
    """The running process as tools see it; `runtime.context` implements it. Answers are JSON-safe."""

    @property
    def palace(self) -> Palace:
        """The palace all tools work on."""
        ...

    def status(self) -> dict[str, Any]:
        """The health and the sizes of palace and process."""
        ...

    def reconnect(self) -> dict[str, Any]:
        """Close and reopen the stores; their state `before` and `after`."""
        ...

    def history(self, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """A page of the remembered calls, of one session or of all."""
        ...

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        """File the texts under the paths, or as a dry run count them."""
        ...


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool, passed to it as its first argument."""

    context: ToolContext
    deadline: Deadline

    @property
    def palace(self) -> Palace:
        """The palace the call is about."""
        return self.context.palace


class Effect(Enum):
    """The effect of a tool on the palace: it reads, reopens or changes it."""

    READ = "read"
    MAINTAIN = "maintain"
    WRITE = "write"


Function = Callable[..., Mapping[str, object]]


@dataclass(frozen=True)
class Tool:
    """A function that clients may call, and its announcement. The decorator `tool` makes one."""

    run: Function
    title: str
    description: str
    effect: Effect
    destructive: bool
    idempotent: bool
    within_wings: bool
    bytes_in_writer: int

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.run.__name__

    @cached_property
    def arguments(self) -> type[Arguments]:
        """The model of the function's parameters, made when it is first needed: the command line never needs it."""
        return arguments_of(self.run)

    @cached_property
    def schema(self) -> Schema:
        """The schema of the arguments."""
        return input_schema(self.arguments)

    def definition(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The tool as `tools/list` shows it, under its name in `names`."""
        return {
            "name": names[self.name],
            **({"title": self.title} if self.title else {}),
            "description": self.description.format_map(names),
            "inputSchema": outline(self.schema),
            "outputSchema": output_schema(get_type_hints(self.run)["return"]),
            "annotations": self._hints(),
        }

    def _hints(self) -> dict[str, bool]:
        """From these a client decides whether to ask before a call. A tool that only reads needs no other hints."""
        if self.effect is Effect.READ:
            return {"readOnlyHint": True}
        return {
            "readOnlyHint": False,
            "destructiveHint": self.destructive,
            "idempotentHint": self.idempotent,
            "openWorldHint": False,
        }


def tool(
    description: str,
    *,
    title: str = "",
    effect: Effect = Effect.READ,
    destructive: bool = False,
    idempotent: bool = True,
    within_wings: bool = False,
    bytes_in_writer: int = 0,
) -> Callable[[Function], Tool]:
    """Make a tool of a typed function: its name, its parameters behind the `ToolCall`, and its answer are the tool's.

    Args:
        description: may name other tools in braces, which are replaced by the names they are offered under.
        title: if it says more than the name does.
        destructive: it replaces or removes what was there.
        idempotent: a second identical call changes nothing more.
        within_wings: all it shows and changes stands in wings, so that callers limited to some may have it, too.
        bytes_in_writer: all it does is one small write, so that a call of at most so many bytes may run inside the
            transaction of that write. A longer one takes too long to read there, where every other write waits for it.
    """

    def make(function: Function) -> Tool:
        return Tool(
            run=function,
            title=title,
            description=description,
            effect=effect,
            destructive=destructive,
            idempotent=idempotent,
            within_wings=within_wings,
            bytes_in_writer=bytes_in_writer,
        )

    return make
