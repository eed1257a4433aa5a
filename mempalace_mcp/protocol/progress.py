"""How far a long call is, told to a client that asked for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

PERIOD_SECONDS = 0.5
"""From one report to the next; what a tool says in between is replaced by what it says last."""

LONG_SECONDS = 1.0
"""After that a tool that says nothing is reported to be at work."""

Send = Callable[[float, float | None, str | None], Awaitable[None]]
"""Tells the client the progress, the total if it is known, and what that means."""


class Progress:
    """What one call has reported. `note` is called from its thread, `tell` runs beside it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._latest: tuple[float, float | None, str] | None = None

    def note(self, done: float, total: float | None, message: str) -> None:
        """The call has come that far."""
        self._latest = done, total, message

    async def tell(self, send: Send) -> None:
        """Tell every news, for ever; never less than before."""
        told = -1.0
        while True:
            await anyio.sleep(PERIOD_SECONDS)
            done, total, message = self._latest or self._at_work()
            if done > told and (self._latest or done >= LONG_SECONDS):
                await send(done, total, message)
                told = done

    def _at_work(self) -> tuple[float, None, str]:
        seconds = round(time.monotonic() - self._began, 1)
        return seconds, None, f"at work for {seconds:.0f} s"
