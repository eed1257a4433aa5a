"""Who may use the HTTP server: the addresses it listens on, its names, forwarded requests, and tokens."""

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
from mempalace_mcp.server.http_messages import MESSAGE_PATHS, ErrorResponse, route_of

_PROXY_HEADERS = frozenset(
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
_PROXY_PREFIXES = (b"cf-", b"tailscale-", b"x-envoy-", b"x-forwarded-", b"x-original-forwarded-", b"x-proxy")

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LONGEST_PREFIX = 512

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANYWHERE = frozenset({"", "0.0.0.0", "::"})
"""Hosts that mean every address of the machine."""

_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]"
_AUTHORITY = re.compile(rf"({_NAME})(?::\d{{1,5}})?", re.IGNORECASE)

_LOOPBACKS = ("127.0.0.1", "::1")
"""The addresses of `localhost`. Clients try one of them, or both in either order."""

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ATTEMPTS = 20
"""To find a port that is free on both."""

PUBLIC = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths of probes, which need no token: they show numbers and words of closed sets."""

_PRINCIPAL = "mempalace_mcp.principal"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,1024})", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(.+)", re.IGNORECASE)
_PAGE_HEADERS = (b"origin", b"sec-fetch-site")
_OWN_SITES = (b"same-origin", b"none")

_MAKE_ONE = "Make one with `mempalace-mcp token new NAME --scope write`."
_FIRST = _MAKE_ONE.removesuffix(".") + ", and show it as the header Authorization: Bearer TOKEN."
_FOREIGN_PAGE = Forbidden(
    "Origin is no page of this server", hint="Leave it out, or start the server with --allowed-host."
)


def is_forwarded(scope: Scope) -> bool:
    """Does a header show that a proxy has forwarded the request? Its sender may be anywhere then."""
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name, _ in scope["headers"])


def messages_url(scope: Scope, path: str) -> str:
    """The address to which the client of this stream posts its messages: `path` as the client sees it.

    Most clients resolve a relative address, some accept only a path from the root. A proxy may have removed a prefix
    of the client's path. So the address is a path from the root if the prefix is known, by `X-Forwarded-Prefix` or
    because there is no proxy; otherwise it is relative to the stream.
    """
    prefix = _prefix(scope)
    if prefix is not None:
        return prefix + path
    if not (is_forwarded(scope) or scope["http_version"] == "1.0" or _is_of_another_port(scope)):
        return path
    return f"..{path}" if scope["path"].endswith("/") else path.removeprefix("/")


def _prefix(scope: Scope) -> str | None:
    """The prefixes of all proxies, the outermost first; None if they are no plain path."""
    headers = Headers(scope=scope)
    parts = [part.strip().rstrip("/") for value in headers.getlist("x-forwarded-prefix") for part in value.split(",")]
    parts = [part for part in parts if part]
    if not parts or sum(map(len, parts)) > _LONGEST_PREFIX or not all(map(_PREFIX.fullmatch, parts)):
        return None
    return "".join(parts)


def _is_of_another_port(scope: Scope) -> bool:
    """Does the client's port differ from the one on which the server listens?"""
    _, _, port = Headers(scope=scope).get("host", "").rpartition(":")
    server = scope.get("server")
    return server is not None and port.isascii() and port.isdecimal() and int(port[:6]) != server[1]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The PEM files of a certificate chain and of its key."""

    file: Path
    key: Path

    def verify(self) -> None:
        """Check that a server can use them.

        Raises:
            ConfigurationError: one cannot be read, or they do not belong together.
        """
        for option, file in (("--certificate", self.file), ("--key", self.key)):
            try:
                file.open("rb").close()
            except OSError as error:
                raise _wrong(f"{file} cannot be read: {error.strerror}", option) from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.file, self.key, _refuse_encrypted_key)
        except ssl.SSLError as error:
            reason = (error.reason or "unreadable").lower().replace("_", " ")
            raise _wrong(f"{self.file} and {self.key} are no certificate and its key: {reason}", "--key") from error


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """The address to listen on (`host`), and further host names by which clients may call the server (`names`).

    An IPv6 address among the names is in brackets.
    """

    host: str = "127.0.0.1"
    names: frozenset[str] = frozenset()
    certificate: Certificate | None = None

    @classmethod
    def read(cls, host: str, names: tuple[str, ...], certificate: Path | None, key: Path | None) -> ListenSettings:
        """Settings from the options of the command line.

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
        """Is it reachable from this machine alone?"""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_unencrypted(self) -> bool:
        """Do tokens and texts travel over a network without encryption?"""
        return not self.is_local and self.certificate is None

    @property
    def shown_host(self) -> str:
        """The host as it is written in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, port: int) -> str:
        """The URL of the server."""
        return f"{'http' if self.certificate is None else 'https'}://{self.shown_host}:{port}"

    def is_named(self, authority: str) -> bool:
        """Is this a name of the server, with or without a port?"""
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and found[1].lower() in LOOPBACK_NAMES | self.names | {self.shown_host.lower()}

    def is_called(self, authority: str) -> bool:
        """May a request have this `Host`? A server that listens on every address accepts any IP address as well: DNS
        rebinding cannot make a browser send one."""
        if self.is_named(authority):
            return True
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and self.host in ANYWHERE and _is_address(found[1])


def host_name(authority: str) -> str | None:
    """The host name in the header Host, without its port; None if it is not valid."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else found[1].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _refuse_encrypted_key() -> NoReturn:
    raise _wrong("the key is encrypted, and nobody is there to be asked for its password", "--key")


