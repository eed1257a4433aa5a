"""What the doors need from the running process; `runtime.app.App` satisfies it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mempalace_mcp.core.call_context import Deadline, Principal
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.runtime.health import Health

T = TypeVar("T")


class Tools(Protocol):
    """The table of tools, independent of any protocol library."""

    @property
    def instructions(self) -> str:
        """What a client is told about the server as a whole."""
        ...

    @property
    def names(self) -> Mapping[str, str]:
        """What each tool on offer is called here, by the name it has in this program."""
        ...

    def definitions(self) -> Sequence[Mapping[str, Any]]:
        """Every tool as plain JSON, in the order in which it is listed."""
        ...

    def is_brief(self, name: str) -> bool:
        """True if all that the tool does is one small write."""
        ...

    def call(self, context: Any, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Run a tool, blocking, and return its structured content.

        Raises:
            PalaceError: every refusal, an unknown tool included.
        """
        ...


class Executor(Protocol):
    """The one bounded pool of threads in which blocking work runs, shared fairly between clients."""

    async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
        """Run the function for the client in a thread.

        Raises:
            Busy: too many calls wait already.
        """
        ...


class Writer(Protocol):
    """The one thread that writes, in which brief calls may run as a whole."""

    @property
    def has_room(self) -> bool:
        """True while so few calls wait there that one more is soon done."""
        ...

    async def run(self, function: Callable[[], T], deadline: Deadline) -> T:
        """Run the function there; returns once all that it wrote is durable.

        Raises:
            PalaceError: as the function, or because it could not be run in time.
        """
        ...


class Services(Protocol):
    """What a door is given: all of it. A handler of a request asks for what is `granted` to the request's access."""

    def granted(self, access: Principal) -> Services:
        """The same services with the tools, and the palace behind their context, that this access may use."""
        ...

    @property
    def tools(self) -> Tools: ...

    @property
    def tool_context(self) -> Any:
        """Passed to `Tools.call` as it is."""
        ...

    @property
    def executor(self) -> Executor: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def activity(self) -> Activity: ...

    @property
    def health(self) -> Health: ...

    @property
    def feed(self) -> ChangeFeed:
        """What changes in the palace."""
        ...
