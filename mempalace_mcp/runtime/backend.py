"""What keeps a palace and finds in it: SQLite and Chroma in a directory, or PostgreSQL on a server."""

from __future__ import annotations

from dataclasses import dataclass

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.runtime.databases import open_database
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.turns import LockedTurns, Turns
from mempalace_mcp.storage.vectors.protocol import PalaceVectors
from mempalace_mcp.storage.word_table import WordTable


@dataclass(frozen=True, slots=True)
class Backend:
    """The database, the table of words in it, the index of vectors, and the division of work between processes."""

    database: PalaceDatabase
    words: WordTable
    index: PalaceVectors
    turns: Turns


def open_backend(settings: Settings) -> Backend:
    """Open the palace, and make it if it is not there. Nothing is imported for the kind that it is not.

    Raises:
        PalaceError: as `open_database`.
    """
    if settings.url is None:
        from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
        from mempalace_mcp.storage.vectors.index import VectorIndex

        index = VectorIndex(settings.palace, mode=settings.index, stat_cooldown=settings.stat_cooldown)
        turns = LockedTurns(FileLock(settings.palace / "embed.lock"))
        return Backend(open_database(settings), FullTextTable(), index, turns)
    database = open_database(settings)
    from mempalace_mcp.storage.postgres.turns import LeasedTurns
    from mempalace_mcp.storage.postgres.vectors import PostgresVectors
    from mempalace_mcp.storage.postgres.words import PostgresWords

    vectors = PostgresVectors(settings.url, indexed=settings.index != "exact")
    return Backend(database, PostgresWords(settings.zone), vectors, LeasedTurns(settings.url))
