"""Connections over HTTP: bounds on their number, on slow clients and unread answers, and the account of the other end.

Linux tells the account of a loopback connection from its table of sockets (sock_diag(7)) with one query by both
addresses. Other systems have no such query.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from mempalace_mcp.core.errors import Busy, InvalidArgument, PalaceError
from mempalace_mcp.server.http_messages import rpc_error

logger = logging.getLogger(__name__)

Address = tuple[str, int]

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_HEAD = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_ANY_INTERFACE_ANY_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_REPLY = struct.Struct("=BBBB48x12xII")
"""Family, state, timer, retransmissions; addresses; expiry and queues; account and inode."""

_LIVING_STATES = frozenset({1, 4, 5, 8})
"""Established, or closed by one side. In other states the port may have another owner already, or the socket may have
lost its owner: then it has no inode and shows account 0."""

_ALL_ACCOUNTS = ["0", "0", "4294967295"]
_TIMEOUT_SECONDS = 1.0

HEAD_SECONDS = 15.0
"""From the opening of a connection, or the first byte of a later request, to the end of the headers."""

HEAD_BYTES = 64 * 1024
UNREAD_SECONDS = 60.0
"""A client that reads nothing of its answer for so long is dropped."""

UNREAD_BYTES = 128 * 1024 * 1024
"""All connections together. Beyond it the connection that has not been reading for longest is dropped."""

RETRY_SECONDS = 5


def belongs_to_us(client: Address, server: Address) -> bool:
    """True if the client's end of an open connection belongs to the account of this process.

    Root is another account: a process that connects as root is more often a proxy than a person.
    """
    return account_of(client, server) == os.geteuid() if hasattr(os, "geteuid") else False


def account_of(client: Address, server: Address) -> int | None:
    """The number of the account; None if the connection is not on loopback, is over, or the system does not tell."""
    near, far = _plain(client[0]), _plain(server[0])
    if near is None or far is None or near.version != far.version or not hasattr(socket, "AF_NETLINK"):
        return None
    family = socket.AF_INET if near.version == 4 else socket.AF_INET6
    addresses = near.packed.ljust(16, b"\0") + far.packed.ljust(16, b"\0")
    query = _QUERY.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + _PORTS.pack(client[1], server[1])
    reply = _query_kernel(query + addresses + _ANY_INTERFACE_ANY_COOKIE)
    if reply is None:
        return None
    _, state, _, _, account, inode = _REPLY.unpack_from(reply, _HEAD.size)
    return int(account) if state in _LIVING_STATES and inode else None


def can_identify_accounts() -> bool:
    """Does the system tell whose a connection is? In a user namespace it does not: strangers may share an account."""
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return mapped == _ALL_ACCOUNTS and any(map(_identifies_own, ("127.0.0.1", "::1")))


def _identifies_own(host: str) -> bool:
    """Is a connection of this process to itself found to be of its own account?"""
    with contextlib.ExitStack() as opened:
        try:
            listener = opened.enter_context(
                socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            )
            client = opened.enter_context(socket.create_connection(listener.getsockname()[:2], _TIMEOUT_SECONDS))
            return belongs_to_us(client.getsockname()[:2], client.getpeername()[:2])
        except OSError:
            return False


def _query_kernel(query: bytes) -> bytes | None:
    """The kernel's reply; None if it does not know the socket, or refuses queries."""
    message = _HEAD.pack(_HEAD.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + query
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_TIMEOUT_SECONDS)
            kernel.send(message)
            reply = kernel.recv(4096)
    except OSError:
        return None
    _, kind, *_ = _HEAD.unpack_from(reply)
    return reply if kind == _SOCK_DIAG_BY_FAMILY and len(reply) >= _HEAD.size + _REPLY.size else None


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, an IPv4 one as such however it is written; None if it is none of loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address if address.is_loopback else None


def _refusal(status: str, error: PalaceError, *fields: str) -> bytes:
    """A whole HTTP response for a request that was not read to its end; the connection is closed after it."""
    body = json.dumps(rpc_error(error))
    about = ("content-type: application/json", f"content-length: {len(body)}", "connection: close")
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, *about, "", body]).encode()


