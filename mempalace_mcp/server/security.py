"""Who may connect over HTTP: addresses, proxies, accounts of this machine, tokens.

Requests that a proxy has passed on, and under which path it serves us.

How far the HTTP doors can be reached: where they listen, by which names, and whether the way there is encrypted.

The sockets on which the HTTP doors listen.

Who may speak to the HTTP doors: callers that name this server by an address of its own, and may be trusted.

A page of the web can reach a port of this machine by rebinding its own name to it, but it cannot choose the headers
Host and Origin; so both must name this server, on every route. A token is asked for as soon as there is one, and beyond
this machine there must be one. While there is none, the programs of our own account are trusted: they can read the file
of the palace anyway. A browser is one of them, and what its pages send is not.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.core.errors import Busy, ConfigurationError, Forbidden, InvalidArgument, PalaceError, Unauthorized
from mempalace_mcp.server.auth import Authenticator
from mempalace_mcp.server.http_connections import Connections
from mempalace_mcp.server.http_messages import MESSAGE_PATHS, HttpRefusal, route_of

_SIGNS = frozenset(
    {
        b"cdn-loop",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-amzn-trace-id",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-url",
        b"x-real-ip",
    }
)
_SIGNS_BEGIN = (b"cf-", b"tailscale-", b"x-envoy-", b"x-forwarded-", b"x-original-forwarded-", b"x-proxy")

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LONGEST_PREFIX = 512


def is_passed_on(scope: Scope) -> bool:
    """Does a header say that a proxy has passed the request on, for somebody who may be anywhere?"""
    return any(name in _SIGNS or name.startswith(_SIGNS_BEGIN) for name, _ in scope["headers"])


def messages_address(scope: Scope, path: str) -> str:
    """Where a client that opened this stream is to post its messages, by a path of this server.

    Clients resolve it against the address by which they came, all but some that take only a path from the root; and a
    proxy may have taken the beginning of theirs away. So it is a path from the root where the whole of that is known:
    with `X-Forwarded-Prefix`, or with no proxy. Else it is relative to the stream.
    """
    prefix = _prefix(scope)
    if prefix is not None:
        return prefix + path
    if not (is_passed_on(scope) or scope["http_version"] == "1.0" or _is_of_another_port(scope)):
        return path
    return f"..{path}" if scope["path"].endswith("/") else path.removeprefix("/")


def _prefix(scope: Scope) -> str | None:
    """What the proxies say, the outermost first; None if it is not plainly a path."""
    headers = Headers(scope=scope)
    parts = [part.strip().rstrip("/") for value in headers.getlist("x-forwarded-prefix") for part in value.split(",")]
    parts = [part for part in parts if part]
    if not parts or sum(map(len, parts)) > _LONGEST_PREFIX or not all(map(_PREFIX.fullmatch, parts)):
        return None
    return "".join(parts)


def _is_of_another_port(scope: Scope) -> bool:
    """Did the client ask for another port than the one where we listen?"""
    _, _, port = Headers(scope=scope).get("host", "").rpartition(":")
    server = scope.get("server")
    return server is not None and port.isascii() and port.isdecimal() and int(port[:6]) != server[1]


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANYWHERE = frozenset({"", "0.0.0.0", "::"})
"""Where to listen to be reached at every address of the machine."""

_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]"
_AUTHORITY = re.compile(rf"({_NAME})(?::\d{{1,5}})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate, with those it rests on, and of its key; both in PEM."""

    file: Path
    key: Path

    def verify(self) -> None:
        """Return if a server can use them.

        Raises:
            ConfigurationError: one cannot be read, or they do not belong together.
        """
        for option, file in (("--certificate", self.file), ("--key", self.key)):
            try:
                file.open("rb").close()
            except OSError as error:
                raise _wrong(f"{file} cannot be read: {error.strerror}", option) from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.file, self.key, _refuse_to_ask)
        except ssl.SSLError as error:
            reason = (error.reason or "unreadable").lower().replace("_", " ")
            raise _wrong(f"{self.file} and {self.key} are no certificate and its key: {reason}", "--key") from error


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """`host` is the address to listen at; `names` are those by which clients may call it beside its own.

    An IPv6 address among the names is in brackets.
    """

    host: str = "127.0.0.1"
    names: frozenset[str] = frozenset()
    certificate: Certificate | None = None

    @classmethod
    def read(cls, host: str, names: tuple[str, ...], certificate: Path | None, key: Path | None) -> ListenSettings:
        """What the command line asks for.

        Raises:
            ConfigurationError: a name is none, or the certificate or its key is missing or wrong.
        """
        for name in names:
            if not re.fullmatch(_NAME, name, re.IGNORECASE):
                raise ConfigurationError(
                    f"--allowed-host {name[:80]!r} is no name of a host",
                    argument="--allowed-host",
                    hint="Give the name alone, as palace.example, without scheme and port.",
                )
        if (certificate is None) is not (key is None):
            missing = "--key" if key is None else "--certificate"
            raise ConfigurationError(f"{missing} is missing", argument=missing, hint="Give both, or none.")
        pair = None if certificate is None or key is None else Certificate(certificate, key)
        if pair is not None:
            pair.verify()
        return cls(host, frozenset(name.lower() for name in names), pair)

    @property
    def is_local(self) -> bool:
        """Can programs of this machine alone reach it?"""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_open(self) -> bool:
        """Do tokens and texts travel over a network unencrypted?"""
        return not self.is_local and self.certificate is None

    @property
    def shown_host(self) -> str:
        """The address as URLs have it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, port: int) -> str:
        """Where it listens."""
        return f"{'http' if self.certificate is None else 'https'}://{self.shown_host}:{port}"

    def is_named(self, authority: str) -> bool:
        """Is this, with or without a port, a name of this server?"""
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and found[1].lower() in LOOPBACK_NAMES | self.names | {self.shown_host.lower()}

    def is_called(self, authority: str) -> bool:
        """May a client call the server so? Where it listens everywhere also by any address, for no name can be rebound
        to make a browser send one."""
        if self.is_named(authority):
            return True
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and self.host in ANYWHERE and _is_address(found[1])


def host_name(authority: str) -> str | None:
    """The name in the header Host, without its port; None if it can be none."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else found[1].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _refuse_to_ask() -> NoReturn:
    raise _wrong("the key is encrypted, and nobody is there to be asked for its password", "--key")


