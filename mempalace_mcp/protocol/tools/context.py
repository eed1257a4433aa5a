"""What a tool may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.palace.palace import Palace


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
