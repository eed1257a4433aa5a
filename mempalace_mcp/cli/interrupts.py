"""Ctrl-C during a command that takes long."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Within the block the first Ctrl-C is noticed where the command asks for it, a second one at once.

    Python raises `KeyboardInterrupt` between any two steps, inside of locks too, which then nobody releases.
    """

    def __init__(self) -> None:
        self._noticed = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        if self._before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Return unless there was one.

        Raises:
            KeyboardInterrupt: there was.
        """
        if self._noticed:
            raise KeyboardInterrupt

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.check()
        self._noticed = True
