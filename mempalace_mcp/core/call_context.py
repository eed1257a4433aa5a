"""What travels with a call: the rights of its caller, its deadline, and the key under which it happens once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from mempalace_mcp.core.errors import Cancelled, DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Principal:
    """`name` is that of the caller's token; it is empty where the transport itself is the protection.

    Without `writes` nothing may be changed. `wings`, by key and sorted, are the only ones it may see or change, and
    what belongs to no wing, such as facts, is then out of reach; None means everything.
    """

    name: str = ""
    writes: bool = True
    wings: tuple[str, ...] | None = None

    @property
    def is_full(self) -> bool:
        """True when nothing is withheld."""
        return self.writes and self.wings is None


FULL = Principal()
"""Of this user's own sessions, and of everybody where no tokens are asked for."""

IDEMPOTENCY_KEY = "_meta.idempotencyKey"
"""How a caller gives a key of its own, as errors name it."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Who asks (`scope`), which of its calls this is (`key`), and what it asks for (`digest` of the whole request).

    A call that has the same scope and key as an earlier one is its repetition, and must have the same digest.
    """

    scope: str
    key: str
    digest: bytes

    def of_write(self, number: int) -> IdempotencyKey:
        """The key of one of the call's writes, counted from 0."""
        return replace(self, key=f"{self.key}/{number}")


TOOL_SECONDS = 45.0
"""For a tool call, from its arrival: clients give up at 60."""

COMMAND_SECONDS = 60.0
"""For a command of the command line."""


Report = Callable[[float, float | None, str], None]


def _nobody(done: float, total: float | None, message: str) -> None:
    """Hears the reports that nobody has asked for."""


class Deadline:
    """One total deadline for all waiting of one call, shared by queues, locks and retries; also its cancellation.

    Thread-safe. Time is monotonic, in seconds. With an `idempotency_key` every write of the call is done once, however
    often the call arrives; `writes` counts those that are settled, and so numbers their receipts. `report` hears how
    far a long call is: what is done, out of what if that is known, and what it is; what is done never becomes less.
    """

    def __init__(self, seconds: float = TOOL_SECONDS, *, idempotency_key: IdempotencyKey | None = None) -> None:
        self.seconds = seconds
        self.idempotency_key = idempotency_key
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
