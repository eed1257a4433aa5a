"""How facts lie in their table: reading versions of them, and the conditions under which a version counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Fact

COLUMNS = """
    facts.fact_id, subjects.name, predicates.name, facts.object, facts.valid_from, facts.valid_to,
    facts.recorded_at, facts.retracted_at, facts.confidence, facts.source_drawer_id
"""
SOURCE = """
    facts
    JOIN entities AS subjects ON subjects.id = facts.subject
    JOIN predicates ON predicates.id = facts.predicate
"""


def read_fact(row: tuple[Any, ...]) -> Fact:
    """The fact of a row that begins with `COLUMNS`."""
    return Fact(*row[:10])


@dataclass(frozen=True, slots=True)
class View:
    """Which versions of facts a question sees: believed at `known_at` (None: now), true at `as_of` (None: any time)."""

    as_of: Instant | None = None
    known_at: Instant | None = None

    @property
    def condition(self) -> str:
        """In SQL, on the columns of `facts` and the named `parameters`."""
        believed = "retracted_at IS NULL"
        if self.known_at is not None:
            believed = "recorded_at <= :known_at AND (retracted_at IS NULL OR retracted_at > :known_at)"
        holds = "" if self.as_of is None else " AND since <= :as_of AND until > :as_of"
        return believed + holds

    @property
    def parameters(self) -> dict[str, Instant | None]:
        """The values that `condition` names."""
        return {"as_of": self.as_of, "known_at": self.known_at}
