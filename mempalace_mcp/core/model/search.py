"""Search: how it ranks, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mempalace_mcp.core.model.drawers import Drawer


class SearchMode(StrEnum):
    """Which side ranks: both, meaning alone, or words alone."""

    HYBRID = "hybrid"
    SEMANTIC = "semantic"
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class Hit:
    """One drawer found: its best passage, which begins at the character `start`, and why it ranks where it does.

    `semantic` is the cosine of the passage to the query, `lexical` its bm25 divided as the ranking formula says;
    None where that side did not take part.
    """

    drawer: Drawer
    passage: str
    start: int
    score: float
    semantic: float | None
    lexical: float | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found; `degraded` says in words which side is missing, `pending` counts chunks without vector."""

    hits: Sequence[Hit]
    mode: SearchMode
    degraded: str | None
    pending: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A live drawer that says the same or nearly the same. `kind` is `exact`, `normalized` or `similar`."""

    drawer: Drawer
    kind: str
    similarity: float


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What `check_duplicate` found, best first."""

    matches: Sequence[Duplicate]
    degraded: str | None
