"""Who may speak to the HTTP doors: until there are tokens, programs and pages of this machine alone.

A page of the web can reach a loopback port by rebinding its own name to 127.0.0.1, but it cannot choose the headers
Host and Origin; so both must name this machine, on every route.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mempalace_mcp.core.errors import ConfigurationError

_LOOPBACK = r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?"
_HOST = re.compile(_LOOPBACK, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://{_LOOPBACK}", re.IGNORECASE)


class LoopbackGuard:
    """Answers 421 to a foreign Host and 403 to a foreign Origin, and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            await refuse(421, "Host must be localhost, 127.0.0.1 or [::1]")(scope, receive, send)
        elif not all(_ORIGIN.fullmatch(origin) for origin in origins):
            await refuse(403, "Origin must be a page of this machine")(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refuse(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that HTTP itself refuses."""
    return JSONResponse({"error": message}, status, headers)


def require_loopback(host: str) -> None:
    """Return if the host is this machine's own.

    Raises:
        ConfigurationError: it could be reached from elsewhere.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, and tokens come with a later version",
            argument="--host",
            hint="Use 127.0.0.1, ::1 or localhost; put an authenticating proxy in front for others.",
        )