def _wrong(problem: str, argument: str) -> ConfigurationError:
    return ConfigurationError(problem, argument=argument, hint="Give the PEM files of a certificate and of its key.")


_LOOPBACKS = ("127.0.0.1", "::1")
"""What `localhost` means; clients try one of them, or both in either order."""

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ATTEMPTS = 20
"""To find a port that is free at both."""


@dataclass(frozen=True)
class ListeningSocket:
    """Sockets at one port, closed with the block."""

    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        """Where they listen."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    def __enter__(self) -> ListeningSocket:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        for each in self.sockets:
            each.close()


def require_token(exposure: ListenSettings, authenticator: Authenticator | None) -> None:
    """Return if there is a token, or none is needed, since only this machine can reach the server.

    Raises:
        ConfigurationError: other machines can reach it, and there is no token.
    """
    if not exposure.is_local and not authenticator:
        raise ConfigurationError(
            f"--host {exposure.host} can be reached from other machines, so it needs a token",
            argument="--host",
            hint="Make one with `mempalace-mcp token new NAME --scope write`, or set PALACE_TOKEN; or use 127.0.0.1.",
        )


def listen(exposure: ListenSettings, port: int) -> ListeningSocket:
    """Sockets bound to the port, or to a free one if it is 0.

    Raises:
        ConfigurationError: the address cannot be used, or the port is taken.
    """
    host = exposure.host
    attempts = _ATTEMPTS if port == 0 else 1
    while True:
        attempts -= 1
        try:
            return ListeningSocket(_bind_all(_LOOPBACKS, port) if host == "localhost" else [_bind(host, port)])
        except (OSError, OverflowError) as error:
            if attempts == 0:
                raise ConfigurationError(
                    f"cannot listen on {host} port {port}: {error}",
                    argument="--port",
                    hint="Choose another port, or 0.",
                ) from error


def _bind_all(hosts: tuple[str, ...], port: int) -> list[socket.socket]:
    """A socket at each of these addresses that the machine has, all at one port."""
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                bound.append(_bind(host, bound[0].getsockname()[1] if bound else port))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS or (host == hosts[-1] and not bound):
                    raise
    except BaseException:
        ListeningSocket(bound).__exit__(None, None, None)
        raise
    return bound


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which delays small answers by 40 ms, only where TCP is named as protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


PUBLIC = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths that tell nothing but numbers and words of a closed set, for probes that have no token."""

_PRINCIPAL = "mempalace_mcp.principal"
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

    def __init__(self, app: ASGIApp, exposure: ListenSettings) -> None:
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

    def __init__(self, app: ASGIApp, authenticator: Authenticator | None, connections: Connections) -> None:
        self._app = app
        self._authenticator = authenticator
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            principal = self._authenticate(scope)
            if principal.wings is not None and route_of(scope) not in MESSAGE_PATHS:
                raise Forbidden("this token is limited to wings", hint="Use one that is not.")
        except Unauthorized as error:
            await HttpRefusal(401, error, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        except Forbidden as error:
            await HttpRefusal(403, error)(scope, receive, send)
        except Busy as error:
            await HttpRefusal(503, error, {"Retry-After": f"{error.retry_after:.0f}"})(scope, receive, send)
        else:
            await self._app({**scope, _PRINCIPAL: principal}, receive, self._while_valid(scope, principal, send))

    def _while_valid(self, scope: Scope, principal: Principal, send: Send) -> Send:
        """A `send` that ends a stream instead of going on once its token allows something else, or nothing."""
        has_ended = False

        async def send_on(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            has_ended = message.get("more_body", False) and not self._is_still(principal, scope)
            await send({"type": "http.response.body"} if has_ended else message)

        return send_on

    def _is_still(self, principal: Principal, scope: Scope) -> bool:
        try:
            return self._authenticate(scope) == principal
        except (Unauthorized, Forbidden, Busy):
            return False

    def _authenticate(self, scope: Scope) -> Principal:
        """What the caller may do.

        Raises:
            Unauthorized, Forbidden: nothing.
            Busy: the tokens cannot be read at the moment.
        """
        if self._authenticator is not None:
            self._authenticator.refresh()
        if self._authenticator is None or not self._authenticator.guarding:
            return self._authenticate_without_token(scope)
        shown = Headers(scope=scope).getlist("authorization")
        bearer = _BEARER.fullmatch(shown[0].strip()) if len(shown) == 1 else None
        principal = None if bearer is None else self._authenticator.principal_of(bearer[1])
        if principal is None:
            raise Unauthorized("a token is needed, as the header Authorization: Bearer TOKEN", hint=_MAKE_ONE)
        return principal

    def _authenticate_without_token(self, scope: Scope) -> Principal:
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


def principal_of(scope: Scope) -> Principal:
    """What the caller of a request that came through the guards may do."""
    principal = scope.get(_PRINCIPAL, FULL)
    assert isinstance(principal, Principal)
    return principal


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
