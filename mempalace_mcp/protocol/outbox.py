"""What one client is to be told: whole messages, one at a time, and only so much that it has not taken yet."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

logger = logging.getLogger(__name__)

ROOM_BYTES = 8 * 1024 * 1024
"""While a client leaves more than that unread, nothing more is begun for it."""

LOST_BYTES = 8 * ROOM_BYTES
"""A client that leaves so much unread all the same is given up."""

Write = Callable[[bytes], Awaitable[None]]
"""Sends one message, without a newline; raises anyio's `BrokenResourceError` when the client is gone."""


class Outbox:
    """The way out of one session."""

    def __init__(self, write: Write) -> None:
        self.broken = anyio.Event()
        """Set once a message could not be delivered."""
        self._write = write
        self._writing = anyio.Lock(fast_acquire=True)
        self._unfinished: set[anyio.CancelScope] = set()
        self._unsent = 0
        self._sent = anyio.Event()
        self._aborted = False

    async def send(self, data: bytes) -> None:
        """Write one message whole: whatever is cancelled meanwhile, no half message stays behind.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the client is gone.
        """
        if self._aborted:
            raise anyio.ClosedResourceError
        self._unsent += len(data)
        with anyio.CancelScope(shield=True) as scope:
            self._unfinished.add(scope)
            try:
                self._verify_amount()
                async with self._writing:
                    await self._write(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.broken.set()
                raise
            finally:
                self._unfinished.discard(scope)
                self._unsent -= len(data)
                self._sent.set()

    @property
    def has_room(self) -> bool:
        """Has the client taken most of what is there for it?"""
        return self._unsent <= ROOM_BYTES

    async def room(self) -> None:
        """Wait until it has."""
        while not self.has_room:
            if self._sent.is_set():
                self._sent = anyio.Event()
            await self._sent.wait()

    def abort(self) -> None:
        """Give up on messages that the client does not take."""
        self._aborted = True
        for scope in self._unfinished:
            scope.cancel()

    def _verify_amount(self) -> None:
        if self._unsent > LOST_BYTES:
            logger.warning("a client leaves %s bytes unread: its session is closed", f"{self._unsent:,}")
            raise anyio.BrokenResourceError
