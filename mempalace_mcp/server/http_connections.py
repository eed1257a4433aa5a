"""Connections over HTTP: how many there are, how long they may idle, whose the other end is.

To which account of this machine the other end of a loopback connection belongs, as far as the system tells.

Linux answers that from its table of sockets (sock_diag(7)): one question by both addresses, whatever the number of
connections. Other systems have no such question.

HTTP connections within bounds: their number, the time a request's head may take, what clients leave unread.
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

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from mempalace_mcp.core.errors import Busy, InvalidArgument, PalaceError
from mempalace_mcp.server.http_messages import rpc_error

Address = tuple[str, int]

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_HEAD = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_ANY_INTERFACE_ANY_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ANSWER = struct.Struct("=BBBB48x12xII")
"""Family, state, timer, retransmissions; addresses; expiry and queues; account and inode."""

_LIVING_STATES = frozenset({1, 4, 5, 8})
"""Established, or closed by one side. One that is just being opened may be somebody else's, who got the same port;
one that is over, and one without an inode, has lost its owner and shows account 0."""

_ALL_ACCOUNTS = ["0", "0", "4294967295"]
_PATIENCE_SECONDS = 1.0


def belongs_to_us(client: Address, server: Address) -> bool:
    """True if the client's end of a connection that is open is a socket of the account that this process runs as.

    Root is another account, too, unless this is root: what connects as root is more often a proxy than a person.
    """
    return account_of(client, server) == os.geteuid() if hasattr(os, "geteuid") else False


def account_of(client: Address, server: Address) -> int | None:
    """The account, or None if the connection is not one of loopback, is over, or the system does not tell."""
    near, far = _plain(client[0]), _plain(server[0])
    if near is None or far is None or near.version != far.version or not hasattr(socket, "AF_NETLINK"):
        return None
    family = socket.AF_INET if near.version == 4 else socket.AF_INET6
    addresses = near.packed.ljust(16, b"\0") + far.packed.ljust(16, b"\0")
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + _PORTS.pack(client[1], server[1])
    answer = _ask(question + addresses + _ANY_INTERFACE_ANY_COOKIE)
    if answer is None:
        return None
    _, state, _, _, account, inode = _ANSWER.unpack_from(answer, _HEAD.size)
    return int(account) if state in _LIVING_STATES and inode else None


def can_tell() -> bool:
    """Does the system tell? Not within a namespace of accounts, where strangers may look like one of its own."""
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return mapped == _ALL_ACCOUNTS and any(map(_tells_of, ("127.0.0.1", "::1")))


def _tells_of(host: str) -> bool:
    """Is our own connection to ourselves known as ours?"""
    with contextlib.ExitStack() as opened:
        try:
            listener = opened.enter_context(
                socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            )
            client = opened.enter_context(socket.create_connection(listener.getsockname()[:2], _PATIENCE_SECONDS))
            return belongs_to_us(client.getsockname()[:2], client.getpeername()[:2])
        except OSError:
            return False


def _ask(question: bytes) -> bytes | None:
    """What the kernel answers; None if it does not know the socket, or is not to be asked."""
    message = _HEAD.pack(_HEAD.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + question
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_PATIENCE_SECONDS)
            kernel.send(message)
            answer = kernel.recv(4096)
    except OSError:
        return None
    _, kind, *_ = _HEAD.unpack_from(answer)
    return answer if kind == _SOCK_DIAG_BY_FAMILY and len(answer) >= _HEAD.size + _ANSWER.size else None


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, an IPv4 one as such however it is written; None if it is none of loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address if address.is_loopback else None


logger = logging.getLogger(__name__)

HEAD_SECONDS = 15.0
"""From the first moment of a connection, or the first byte of a later request, to the end of its headers."""

HEAD_BYTES = 64 * 1024
UNREAD_SECONDS = 60.0
"""A client that takes nothing of what is there for it for so long is gone."""

UNREAD_BYTES = 128 * 1024 * 1024
"""Of all connections together: beyond it, the one that has not been reading for longest is dropped."""

RETRY_SECONDS = 5


def _refusal(status: str, error: PalaceError, *fields: str) -> bytes:
    """An answer to whoever has not been heard out, after which the connection is closed."""
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
    """What Uvicorn is given as its protocol class: makes the protocol of each connection, and knows them all."""

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
        self._known: dict[tuple[Address, Address], Connection] = {}
        """By the addresses of both ends, which is how the scope of a request tells its connection."""

    def __call__(self, **options: Any) -> asyncio.Protocol:
        """The protocol of a new connection; the options are Uvicorn's own."""
        return Connection(self, AutoHTTPProtocol(**options))

    def of(self, scope: Mapping[str, Any]) -> Connection | None:
        """The connection of a request; None if it is gone."""
        client, server = scope.get("client"), scope.get("server")
        return self._known.get((tuple(client), tuple(server))) if client and server else None

    def know(self, connection: Connection) -> None:
        """Let requests find the connection."""
        self._known[connection.ends] = connection

    def forget(self, connection: Connection) -> None:
        """Let nobody find it any more."""
        if self._known.get(connection.ends) is connection:
            del self._known[connection.ends]

    def stopped_reading(self, connection: Connection) -> None:
        """Note a client that does not keep up; make room if they all leave too much unread."""
        self._unread[connection] = None
        while sum(each.unread for each in self._unread) > self._unread_bytes:
            next(iter(self._unread)).drop("leaves too much unread")

    def reads_again(self, connection: Connection) -> None:
        """Forget a client that keeps up, or is gone."""
        self._unread.pop(connection, None)


