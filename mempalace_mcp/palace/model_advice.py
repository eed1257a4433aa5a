"""Advice on the model of a palace: its texts or the settings may speak for another one."""

from __future__ import annotations

from mempalace_mcp.core.config import MINILM, MULTILINGUAL
from mempalace_mcp.core.languages import mostly_foreign
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkLog
from mempalace_mcp.storage.model_moves import move_progress
from mempalace_mcp.storage.queries import newest_beginnings

OTHER_LANGUAGES = "most texts are not in English, the only language that the palace's model understands"
OTHER_SETTING = "PALACE_MODEL is multilingual, but the palace was made with minilm and keeps it until it is moved"
REMEDY = "Run `mempalace-mcp reindex --model multilingual`: it understands sixteen languages. Sessions go on meanwhile."

_TEXTS = 60
_CHARACTERS = 400


def model_advice(connection: Connection, setting: str) -> str | None:
    """The reason for another model and what to do, None if there is none."""
    reason = reason_to_move(connection, setting)
    return None if reason is None else f"{reason}. {REMEDY}"


def reason_to_move(connection: Connection, setting: str) -> str | None:
    """What speaks for another model: `PALACE_MODEL`, or the newest texts. None if nothing does, or it moves already."""
    if ChunkLog().model_stamp(connection) != MODELS[MINILM].stamp or move_progress(connection) is not None:
        return None
    if setting == MULTILINGUAL:
        return OTHER_SETTING
    return OTHER_LANGUAGES if mostly_foreign(newest_beginnings(connection, _TEXTS, _CHARACTERS)) else None