_FULL = _refusal(
    "503 Service Unavailable",
    Busy(
        "the server has as many connections as it takes",
        hint=f"Try again in {RETRY_SECONDS} seconds.",
        retry_after=RETRY_SECONDS,
    ),
    f"retry-after: {RETRY_SECONDS}",
)
_SLOW = _refusal(
    "408 Request Timeout",
    InvalidArgument("the head of the request did not arrive in time", hint="Send it at once when you connect."),
)
_LARGE = _refusal(
    "431 Request Header Fields Too Large",
    InvalidArgument(f"the head of the request is longer than {HEAD_BYTES:,} bytes", hint="Send fewer header fields."),
)


class Connections:
    """The open connections of a server. It is given to Uvicorn as its protocol class (the setting `http`).

    Uvicorn's own settings cannot do this. `limit_concurrency` counts connections only when a request arrives, so silent
    ones are unlimited, and it answers in plain text. `h11_max_incomplete_event_size` is ignored by httptools. Nothing
    bounds the time of a head, or what a client leaves unread.
    """

    def __init__(
        self,
        limit: int,
        *,
        head_seconds: float = HEAD_SECONDS,
        unread_seconds: float = UNREAD_SECONDS,
        unread_bytes: int = UNREAD_BYTES,
    ) -> None:
        self.limit = limit
        self.head_seconds = head_seconds
        self.unread_seconds = unread_seconds
        self.open = 0
        self.refused = 0
        self._unread_bytes = unread_bytes
        self._unread: dict[Connection, None] = {}
        self._by_ends: dict[tuple[Address, Address], Connection] = {}
        """By the addresses of both ends: the scope of a request has them, but not its connection."""

    def __call__(self, **options: Any) -> asyncio.Protocol:
        """The protocol of a new connection; the options are Uvicorn's own."""
        return Connection(self, AutoHTTPProtocol(**options))

    def find(self, scope: Mapping[str, Any]) -> Connection | None:
        """The connection of a request; None if it is gone."""
        client, server = scope.get("client"), scope.get("server")
        return self._by_ends.get((tuple(client), tuple(server))) if client and server else None

    def register(self, connection: Connection) -> None:
        """Let requests find the connection."""
        self._by_ends[connection.ends] = connection

    def unregister(self, connection: Connection) -> None:
        """Undo `register`."""
        if self._by_ends.get(connection.ends) is connection:
            del self._by_ends[connection.ends]

    def stopped_reading(self, connection: Connection) -> None:
        """Note a client that does not keep up, and drop the slowest ones if too much is unread altogether."""
        self._unread[connection] = None
        while sum(each.unread for each in self._unread) > self._unread_bytes:
            next(iter(self._unread)).drop("leaves too much unread")

    def reads_again(self, connection: Connection) -> None:
        """Forget a client that keeps up, or is gone."""
        self._unread.pop(connection, None)


