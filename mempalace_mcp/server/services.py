"""The parts of the running process that transports use; `daemon.daemon_session.AppServices` has them all."""

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
        """The instructions for clients about the server as a whole."""
        ...

    @property
    def names(self) -> Mapping[str, str]:
        """The published name of each tool, by its name in this program."""
        ...

    def definitions(self) -> Sequence[Mapping[str, Any]]:
        """The tools as `tools/list` lists them."""
        ...

    def runs_in_writer(self, name: str, size: int) -> bool:
        """True if all that a call of the tool does, of so many bytes, is one small write."""
        ...

    def call(self, context: Any, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Run a tool in this thread, and return its structured content.

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
    """The one thread that writes; small calls may run in it as a whole."""

    @property
    def has_room(self) -> bool:
        """True while few calls wait for it."""
        ...

    async def run(self, function: Callable[[], T], deadline: Deadline) -> T:
        """Run the function in the thread; returns once its writes are durable.

        Raises:
            PalaceError: the function raised it, or did not run in time.
        """
        ...


class Services(Protocol):
    """All of them, with full access. A handler uses only the services that are `granted` to the request's access."""

    def granted(self, access: Principal) -> Services:
        """The same services, reduced to the tools and the part of the palace that this access may use."""
        ...

    @property
    def tools(self) -> Tools: ...

    @property
    def tool_context(self) -> Any:
        """The context for `Tools.call`."""
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
        """The changes of the palace."""
        ...
