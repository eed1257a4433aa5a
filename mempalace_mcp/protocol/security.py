"""Who may speak to the HTTP doors: callers that name this server by an address of its own, and show a token.

A page of the web can reach a port of this machine by rebinding its own name to it, but it cannot choose the headers
Host and Origin; so both must name this server, on every route. A token is asked for as soon as there is one, and beyond
this machine there must be one.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mempalace_mcp.core.access import FULL, Access
from mempalace_mcp.protocol.exposure import Exposure
from mempalace_mcp.protocol.keyring import Keyring

PUBLIC = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths that tell nothing but numbers and words of a closed set, for probes that have no token."""

FOR_EVERYBODY = frozenset({"/mcp", "/sse", "/messages/"})
"""Paths behind which each request is limited to the wings of its token. What is behind all others is not."""

_ACCESS = "mempalace_mcp.access"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,1024})", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(.+)", re.IGNORECASE)


class HostGuard:
    """Answers 421 to a foreign Host and 403 to a foreign Origin, and passes everything else on, its headers trimmed."""

    def __init__(self, app: ASGIApp, exposure: Exposure) -> None:
        self._app = app
        self._exposure = exposure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope = _trimmed(scope)
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._exposure.is_called(hosts[0]):
            await refuse(421, "Host is no name of this server")(scope, receive, send)
        elif not all(self._is_own(origin, hosts[0]) for origin in origins):
            await refuse(403, "Origin is no page of this server")(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, origin: str, host: str) -> bool:
        page = _ORIGIN.fullmatch(origin)
        return page is not None and (page[1].lower() == host.lower() or self._exposure.is_named(page[1]))


class TokenGuard:
    """Answers 401 to whoever shows no token, always in the same words, and 403 to one that does not reach so far."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC or not self._keyring.guarding:
            await self._app(scope, receive, send)
            return
        access = self._access(scope)
        if access is None:
            message = "a token is needed, as the header Authorization: Bearer TOKEN"
            await refuse(401, message, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        elif access.wings is not None and scope["path"] not in FOR_EVERYBODY:
            await refuse(403, "this token is limited to wings")(scope, receive, send)
        else:
            await self._app({**scope, _ACCESS: access}, receive, self._while_valid(scope, access, send))

    def _while_valid(self, scope: Scope, access: Access, send: Send) -> Send:
        """A `send` that ends a stream instead of going on once its token allows something else, or nothing."""
        has_ended = False

        async def send_on(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            has_ended = message.get("more_body", False) and self._access(scope) != access
            await send({"type": "http.response.body"} if has_ended else message)

        return send_on

    def _access(self, scope: Scope) -> Access | None:
        shown = Headers(scope=scope).getlist("authorization")
        bearer = _BEARER.fullmatch(shown[0].strip()) if len(shown) == 1 else None
        return None if bearer is None else self._keyring.access_of(bearer[1])


def _trimmed(scope: Scope) -> Scope:
    """The request without the blanks around its header values, which are no part of them (RFC 9110, section 5.5).

    The faster one of Uvicorn's two parsers leaves those behind a value.
    """
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}


def access_of(scope: Scope) -> Access:
    """What the caller of a request that came through the guards may do."""
    access = scope.get(_ACCESS, FULL)
    assert isinstance(access, Access)
    return access


def refuse(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that HTTP itself refuses."""
    return JSONResponse({"error": message}, status, headers)
