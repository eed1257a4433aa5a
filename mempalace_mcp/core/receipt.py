"""The key under which a write leaves proof that it was done, so that its repetition is answered and not done again."""

from __future__ import annotations

from dataclasses import dataclass, replace

IDEMPOTENCY_KEY = "_meta.idempotencyKey"
"""How a caller gives a key of its own, as errors name it."""


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """Who asks (`scope`), which of its calls this is (`key`), and what it asks for (`digest` of the whole request).

    A call that has the same scope and key as an earlier one is its repetition, and must have the same digest.
    """

    scope: str
    key: str
    digest: bytes

    def of_write(self, number: int) -> ReceiptKey:
        """The key of one of the call's writes, counted from 0."""
        return replace(self, key=f"{self.key}/{number}")
