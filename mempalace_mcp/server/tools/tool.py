"""What a tool is, and what it works with.

What a tool may use.

One tool: what it is called with, what it does, what it answers, and how it is announced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.server.tools.schema import Arguments, Schema, outline, output_schema


class ToolContext(Protocol):
    """The running process as the tools see it; the composition root implements it. Answers are JSON-safe."""

    @property
    def palace(self) -> Palace:
        """The palace all tools work on."""
        ...

    def status(self) -> dict[str, Any]:
        """Health and sizes of palace and process."""
        ...

    def reconnect(self) -> dict[str, Any]:
        """Close and reopen the stores; how they were `before` and are `after`."""
        ...

    def history(self, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """A page of the calls that the server remembers, of one session or of all."""
        ...

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        """File the texts under the paths, or only count them."""
        ...


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