def _wrong(problem: str, argument: str) -> ConfigurationError:
    return ConfigurationError(problem, argument=argument, hint="Give the PEM files of a certificate and of its key.")


@dataclass(frozen=True)
class ListeningSocket:
    """Bound sockets on one port, closed at the end of the block."""

    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        """The port of all of them."""
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


def require_token(settings: ListenSettings, authenticator: Authenticator | None) -> None:
    """Check that there is a token if other machines can reach the server.

    Raises:
        ConfigurationError: other machines can reach it, and there is no token.
    """
    if not settings.is_local and not authenticator:
        raise ConfigurationError(
            f"--host {settings.host} can be reached from other machines, so it needs a token",
            argument="--host",
            hint="Make one with `mempalace-mcp token new NAME --scope write`, or set PALACE_TOKEN; or use 127.0.0.1.",
        )


def listen(settings: ListenSettings, port: int) -> ListeningSocket:
    """Sockets bound to the port, or to a free one if it is 0.

    Raises:
        ConfigurationError: the address cannot be used, or the port is taken.
    """
    host = settings.host
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
    """A socket on each of these addresses that the machine has, all on one port."""
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
    # asyncio disables Nagle's algorithm, which delays small answers by 40 ms, only if the protocol is given as TCP
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


class HostGuard:
    """Middleware that answers 421 to a foreign Host and 403 to a foreign Origin, on every path.

    A page of the web can reach a port of this machine by DNS rebinding, but it cannot choose these headers. Starlette's
    `TrustedHostMiddleware` knows neither `Origin` nor addresses as such, accepts several `Host` headers, and answers in
    plain text; the SDK's `TransportSecurityMiddleware` protects `/mcp` alone.
    """

    def __init__(self, app: ASGIApp, settings: ListenSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope = _trimmed(scope)
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._settings.is_called(hosts[0]):
            await ErrorResponse(421, _foreign_host(hosts))(scope, receive, send)
        elif not all(self._is_own(origin, hosts[0]) for origin in origins):
            await ErrorResponse(403, _FOREIGN_PAGE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, origin: str, host: str) -> bool:
        page = _ORIGIN.fullmatch(origin)
        return page is not None and (page[1].lower() == host.lower() or self._settings.is_named(page[1]))


class TokenGuard:
    """Middleware that answers 401 to a request without a valid token, and 403 to a token that is too limited.

    While no token is needed, only programs of this process's own account are served, and no pages in their browser:
    those programs can read the palace's file anyway. The middleware of Starlette and of the SDK does not end a stream
    when its token is revoked, knows no such account, and does not answer a message by its id.
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
            await ErrorResponse(401, error, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        except Forbidden as error:
            await ErrorResponse(403, error)(scope, receive, send)
        except Busy as error:
            await ErrorResponse(503, error, {"Retry-After": f"{error.retry_after:.0f}"})(scope, receive, send)
        else:
            await self._app({**scope, _PRINCIPAL: principal}, receive, self._while_valid(scope, principal, send))

    def _while_valid(self, scope: Scope, principal: Principal, send: Send) -> Send:
        """A `send` that ends a stream once the caller may not do the same any more."""
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
            Unauthorized, Forbidden: the caller may do nothing.
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
        connection = self._connections.find(scope)
        if is_forwarded(scope):
            raise Unauthorized("a request that comes through a proxy needs a token, and there is none yet", hint=_FIRST)
        if connection is None or not connection.is_own:
            raise Unauthorized(
                "there is no token yet, and without one the server answers programs of its own account alone",
                hint=_FIRST,
            )
        if not _is_no_foreign_page(scope):
            raise Forbidden("without a token no page of another address is answered", hint=_FIRST)
        return FULL


def _trimmed(scope: Scope) -> Scope:
    """The request without whitespace around its header values (RFC 9110, section 5.5): httptools leaves it there."""
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}


def principal_of(scope: Scope) -> Principal:
    """What the caller of a request may do, after `TokenGuard` let it pass."""
    principal = scope.get(_PRINCIPAL, FULL)
    assert isinstance(principal, Principal)
    return principal


def _is_no_foreign_page(scope: Scope) -> bool:
    """True if no page in a browser can have sent the request, or only a page of this server."""
    signs = [(name, value.lower()) for name, value in scope["headers"] if name in _PAGE_HEADERS]
    own = f"{scope['scheme']}://{Headers(scope=scope)['host']}".lower().encode("latin-1") if signs else b""
    return all(value == own if name == b"origin" else value in _OWN_SITES for name, value in signs)


def _foreign_host(hosts: list[str]) -> PalaceError:
    name = host_name(hosts[0]) if len(hosts) == 1 else None
    if name is None:
        return InvalidArgument("Host is no name of this server", argument="Host", hint="Send the name that you call.")
    return InvalidArgument(
        f"Host {name} is no name of this server",
        argument="Host",
        hint=f"Start the server with --allowed-host {name} if that is one.",
    )
