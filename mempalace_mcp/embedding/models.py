"""The bundled models by the names that people give them, and by the stamps that palaces bear."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.config import MINILM, MULTILINGUAL
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding import encoder
from mempalace_mcp.embedding.encoder import SentenceEncoder


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model of this package: its name, its directory, and the stamp of its vectors."""

    name: str
    directory: Path
    stamp: ModelStamp

    def load(self) -> SentenceEncoder:
        """Verify and load it.

        Raises:
            EmbedderBroken: a file of the model is missing or damaged.
        """
        return SentenceEncoder.load(self.directory)


MODELS = {
    each.name: each
    for each in (
        BundledModel(MINILM, encoder.BUNDLED, ModelStamp("all-MiniLM-L6-v2", "dynamic-int8", 384)),
        BundledModel(
            MULTILINGUAL,
            encoder.MULTILINGUAL,
            ModelStamp("universal-sentence-encoder-multilingual-3", "uint8-tokens", 512),
        ),
    )
}


def model_of(stamp: ModelStamp | None) -> BundledModel | None:
    """The bundled model with this stamp, None if there is none."""
    return next((model for model in MODELS.values() if model.stamp == stamp), None)
