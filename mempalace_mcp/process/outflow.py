"""Bytes on their way to a reader that may be slow: whoever has some to give goes on at once."""

from __future__ import annotations

import select
import sys
import threading
from collections import deque
from collections.abc import Callable

_SURE_BYTES = 4096
"""So much a pipe or a socket takes without a pause once it says that it takes something."""

_CARRIED_BYTES = 65536


class Outflow:
    """What the reader does not take at once is kept, in order, and carried by a thread that lives no longer than that.

    `room_bytes` bounds nothing by itself: those who give look at `has_room` before they make more.
    """

    def __init__(
        self,
        descriptor: int,
        write: Callable[[memoryview], int],
        room_bytes: int,
        on_room: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._readiness = None if sys.platform == "win32" else select.poll()
        if self._readiness is not None:
            self._readiness.register(descriptor, select.POLLOUT)
        self._write = write
        self._room_bytes = room_bytes
        self._on_room = on_room
        self._on_lost = on_lost
        self._parts: deque[memoryview] = deque()
        self._pending = 0
        self._is_carried = self._is_lost = False
        self._changed = threading.Condition()

    @property
    def pending(self) -> int:
        """Bytes that the reader has not taken."""
        return self._pending

    @property
    def has_room(self) -> bool:
        """Does the reader keep up?"""
        return self._pending <= self._room_bytes

    def put(self, data: bytes) -> None:
        """Give it all of the data; returns without waiting for the reader.

        Raises:
            OSError: nobody reads any more.
        """
        with self._changed:
            if self._is_lost:
                raise BrokenPipeError
            self._parts.append(memoryview(data))
            self._pending += len(data)
            if self._is_carried:
                return
            self._give_at_once()
            if self._parts:
                self._is_carried = True
                threading.Thread(target=self._carry, name="carrier", daemon=True).start()

    def wait_below(self, amount: int) -> None:
        """Wait until the reader has taken all but so many bytes, or is gone."""
        if self._pending >= amount:
            with self._changed:
                self._changed.wait_for(lambda: self._pending < amount or self._is_lost)

    def drain(self, seconds: float) -> bool:
        """Wait until the reader has everything; False if it took nothing for so long."""
        with self._changed:
            while self._pending and not self._is_lost:
                if not self._changed.wait(seconds):
                    return False
        return True

    def _give_at_once(self) -> None:
        """What the reader takes without a pause."""
        try:
            while self._parts and self._is_ready():
                self._advance(self._write(self._parts[0][:_SURE_BYTES]))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose()
            raise BrokenPipeError from error

    def _carry(self) -> None:
        while True:
            with self._changed:
                if not self._parts:
                    self._is_carried = False
                    return
                part = self._parts[0][:_CARRIED_BYTES]
            try:
                count = self._write(part)
            except BlockingIOError:
                self._is_ready(None)
                continue
            except OSError:
                with self._changed:
                    self._lose()
                self._on_lost()
                return
            with self._changed:
                had_room = self.has_room
                self._advance(count)
            if self.has_room and not had_room:
                self._on_room()

    def _advance(self, count: int) -> None:
        self._pending -= count
        rest = self._parts[0][count:]
        if rest:
            self._parts[0] = rest
        else:
            self._parts.popleft()
        self._changed.notify_all()

    def _lose(self) -> None:
        self._is_lost = True
        self._parts.clear()
        self._changed.notify_all()

    def _is_ready(self, seconds: float | None = 0) -> bool:
        """Does it take something, or is gone, after so many seconds at most? Windows cannot tell."""
        return self._readiness is not None and bool(self._readiness.poll(seconds))
