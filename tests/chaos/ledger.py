"""What the palace has acknowledged, and must therefore hold: no more and no less."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DrawerState:
    """A drawer as its last acknowledgement left it."""

    content: str
    version: int = 1
    live: bool = True


@dataclass(slots=True)
class Ledger:
    """Written by all agents, each for things of its own; `guard` is for what they share.

    `facts` has the objects of a subject in their order, the last one being current or not. `settled` are drawers, and
    `known` subjects, that nobody changes any more. `perhaps` are texts that were sent and never answered, for the
    session was killed: they are there once or not at all.
    """

    drawers: dict[str, DrawerState] = field(default_factory=dict)
    facts: dict[str, tuple[list[str], bool]] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    perhaps: set[str] = field(default_factory=set)
    acknowledged: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def file(self, drawer_id: str, state: DrawerState) -> None:
        """A write of a drawer was acknowledged."""
        with self.guard:
            self.drawers[drawer_id] = state
            self.acknowledged += 1

    def believe(self, subject: str, objects: list[str], *, current: bool) -> None:
        """A write of a fact was acknowledged."""
        with self.guard:
            self.facts[subject] = (list(objects), current)
            self.acknowledged += 1
