"""The files of the model that is part of this package, verified before use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import EmbedderBroken
from mempalace_mcp.core.model import ModelStamp

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
STAMP = "stamp.json"

BUNDLED = Path(__file__).with_name("minilm")
"""The directory of the model inside this package."""

_HINT = "Install mempalace-mcp again; search by words works meanwhile."


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A model whose files have been verified: what it is, its graph and its tokenizer."""

    stamp: ModelStamp
    graph: Path
    tokenizer: Path


def verify_bundle(directory: Path) -> ModelBundle:
    """Compare every file of the model with the checksum in its stamp.

    Raises:
        EmbedderBroken: a file is missing, unreadable or damaged.
    """
    try:
        stamp = json.loads((directory / STAMP).read_bytes())
        return ModelBundle(
            stamp=ModelStamp(str(stamp["name"]), str(stamp["quantization"]), int(stamp["dimension"])),
            graph=_verified(directory / GRAPH, stamp),
            tokenizer=_verified(directory / TOKENIZER, stamp),
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EmbedderBroken(f"the embedding model cannot be read: {error.filename}: {reason}", hint=_HINT) from error
    except (ValueError, TypeError, KeyError) as error:
        raise EmbedderBroken(f"{STAMP} of the embedding model is damaged: {error!r}", hint=_HINT) from error


def _verified(path: Path, stamp: dict[str, Any]) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != stamp["sha256"][path.name]:
        raise EmbedderBroken(f"{path.name} of the embedding model is damaged: its checksum is wrong", hint=_HINT)
    return path
