"""One tool: what it is called with, what it does, what it answers, and how it is announced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.protocol.tools.arguments import Arguments
from mempalace_mcp.protocol.tools.context import ToolContext
from mempalace_mcp.protocol.tools.schema import Schema, outline, output_schema

A = TypeVar("A", bound=Arguments)


class Effect(Enum):
    """What a tool does to the palace: nothing, nothing but reopen it, or change it."""

    READ = "read"
    MAINTAIN = "maintain"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """A tool. `description` may name other tools in braces; `answer` is a `TypedDict` of what `run` returns.

    `destructive`: it replaces or removes what was there. `idempotent`: a second identical call changes nothing more.
    `within_wings`: all it shows and changes stands in wings, so that callers limited to some may have it, too.
    `brief`: all it does is one small write, so that it may run inside the transaction of that write.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    answer: type
    run: Callable[[ToolContext, A, Deadline], Mapping[str, object]]
    effect: Effect = Effect.READ
    destructive: bool = False
    idempotent: bool = True
    within_wings: bool = False
    brief: bool = False

    def definition(self, names: Mapping[str, str], schema: Schema) -> dict[str, Any]:
        """The tool as `tools/list` shows it: under its name in `names`, with the schema of its arguments. A title
        that only repeats the name is left out."""
        is_named_so = self.title == self.name.replace("_", " ").capitalize()
        return {
            "name": names[self.name],
            **({} if is_named_so else {"title": self.title}),
            "description": self.description.format_map(names),
            "inputSchema": outline(schema),
            "outputSchema": output_schema(self.answer),
            "annotations": self._hints(),
        }

    def _hints(self) -> dict[str, bool]:
        """For whoever decides whether to ask before a call. The other hints mean nothing where all is only read."""
        if self.effect is Effect.READ:
            return {"readOnlyHint": True}
        return {
            "readOnlyHint": False,
            "destructiveHint": self.destructive,
            "idempotentHint": self.idempotent,
            "openWorldHint": False,
        }
