"""A line on stderr that tells how far a long command is, how fast, and for how long still."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from mempalace_mcp.cli import show

BAR = 24
REDRAW_SECONDS = 0.1


class Progress:
    """Draws only on a terminal; otherwise it is silent."""

    def __init__(self, label: str, enabled: bool = True) -> None:
        self._label = label
        self._enabled = enabled and sys.stderr.isatty()
        self._started = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled and self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def show(self, done: int, total: int) -> None:
        """`done` of `total` pieces are finished."""
        now = time.monotonic()
        if not self._enabled or (now - self._drawn < REDRAW_SECONDS and done < total):
            return
        self._drawn = now
        sys.stderr.write(f"\r\033[K{self.line(done, total, now - self._started)}")
        sys.stderr.flush()

    def line(self, done: int, total: int, seconds: float) -> str:
        """Bar, count, rate and the estimated time left."""
        share = min(1.0, done / total) if total else 1.0
        filled = round(BAR * share)
        rate = done / seconds if seconds > 0 else 0.0
        left = f", {show.duration((total - done) / rate)} left" if rate > 0 and done < total else ""
        bar = "█" * filled + "░" * (BAR - filled)
        return f"{self._label} {bar} {done:,}/{total:,} · {rate:,.0f}/s{left}"
