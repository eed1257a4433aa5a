"""What keeps a palace and finds in it: SQLite and Chroma in a directory, or PostgreSQL on a server."""

from __future__ import annotations

from dataclasses import dataclass

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import URL_VARIABLE
from mempalace_mcp.runtime.databases import open_database
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.vectors.protocol import PalaceVectors
from mempalace_mcp.storage.word_table import WordTable


@dataclass(frozen=True, slots=True)
class Backend:
    """The database, the table of words in it, and the index of vectors."""

    database: PalaceDatabase
    words: WordTable
    index: PalaceVectors


def open_backend(settings: Settings) -> Backend:
    """Open the palace, and make it if it is not there. Nothing is imported for the kind that it is not.

    Raises:
        PalaceError: as `open_database`.
    """
    if settings.url is None:
        from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
        from mempalace_mcp.storage.vectors.index import VectorIndex

        index = VectorIndex(settings.palace, mode=settings.index, stat_cooldown=settings.stat_cooldown)
        return Backend(open_database(settings), FullTextTable(), index)
    raise ConfigurationError(f"{settings.url} can hold a palace, and nothing searches in it yet", argument=URL_VARIABLE)