class Connection(asyncio.Protocol):
    """One connection. It passes everything on to Uvicorn's protocol as long as it is within the bounds."""

    is_in_body = False
    """Has part of the current request's body yet to arrive?"""

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self.ends: tuple[Address, Address]
        """The client's address and ours."""
        self._connections = connections
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_refused = False
        self._is_own: bool | None = None
        self._requests = 0
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def head_seconds(self) -> float:
        """The longest time in seconds for a head, and for the rest of a body that was refused."""
        return self._connections.head_seconds

    @property
    def is_own(self) -> bool:
        """Does the other end belong to the account of this process, on this machine? Looked up once: a socket keeps the
        account that made it."""
        if self._is_own is None:
            self._is_own = belongs_to_us(*self.ends)
        return self._is_own

    @property
    def unread(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        if self._connections.open >= self._connections.limit:
            self._connections.refused += 1
            self._is_refused = True
            self._refuse(_FULL)
            return
        ends = _ends(transport)
        if ends is None:
            self._is_refused = True
            self._transport.abort()
            return
        self.ends = ends
        self._connections.open += 1
        self._connections.register(self)
        self._inner.connection_made(transport)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        if not self.is_in_body:
            self._head_bytes += len(data)
            # If the head is complete Uvicorn has made the task of the request by now, and that one calls `begin` first.
            self._loop.call_soon(self._check_head)

    def begin(self) -> None:
        """Note that a request begins: its head has arrived."""
        self._requests += 1
        self._head_bytes = 0
        _cancel(self._head_timer)
        self._head_timer = None

    def end(self) -> None:
        """Note that a request has been answered."""
        self._requests -= 1

    def close(self) -> None:
        """Close the connection once the client has read its answer."""
        self._transport.close()

    def eof_received(self) -> bool | None:
        return None if self._is_refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._start_unread_timer()
        self._connections.stopped_reading(self)

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_refused:
            return
        self._connections.open -= 1
        self._connections.unregister(self)
        _cancel(self._head_timer)
        self._stop_unread_timer()
        self._inner.connection_lost(error)

    def drop(self, reason: str) -> None:
        """Abort the connection with all that the client has not read."""
        logger.warning("a client %s: %s bytes are dropped with its connection", reason, f"{self.unread:,}")
        self._stop_unread_timer()
        self._transport.abort()

    def _check_head(self) -> None:
        """Check the size of the head that arrives, and start its timer unless an earlier request is being answered."""
        if self._head_bytes > HEAD_BYTES:
            if self._requests:
                self.drop("sends an endless head")
            else:
                self._refuse(_LARGE)
        elif self._head_bytes and not self._requests and self._head_timer is None:
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(self._connections.head_seconds, self._refuse, _SLOW)

    def _refuse(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()

    def _start_unread_timer(self) -> None:
        self._unread_timer = self._loop.call_later(self._connections.unread_seconds, self._check_progress, self.unread)

    def _check_progress(self, before: int) -> None:
        if self.unread < before:
            self._start_unread_timer()
        else:
            self.drop(f"has read nothing for {self._connections.unread_seconds:.0f} s")

    def _stop_unread_timer(self) -> None:
        _cancel(self._unread_timer)
        self._unread_timer = None
        self._connections.reads_again(self)


def _ends(transport: asyncio.BaseTransport) -> tuple[Address, Address] | None:
    """The addresses of the client and of the server; None if the client is gone already."""
    try:
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    except OSError:
        return None
    return ((client[0], client[1]), (server[0], server[1])) if client and server else None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class ConnectionMiddleware:
    """ASGI middleware that tells each connection of its requests, and reads the rest of a body that was refused unread.

    That rest would pass for the head of the next request; and a client that is still sending when its connection is
    closed does not see the answer.
    """

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._connections.find(scope) if scope["type"] == "http" else None
        if connection is None:
            await self._app(scope, receive, send)
            return
        body = _RequestBody(scope, receive, connection)
        connection.begin()
        try:
            await self._app(scope, body.receive, body.ending(send))
        finally:
            connection.end()


class _RequestBody:
    """The body of one request."""

    def __init__(self, scope: Scope, receive: Receive, connection: Connection) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._connection = connection
        self._has_begun = False
        self._expects_continue = "expect" in headers
        connection.is_in_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Message:
        """The next part."""
        self._has_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._connection.is_in_body = False
        return message

    def ending(self, send: Send) -> Send:
        """A `send` that ends the response only after the end of the request's body."""

        async def send_on(message: Message) -> None:
            if self._connection.is_in_body and _is_last(message):
                await send({**message, "more_body": True})
                await self._discard_rest()
                message = {"type": "http.response.body"}
            await send(message)

        return send_on

    async def _discard_rest(self) -> None:
        """Read to the end, or close the connection if that takes too long or the client waits for `100 Continue`."""
        if self._has_begun or not self._expects_continue:
            with anyio.move_on_after(self._connection.head_seconds):
                while self._connection.is_in_body:
                    await self.receive()
        if self._connection.is_in_body:
            self._connection.close()


def _is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)