class Connection(asyncio.Protocol):
    """One connection: everything goes to Uvicorn's protocol, as long as it is within the bounds."""

    is_in_body = False
    """Is some of the present request's body still to come?"""

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
        """What a client has to say at once may take so long."""
        return self._connections.head_seconds

    @property
    def is_own(self) -> bool:
        """Is the other end a program of this machine and of the account that the server runs as? Looked up once: a
        socket keeps the account that made it."""
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
        self._connections.know(self)
        self._inner.connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        if not self.is_in_body:
            self._head_bytes += len(data)
            # Uvicorn has made the task of a request whose head is whole by now, so that one begins before this runs.
            self._loop.call_soon(self._watch_head)

    def begin(self) -> None:
        """A request has arrived, at least its head."""
        self._requests += 1
        self._head_bytes = 0
        _cancel(self._head_timer)
        self._head_timer = None

    def end(self) -> None:
        """A request is answered."""
        self._requests -= 1

    def hang_up(self) -> None:
        """Close the connection once the client has taken what is there for it."""
        self._transport.close()

    def eof_received(self) -> bool | None:
        return None if self._is_refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._watch_reading()
        self._connections.stopped_reading(self)

    def resume_writing(self) -> None:
        self._forget_reading()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_refused:
            return
        self._connections.open -= 1
        self._connections.forget(self)
        _cancel(self._head_timer)
        self._forget_reading()
        self._inner.connection_lost(error)

    def drop(self, reason: str) -> None:
        """End the connection with whatever the client has not taken."""
        logger.warning("a client %s: %s bytes are dropped with its connection", reason, f"{self.unread:,}")
        self._forget_reading()
        self._transport.abort()

    def _watch_head(self) -> None:
        """Bound the head that has begun to arrive; behind a request that is being answered it may take its time."""
        if self._head_bytes > HEAD_BYTES:
            if self._requests:
                self.drop("sends an endless head")
            else:
                self._refuse(_LARGE)
        elif self._head_bytes and not self._requests and self._head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._connections.head_seconds, self._refuse, _SLOW)

    def _refuse(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()

    def _watch_reading(self) -> None:
        self._unread_timer = self._loop.call_later(self._connections.unread_seconds, self._look_again, self.unread)

    def _look_again(self, before: int) -> None:
        if self.unread < before:
            self._watch_reading()
        else:
            self.drop(f"has read nothing for {self._connections.unread_seconds:.0f} s")

    def _forget_reading(self) -> None:
        _cancel(self._unread_timer)
        self._unread_timer = None
        self._connections.reads_again(self)


def _ends(transport: asyncio.BaseTransport) -> tuple[Address, Address] | None:
    """The addresses of the client and of ours; None if the client is gone already."""
    try:
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    except OSError:
        return None
    return ((client[0], client[1]), (server[0], server[1])) if client and server else None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
