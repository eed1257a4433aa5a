"""`serve`: the palace's daemon with an HTTP server."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mempalace_mcp.cli import tokens
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import Busy, ConfigurationError, StorageError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon.control import refuse_if_served, take_daemon_lock
from mempalace_mcp.daemon.daemon import HttpTransport, run_daemon
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.issues import TOKENS_WRONG, Issue
from mempalace_mcp.server import http, http_connections
from mempalace_mcp.server.auth import Authenticator
from mempalace_mcp.server.security import ListeningSocket, ListenSettings, listen, require_token
from mempalace_mcp.storage.tokens import WRITE

logger = logging.getLogger(__name__)

_FIRST_NAME = "first"
_ENCRYPT = "Give --certificate and --key, or put a proxy that encrypts in front."


def serve_http(
    settings: Settings,
    open_app: Callable[[], App],
    offer: ToolSelection,
    listen_settings: ListenSettings,
    port: int,
    announce: Callable[[str, str | None], None],
) -> None:
    """Be the palace's daemon, with an HTTP server, until a stop signal comes.

    `announce` is called with the URL once it is served, and with a new token if one is needed and there is none.

    Raises:
        PalaceError: the palace is served over HTTP already, cannot be opened, or the port is taken; the tokens are
            wrong, or there is none where one is needed.
    """
    with _listen(settings, listen_settings, port) as listening:
        url = listen_settings.url(listening.port)

        def transport(app: App) -> HttpTransport:
            authenticator = Authenticator(app.database, settings.token)
            require_token(listen_settings, authenticator)
            if listen_settings.is_unencrypted:
                logger.warning("%s is not encrypted: anybody on the way can read tokens and texts. %s", url, _ENCRYPT)
            app.health.add_check(lambda: _token_issue(authenticator))

            def ready(port: int) -> None:
                needs_none = authenticator.guarding or http_connections.can_identify_accounts()
                announce(url, None if needs_none else tokens.add_token(app.database, _FIRST_NAME, WRITE)[0])

            services = services_of(app, offer)
            return HttpTransport(
                url, lambda leaving: http.serve_on(services, listening, ready, leaving, listen_settings, authenticator)
            )

        lock = _take_daemon_lock(settings)
        try:
            run_daemon(open_app, lock, lambda _: None, transport)
        finally:
            if lock is not None:
                lock.close()


def _take_daemon_lock(settings: Settings) -> FileLock | None:
    """The daemon lock of the palace; None if the palace is on a server and the lock another process's to keep.

    Such a palace has as many servers as one likes. The one with the lock serves this machine's stdio sessions too.

    Raises:
        PalaceError: as `take_daemon_lock`, for a palace in a directory.
    """
    try:
        return take_daemon_lock(str(settings.palace))
    except (ConfigurationError, StorageError, Busy) as error:
        if settings.url is None:
            raise
        logger.info("sessions over stdio are not served here: %s", error.message)
        return None


def _token_issue(authenticator: Authenticator) -> Issue | None:
    return None if authenticator.problem is None else Issue(TOKENS_WRONG, authenticator.problem)


def _listen(settings: Settings, listen_settings: ListenSettings, port: int) -> ListeningSocket:
    try:
        return listen(listen_settings, port)
    except ConfigurationError:  # most likely another `serve` of this palace has the port, and is worth more than that
        if settings.url is None:
            refuse_if_served(str(settings.palace))
        raise
