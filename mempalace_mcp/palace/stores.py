"""The stores and services that the operations of a palace share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mempalace_mcp.core.clock import Calendar, Instant
from mempalace_mcp.core.limits import ConcurrencyLimiter
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.palace.ranking import DEFAULT, Weights
from mempalace_mcp.storage.connection import Reader
from mempalace_mcp.storage.diary import DiaryStore
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.transactions import Writer
from mempalace_mcp.storage.vectors.protocol import PalaceVectors


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores, injected by `runtime.app`. `filed` is called after text was filed that is not embedded yet.

    `search_limiter` bounds concurrent searches. `calendar` reads the dates that callers write. `within` limits searches
    to some wings, by key. `weights` rank their hits.
    """

    reader: Reader
    writer: Writer
    drawers: DrawerStore
    diary: DiaryStore
    lexicon: Lexicon
    graph: GraphStore
    index: PalaceVectors
    embedder: BackgroundEmbedder
    now: Callable[[], Instant]
    filed: Callable[[], None]
    search_limiter: ConcurrencyLimiter
    calendar: Calendar
    within: tuple[str, ...] | None = None
    weights: Weights = DEFAULT
