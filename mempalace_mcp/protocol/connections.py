"""HTTP connections within bounds: their number, the time a request's head may take, what clients leave unread."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

logger = logging.getLogger(__name__)

HEAD_SECONDS = 15.0
"""From the first moment of a connection, or the first byte of a later request, to the end of its headers."""

HEAD_BYTES = 64 * 1024
UNREAD_SECONDS = 60.0
"""A client that takes nothing of what is there for it for so long is gone."""

UNREAD_BYTES = 128 * 1024 * 1024
"""Of all connections together: beyond it, the one that has not been reading for longest is dropped."""

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


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
        self._unread: dict[_Connection, None] = {}

    def __call__(self, **options: Any) -> asyncio.Protocol:
        """The protocol of a new connection; the options are Uvicorn's own."""
        return _Connection(self, AutoHTTPProtocol(**options))

    def stopped_reading(self, connection: _Connection) -> None:
        """Note a client that does not keep up; make room if they all leave too much unread."""
        self._unread[connection] = None
        while sum(each.unread for each in self._unread) > self._unread_bytes:
            next(iter(self._unread)).drop("leaves too much unread")

    def reads_again(self, connection: _Connection) -> None:
        """Forget a client that keeps up, or is gone."""
        self._unread.pop(connection, None)


class _Connection(asyncio.Protocol):
    """One connection: everything goes to Uvicorn's protocol, as long as it is within the bounds."""

    def __init__(self, connections: Connections, inner: Any) -> None:
        self._connections = connections
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_refused = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

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
        self._connections.open += 1
        self._inner.connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        if self._is_serving():
            self._head_bytes = 0
            _cancel(self._head_timer)
            self._head_timer = None
            return
        if self._is_in_head():
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(_LARGE)
        elif self._head_timer is None:
            self._await_head()

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
        _cancel(self._head_timer)
        self._forget_reading()
        self._inner.connection_lost(error)

    def drop(self, reason: str) -> None:
        """End the connection with whatever the client has not taken."""
        logger.warning("a client %s: %s bytes are dropped with its connection", reason, f"{self.unread:,}")
        self._forget_reading()
        self._transport.abort()

    def _is_serving(self) -> bool:
        """Has a request arrived, at least its head, that is not answered yet?"""
        cycle = self._inner.cycle
        return cycle is not None and not cycle.response_complete

    def _is_in_head(self) -> bool:
        """Else what comes is the rest of a body that was refused unread."""
        scope = self._inner.scope
        return scope is None or "method" not in scope

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._connections.head_seconds, self._give_up)

    def _give_up(self) -> None:
        self._refuse(_SLOW if self._is_in_head() else b"")

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


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
