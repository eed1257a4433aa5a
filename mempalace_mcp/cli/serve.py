"""Joins the running process, the tools and the HTTP doors: `serve`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mempalace_mcp.cli import manage
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.daemon.control import refuse_if_served, take_daemon_lock
from mempalace_mcp.daemon.daemon import HttpTransport, run_daemon
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.issues import TOKENS_WRONG, Issue
from mempalace_mcp.server import auth, http, http_connections
from mempalace_mcp.server.auth import TokenStore
from mempalace_mcp.server.security import ListeningSocket, ListenSettings, listen

logger = logging.getLogger(__name__)

_FIRST_NAME = "first"
_ENCRYPT = "Give --certificate and --key, or put a proxy that encrypts in front."


def serve_http(
    settings: Settings,
    open_app: Callable[[], App],
    offer: ToolSelection,
    exposure: ListenSettings,
    port: int,
    announce: Callable[[str, str | None], None],
) -> None:
    """Be the palace's daemon with HTTP doors until a stop signal comes; `announce` hears the URL once it is served,
    and a token if there is none yet where one is needed.

    Raises:
        PalaceError: the palace is served over HTTP already, cannot be opened, or the port is taken; the tokens are
            wrong, or there is none where one is needed.
    """
    keyring = TokenStore(settings.palace / auth.FILE, settings.token)
    with _listen(settings, exposure, port, keyring) as listening:
        url = exposure.url(listening.port)
        if exposure.is_open:
            logger.warning("%s is not encrypted: whoever is on the way reads tokens and texts. %s", url, _ENCRYPT)

        def ready(port: int) -> None:
            announce(url, None if keyring.guarding or http_connections.can_tell() else _first_token(settings.palace))

        def door(app: App) -> HttpTransport:
            app.health.add_check(lambda: None if keyring.problem is None else Issue(TOKENS_WRONG, keyring.problem))
            services = services_of(app, offer)
            return HttpTransport(
                url, lambda leaving: http.serve_on(services, listening, ready, leaving, exposure, keyring)
            )

        lock = take_daemon_lock(str(settings.palace))
        try:
            run_daemon(open_app, lock, lambda _: None, door)
        finally:
            lock.close()


def _first_token(palace: Path) -> str:
    """Where nobody can tell to which account a program belongs, it must know something that others do not."""
    return manage.new(palace, _FIRST_NAME, auth.WRITE, [], as_json=False)


def _listen(settings: Settings, exposure: ListenSettings, port: int, keyring: TokenStore) -> ListeningSocket:
    """Who keeps us from listening is most likely another `serve` of this palace, and then worth more than the port."""
    try:
        return listen(exposure, port, keyring)
    except ConfigurationError:
        refuse_if_served(str(settings.palace))
        raise
