"""One thing that is wrong, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.runtime.reasons import Reason

Repair = Callable[[], str]
"""Mends it without any danger to what is stored, and says what was done. May raise PalaceError or OSError."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A code from a closed set, a sentence, what a person can do, and the repair if there is a safe one."""

    code: str
    message: str
    remedy: str
    repair: Repair | None = None

    @classmethod
    def of(cls, reason: Reason, message: str, repair: Repair | None = None) -> Finding:
        """What a process that serves would call by the same name."""
        return cls(reason.code, message, reason.remedy, repair)


@dataclass(frozen=True, slots=True)
class Patient:
    """The palace that is examined, what its daemon tells of itself, or why that does not answer."""

    settings: Settings
    daemon: Mapping[str, Any] | None
    silence: PalaceError | None

    @property
    def directory(self) -> Path:
        """Where the palace is."""
        return self.settings.palace

    @property
    def is_served(self) -> bool:
        """Is there a daemon, whether it answers or not?"""
        return self.daemon is not None or self.silence is not None


Examination = Callable[[Patient], Iterator[Finding]]
"""Looks at one part of the palace. What another part makes impossible to see is not found twice."""
