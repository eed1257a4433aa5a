"""What an import did, added up; bounded, however many files there were."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from mempalace_mcp.palace.importers import DATE_REASONS, SkippedFile, SkippedLines
from mempalace_mcp.palace.steps import COUNTS, ImportStep

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
        for field in COUNTS:
            self._counts[field] += getattr(step, field)
        self._elsewhere.update(step.elsewhere)
        read_from = step.filed + step.updated + step.moved + step.restored + step.unchanged + step.kept + step.in_trash
        if read_from and step.path != self._last_path:
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
            return  # the note was filed, and one example tells what is not understood
        if len(self._problems) < PROBLEMS_SHOWN:
            lines = list(problem.first) if isinstance(problem, SkippedLines) else None
            self._problems.append({"path": problem.path, "reason": problem.reason, "lines": lines})
