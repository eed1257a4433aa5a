"""Ctrl-C during a command that takes long."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

INTERRUPTED = 130
"""The exit code."""

_NOTICE = b"\nStopping after this step; Ctrl-C again stops at once.\n"


class Interrupts:
    """Within the block the first Ctrl-C is noticed where the command asks for it, and a second one ends the process.

    Python raises `KeyboardInterrupt` between any two steps, inside of locks too, which then nobody releases. The end of
    the process does no harm: what is committed is whole, and locks and Chroma's process go with it.
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
        if self._noticed:
            os._exit(INTERRUPTED)
        self._noticed = True
        os.write(2, _NOTICE)
