"""Joins the running process, the tools and a door: a session over stdio alone, and `serve`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.daemon import HttpDoor, run_daemon
from mempalace_mcp.process.services import Offer, services_of
from mempalace_mcp.process.taking_over import take_seat
from mempalace_mcp.protocol import http, stdio
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.loop import run_loop


def serve_stdio(open_app: Callable[[], App], offer: Offer) -> None:
    """One session over stdin and stdout."""
    with closing(open_app()) as app, app.watchdog.on_signal():
        app.start()
        run_loop(stdio.serve_stdio, services_of(app, offer))


def serve_http(
    palace: str, open_app: Callable[[], App], offer: Offer, host: str, port: int, announce: Callable[[str], None]
) -> None:
    """Be the palace's daemon with HTTP doors until a stop signal comes; `announce` hears the URL once it is served.

    Raises:
        PalaceError: the palace is served over HTTP already, cannot be opened, or the port is taken.
    """
    with http.listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"

        def door(app: App) -> HttpDoor:
            return HttpDoor(listener, url, services_of(app, offer), lambda: announce(url))

        seat = take_seat(palace)
        try:
            run_daemon(open_app, f"{palace}/{addresses.FILE}", seat, lambda: None, door)
        finally:
            seat.close()
