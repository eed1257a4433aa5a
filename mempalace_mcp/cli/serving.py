"""Joins the running process, the tools and a door: what a session over stdio and `serve` have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import anyio

from mempalace_mcp.protocol.tools.table import Profile, ToolTable, build_tools
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.health import Health


@dataclass(frozen=True, slots=True)
class Offer:
    """Which tools a door offers, and under which names."""

    profile: Profile = "core"
    read_only: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class AppServices:
    """What the doors are given; see `protocol.services.Services`."""

    tools: ToolTable
    tool_context: AppContext
    executor: Executor
    activity: Activity
    health: Health


def services_of(app: App, offer: Offer) -> AppServices:
    """The process and the tools, as the doors need them."""
    tools = build_tools(profile=offer.profile, read_only=offer.read_only, prefix=offer.prefix)
    return AppServices(tools, AppContext(app), app.executor, app.activity, app.health)


def serve_stdio(open_app: Callable[[], App], offer: Offer) -> None:
    """One session over stdin and stdout."""
    from mempalace_mcp.protocol import stdio

    with closing(open_app()) as app:
        app.start()
        anyio.run(stdio.serve_stdio, services_of(app, offer))


def serve_http(
    open_app: Callable[[], App], offer: Offer, host: str, port: int, announce: Callable[[int], None]
) -> None:
    """HTTP until a stop signal comes; `announce` hears the port once it listens."""
    from mempalace_mcp.protocol import http

    with closing(open_app()) as app:
        app.start()
        anyio.run(http.serve_http, services_of(app, offer), host, port, announce)
