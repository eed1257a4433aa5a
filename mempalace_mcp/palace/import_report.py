"""Reports of imports: one step for each file, or part of a large one, and their sum."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mempalace_mcp.palace.importers import (
    DATE_REASONS,
    Problem,
    SkippedFile,
    SkippedLines,
)

COUNTS = (
    "filed",
    "updated",
    "moved",
    "restored",
    "unchanged",
    "kept",
    "folded",
    "removed",
    "missing",
    "in_trash",
    "waiting",
    "characters",
    "masked",
)
"""The counts of a step, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class ImportStep:
    """The numbers of drawers of a file by what was done with them, and the problems in the file.

    `kept`: a user edited the drawer, and the file has changed. `folded`: copies that an earlier version filed; they are
    in the trash. `missing`: the file of a note is not there, but nothing shows that it was deleted. `waiting`: the last
    exchange of a conversation that goes on; a later import files it. `masked`: secrets. `elsewhere`: drawers in another
    wing than the requested one, by wing.
    """

    path: str
    filed: int = 0
    updated: int = 0
    moved: int = 0
    restored: int = 0
    unchanged: int = 0
    kept: int = 0
    folded: int = 0
    removed: int = 0
    missing: int = 0
    in_trash: int = 0
    waiting: int = 0
    characters: int = 0
    masked: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


PROBLEMS_SHOWN = 20
REASONS_COUNTED = 50
WINGS_SHOWN = 20


class ImportSummary:
    """Adds up the steps of one import as they come."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._elsewhere: Counter[str] = Counter()
        self._problems: list[dict[str, Any]] = []
        self._last_path = ""
        self.steps = 0

    def add(self, step: ImportStep) -> None:
        """Count one step."""
        self.steps += 1
        for name in COUNTS:
            self._counts[name] += getattr(step, name)
        self._elsewhere.update(step.elsewhere)
        done = (step.filed, step.updated, step.moved, step.restored, step.unchanged, step.kept, step.in_trash)
        if (any(done) or step.waiting) and step.path != self._last_path:
            self._counts["files"] += 1
            self._last_path = step.path
        for problem in step.problems:
            self._note(problem)

    @property
    def filed(self) -> int:
        """New drawers so far."""
        return self._counts["filed"]

    def as_dict(self, *, complete: bool) -> dict[str, Any]:
        """The counts, the reasons with theirs, and the first problems; `complete` is False for an import cut short."""
        return {
            **{field: self._counts[field] for field in ("files", *COUNTS)},
            "elsewhere": dict(self._elsewhere.most_common(WINGS_SHOWN)),
            "skipped": dict(self._reasons.most_common(REASONS_COUNTED)),
            "problems": list(self._problems),
            "seconds": round(time.monotonic() - self._started, 3),
            "complete": complete,
        }

    def _note(self, problem: SkippedFile | SkippedLines) -> None:
        count = problem.count if isinstance(problem, SkippedLines) else 1
        reason = problem.reason
        if reason not in self._reasons and len(self._reasons) >= REASONS_COUNTED:
            reason = "other reasons"
        self._reasons[reason] += count
        if reason in DATE_REASONS and self._reasons[reason] > count:
            return  # the note was filed, and one example is enough
        if len(self._problems) < PROBLEMS_SHOWN:
            lines = list(problem.first) if isinstance(problem, SkippedLines) else None
            self._problems.append({"path": problem.path, "reason": problem.reason, "lines": lines})
