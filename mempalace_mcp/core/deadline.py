"""How long a call may take, who waits for it and how far it is, and by which key its repetition is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mempalace_mcp.core.errors import Cancelled, DeadlineExceeded
from mempalace_mcp.core.receipt import ReceiptKey

TOOL_SECONDS = 45.0
"""For a tool call, from its arrival: clients give up at 60."""

COMMAND_SECONDS = 60.0
"""For a command of the command line."""


Report = Callable[[float, float | None, str], None]


def _nobody(done: float, total: float | None, message: str) -> None:
    """Hears the reports that nobody has asked for."""


class Deadline:
    """One total deadline for all waiting of one call, shared by queues, locks and retries; also its cancellation.

    Thread-safe. Time is monotonic, in seconds. With a `receipt` every write of the call is done once, however often
    the call arrives; `writes` counts those that are settled, and so numbers their receipts. `report` hears how far a
    long call is: what is done, out of what if that is known, and what it is; what is done never becomes less.
    """

    def __init__(self, seconds: float = TOOL_SECONDS, *, receipt: ReceiptKey | None = None) -> None:
        self.seconds = seconds
        self.receipt = receipt
        self.report: Report = _nobody
        self.writes = 0
        self._end = time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """True once the caller gave up."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Note that nobody waits for the answer any more."""
        self._cancelled.set()

    def check(self, waiting_for: str) -> None:
        """Return if there is time left and somebody waits.

        Raises:
            Cancelled: the caller gave up.
            DeadlineExceeded: the time is over.
        """
        if self.cancelled:
            raise Cancelled("the call was cancelled before it began; nothing was written")
        if self.remaining <= 0:
            raise DeadlineExceeded(
                f"waited {self.seconds:.0f} s for {waiting_for}; nothing was written",
                hint="Try again. If it happens again, see whether the process that holds it is stopped or busy.",
            )
