"""The running process as the doors need it: the app, and the tools that a door or a session offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.core.access import Access
from mempalace_mcp.protocol.tools.table import Profile, ToolTable, build_tools, verify_prefix
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.runtime.health import Health
from mempalace_mcp.runtime.writer import WriterThread


@dataclass(frozen=True, slots=True)
class Offer:
    """Which tools a door offers, and under which names.

    Raises:
        ConfigurationError: the names would be none that every client takes.
    """

    profile: Profile = "core"
    read_only: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        verify_prefix(self.prefix, self.profile)


@dataclass(frozen=True, slots=True)
class AppServices:
    """What the doors are given; see `protocol.services.Services`."""

    tools: ToolTable
    tool_context: AppContext
    executor: Executor
    writer: WriterThread
    activity: Activity
    health: Health

    @property
    def feed(self) -> ChangeFeed:
        """What changes in the palace."""
        return self.tool_context.feed

    def granted(self, access: Access) -> AppServices:
        """The same services with the tools, and the palace behind their context, that this access may use."""
        if access.is_full:
            return self
        return replace(self, tools=self.tools.granted(access), tool_context=self.tool_context.granted(access))


class DaemonContext(AppContext):
    """Tells in `status` also about the daemon and what this session asked for in vain."""

    def __init__(self, app: App, daemon: Callable[[], Mapping[str, Any]], warnings: Sequence[str]) -> None:
        super().__init__(app)
        self._daemon = daemon
        self._warnings = warnings

    def status(self) -> dict[str, Any]:
        """Health and sizes of palace and process, the sessions, and settings that differ."""
        return {**super().status(), "daemon": dict(self._daemon()), "warnings": list(self._warnings)}


def services_of(app: App, offer: Offer, context: AppContext | None = None) -> AppServices:
    """The process and the tools, as the doors need them."""
    tools = build_tools(profile=offer.profile, read_only=offer.read_only, prefix=offer.prefix)
    return AppServices(tools, context or AppContext(app), app.executor, app.writer, app.activity, app.health)
