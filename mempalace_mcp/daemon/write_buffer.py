"""Writing to a reader that may be slow, without waiting for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from mempalace_mcp.core import platform

_PART_BYTES = 65536


class WriteBuffer:
    """Writes without waiting for the reader. A thread writes what the reader does not take at once, and then ends.

    It has no limit by itself: callers look at `has_room`, which is False beyond `room_bytes`, before they make more.
    `on_room` is called when there is room again, `on_lost` when the reader is gone.
    """

    def __init__(
        self,
        descriptor: int,
        write: Callable[[memoryview], int],
        room_bytes: int,
        on_room: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._readiness = platform.poll_writable(descriptor)
        self._capacity = platform.write_capacity(descriptor)
        self._write = write
        self._room_bytes = room_bytes
        self._on_room = on_room
        self._on_lost = on_lost
        self._parts: deque[memoryview] = deque()
        self._pending = 0
        self._has_thread = self._is_lost = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def pending(self) -> int:
        """Bytes that the reader has not taken yet."""
        return self._pending

    @property
    def has_room(self) -> bool:
        """Is less than `room_bytes` unread?"""
        return self._pending <= self._room_bytes

    def put(self, data: bytes) -> None:
        """Write all of the data; returns without waiting for the reader.

        Raises:
            OSError: the reader is gone.
        """
        with self._lock:
            if self._is_lost:
                raise BrokenPipeError
            # While there is a thread, it alone writes: bytes stay in their order.
            rest = memoryview(data) if self._has_thread else self._write_ready(data)
            if not rest:
                return
            self._parts.append(rest)
            self._pending += len(rest)
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._write_pending, name="carrier", daemon=True).start()

    def wait_below(self, amount: int) -> None:
        """Wait until the reader has taken all but so many bytes, or is gone."""
        if self._pending >= amount:
            with self._lock:
                self._changed.wait_for(lambda: self._pending < amount or self._is_lost)

    def drain(self, seconds: float) -> bool:
        """Wait until the reader has everything; False if it took nothing for so long."""
        with self._lock:
            while self._pending and not self._is_lost:
                if not self._changed.wait(seconds):
                    return False
        return True

    def _write_ready(self, data: bytes) -> memoryview:
        """Write what the reader takes at once; returns the rest."""
        rest = memoryview(data)
        try:
            while rest and self._is_ready():
                rest = rest[self._write(rest[: self._capacity()]) :]
        except BlockingIOError:
            return rest
        except OSError as error:
            self._lose()
            raise BrokenPipeError from error
        return rest

    def _write_pending(self) -> None:
        while True:
            with self._lock:
                if not self._parts:
                    self._has_thread = False
                    return
                part = self._parts[0][:_PART_BYTES]
            try:
                count = self._write(part)
            except BlockingIOError:
                self._is_ready(None)
                continue
            except OSError:
                with self._lock:
                    self._lose()
                self._on_lost()
                return
            with self._lock:
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
        """Is it writable, or its reader gone, within so many seconds? False where the system does not tell."""
        return self._readiness is not None and bool(self._readiness.poll(seconds))
