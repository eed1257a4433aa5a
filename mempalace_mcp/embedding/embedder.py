"""What turns texts into vectors, as the palace sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.model import ModelStamp


@dataclass(frozen=True, slots=True)
class EmbedderStatistics:
    """What an embedder has done since it was loaded. `batches` counts calls; `seconds` is the time spent in them.

    `cache_hits` and `cache_misses` count queries; `cache_size` of at most `cache_limit` query vectors are remembered.
    """

    texts: int
    batches: int
    seconds: float
    cache_hits: int
    cache_misses: int
    cache_size: int
    cache_limit: int


class Embedder(Protocol):
    """Turns texts into vectors of unit length, so that a dot product is a cosine. Thread-safe.

    Every method but `statistics` and `close` raises EmbedderUnavailable once the embedder is closed.
    """

    @property
    def stamp(self) -> ModelStamp:
        """Which model makes these vectors; only vectors of equal stamps can be compared."""
        ...

    def reads(self, text: str) -> bool:
        """Are at least half of the text's tokens known to the model? Unknown ones all look alike to it."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, in the order given. A text's vector does not depend on the other texts."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one text, read-only; those asked for lately are remembered."""
        ...

    def statistics(self) -> EmbedderStatistics:
        """What has been done since it was loaded."""
        ...

    def close(self) -> None:
        """Give the memory back once the calls under way have ended. May be called more than once."""
        ...
