"""Who may speak to the HTTP doors: callers that name this server by an address of its own, and may be trusted.

A page of the web can reach a port of this machine by rebinding its own name to it, but it cannot choose the headers
Host and Origin; so both must name this server, on every route. A token is asked for as soon as there is one, and beyond
this machine there must be one. While there is none, the programs of our own account are trusted: they can read the file
of the palace anyway. A browser is one of them, and what its pages send is not.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mempalace_mcp.core.access import FULL, Access
from mempalace_mcp.core.errors import Busy, Forbidden, InvalidArgument, PalaceError, Unauthorized
from mempalace_mcp.protocol.connections import Connections
from mempalace_mcp.protocol.exposure import Exposure, host_name
from mempalace_mcp.protocol.keyring import Keyring, Watch
from mempalace_mcp.protocol.proxies import is_passed_on
from mempalace_mcp.protocol.refusing import MESSAGE_PATHS, HttpRefusal, route_of

PUBLIC = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths that tell nothing but numbers and words of a closed set, for probes that have no token."""

_ACCESS = "mempalace_mcp.access"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,1024})", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(.+)", re.IGNORECASE)
_OF_PAGES = (b"origin", b"sec-fetch-site")
_OWN_SITES = (b"same-origin", b"none")

_MAKE_ONE = "Make one with `mempalace-mcp token new NAME --scope write`."
_FIRST = _MAKE_ONE.removesuffix(".") + ", and show it as the header Authorization: Bearer TOKEN."
_FOREIGN_PAGE = Forbidden(
    "Origin is no page of this server", hint="Leave it out, or start the server with --allowed-host."
)


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
            await HttpRefusal(421, _foreign_host(hosts))(scope, receive, send)
        elif not all(self._is_own(origin, hosts[0]) for origin in origins):
            await HttpRefusal(403, _FOREIGN_PAGE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, origin: str, host: str) -> bool:
        page = _ORIGIN.fullmatch(origin)
        return page is not None and (page[1].lower() == host.lower() or self._exposure.is_named(page[1]))


class TokenGuard:
    """Answers 401 to whoever shows no token, always in the same words, and 403 to one that does not reach so far.

    While there is no token, it answers 401 to all but the programs of our own account, as far as `connections` can
    tell, and 403 to the pages in their browser.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring | None, watch: Watch | None, connections: Connections) -> None:
        self._app = app
        self._keyring = keyring
        self._watch = watch
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            access = await self._access(scope)
            if access.wings is not None and route_of(scope) not in MESSAGE_PATHS:
                raise Forbidden("this token is limited to wings", hint="Use one that is not.")
        except Unauthorized as error:
            await HttpRefusal(401, error, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        except Forbidden as error:
            await HttpRefusal(403, error)(scope, receive, send)
        except Busy as error:
            await HttpRefusal(503, error, {"Retry-After": f"{error.retry_after:.0f}"})(scope, receive, send)
        else:
            await self._app({**scope, _ACCESS: access}, receive, self._while_valid(scope, access, send))

    def _while_valid(self, scope: Scope, access: Access, send: Send) -> Send:
        """A `send` that ends a stream instead of going on once its token allows something else, or nothing."""
        has_ended = False

        async def send_on(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            has_ended = message.get("more_body", False) and not await self._still_has(scope, access)
            await send({"type": "http.response.body"} if has_ended else message)

        return send_on

    async def _still_has(self, scope: Scope, access: Access) -> bool:
        try:
            return await self._access(scope) == access
        except (Unauthorized, Forbidden, Busy):
            return False

    async def _access(self, scope: Scope) -> Access:
        """What the caller may do.

        Raises:
            Unauthorized, Forbidden: nothing.
            Busy: nobody knows at the moment.
        """
        if self._watch is not None:
            await self._watch.look()
        if self._keyring is None or not self._keyring.guarding:
            return self._access_without_tokens(scope)
        shown = Headers(scope=scope).getlist("authorization")
        bearer = _BEARER.fullmatch(shown[0].strip()) if len(shown) == 1 else None
        access = None if bearer is None else self._keyring.access_of(bearer[1])
        if access is None:
            raise Unauthorized("a token is needed, as the header Authorization: Bearer TOKEN", hint=_MAKE_ONE)
        return access

    def _access_without_tokens(self, scope: Scope) -> Access:
        connection = self._connections.of(scope)
        if is_passed_on(scope):
            raise Unauthorized("a request that comes through a proxy needs a token, and there is none yet", hint=_FIRST)
        if connection is None or not connection.is_own:
            raise Unauthorized(
                "there is no token yet, and without one the server answers programs of its own account alone",
                hint=_FIRST,
            )
        if not _is_of_no_page(scope):
            raise Forbidden("without a token no page of another address is answered", hint=_FIRST)
        return FULL


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


def _is_of_no_page(scope: Scope) -> bool:
    """True if no page in a browser can have sent the request, unless it is one of this very server."""
    told = [(name, value.lower()) for name, value in scope["headers"] if name in _OF_PAGES]
    own = f"{scope['scheme']}://{Headers(scope=scope)['host']}".lower().encode("latin-1") if told else b""
    return all(value == own if name == b"origin" else value in _OWN_SITES for name, value in told)


def _foreign_host(hosts: list[str]) -> PalaceError:
    called = host_name(hosts[0]) if len(hosts) == 1 else None
    if called is None:
        return InvalidArgument("Host is no name of this server", argument="Host", hint="Send the name that you call.")
    return InvalidArgument(
        f"Host {called} is no name of this server",
        argument="Host",
        hint=f"Start the server with --allowed-host {called} if that is one.",
    )
