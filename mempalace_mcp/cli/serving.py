"""Joins the running process, the tools and the HTTP doors: `serve`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.process.daemon import HttpDoor, run_daemon
from mempalace_mcp.process.services import Offer, services_of
from mempalace_mcp.process.taking_over import refuse_if_served, take_seat
from mempalace_mcp.protocol import http, tokens
from mempalace_mcp.protocol.exposure import Exposure
from mempalace_mcp.protocol.keyring import Keyring
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.reasons import TOKENS_WRONG, Concern

logger = logging.getLogger(__name__)

_ENCRYPT = "Give --certificate and --key, or put a proxy that encrypts in front."


def serve_http(
    settings: Settings,
    open_app: Callable[[], App],
    offer: Offer,
    exposure: Exposure,
    port: int,
    announce: Callable[[str], None],
) -> None:
    """Be the palace's daemon with HTTP doors until a stop signal comes; `announce` hears the URL once it is served.

    Raises:
        PalaceError: the palace is served over HTTP already, cannot be opened, or the port is taken; the tokens are
            wrong, or there is none where one is needed.
    """
    keyring = Keyring(settings.palace / tokens.FILE, settings.token)
    with _listen(settings, exposure, port, keyring) as listener:
        url = exposure.url(listener.getsockname()[1])
        if exposure.is_open:
            logger.warning("%s is not encrypted: whoever is on the way reads tokens and texts. %s", url, _ENCRYPT)

        def ready(port: int) -> None:
            announce(url)

        def door(app: App) -> HttpDoor:
            app.health.examine_also(lambda: None if keyring.problem is None else Concern(TOKENS_WRONG, keyring.problem))
            services = services_of(app, offer)
            return HttpDoor(url, lambda leaving: http.serve_on(services, listener, ready, leaving, exposure, keyring))

        seat = take_seat(str(settings.palace))
        try:
            run_daemon(open_app, seat, lambda _: None, door)
        finally:
            seat.close()


def _listen(settings: Settings, exposure: Exposure, port: int, keyring: Keyring) -> socket.socket:
    """Who keeps us from listening is most likely another `serve` of this palace, and then worth more than the port."""
    try:
        return http.listen(exposure, port, keyring)
    except ConfigurationError:
        refuse_if_served(str(settings.palace))
        raise
