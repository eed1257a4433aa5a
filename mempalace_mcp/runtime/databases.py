"""The database of a palace: SQLite in its directory, or PostgreSQL on a server. The other one is not imported."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.files import is_file
from mempalace_mcp.storage.sqlite import DATABASE_FILE

if TYPE_CHECKING:
    from mempalace_mcp.storage.copying import Origin, PalaceCopy, Snapshot
    from mempalace_mcp.storage.database import PalaceDatabase

READERS = 8


def open_database(settings: Settings, readers: int = READERS) -> PalaceDatabase:
    """Open the palace's database, and make it if it is not there.

    Raises:
        ConfigurationError: what speaks with PostgreSQL is not installed, or the address is wrong.
        PalaceError: it cannot be opened.
    """
    if settings.url is None:
        from mempalace_mcp.storage.sqlite.database import Database

        return Database(settings.palace, readers=readers)
    from mempalace_mcp.storage.postgres.driver import verify_driver

    verify_driver(settings.url)
    from mempalace_mcp.storage.postgres.database import PostgresDatabase

    return PostgresDatabase(settings.url, settings.palace, readers=readers)


def is_there(settings: Settings) -> bool:
    """Is there a palace? It is not made in order to look.

    Raises:
        ConfigurationError: as `open_database`.
        PalaceError: directory or server cannot be reached.
    """
    if settings.url is None:
        return is_file(settings.palace / DATABASE_FILE)
    from mempalace_mcp.storage.postgres.driver import verify_driver

    verify_driver(settings.url)
    from mempalace_mcp.storage.postgres import inspection

    return inspection.is_there(settings.url)


def open_source(settings: Settings) -> AbstractContextManager[Snapshot]:
    """The palace as it is now.

    Raises:
        ConfigurationError: what speaks with PostgreSQL is not installed, or the address is wrong.
        PalaceError: it cannot be read.
    """
    if settings.url is None:
        from mempalace_mcp.storage.sqlite import copying as sqlite

        return sqlite.read_palace(settings.palace)
    from mempalace_mcp.storage.postgres.driver import verify_driver

    verify_driver(settings.url)
    from mempalace_mcp.storage.postgres import copying as postgres

    return postgres.read_palace(settings.url)


def open_target(settings: Settings, origin: Origin) -> AbstractContextManager[PalaceCopy]:
    """The copy of a palace, new or unfinished.

    Raises:
        ConfigurationError: as `open_source`.
        PalaceError: it cannot be written, or something else is there.
    """
    if settings.url is None:
        from mempalace_mcp.storage.sqlite import copying as sqlite

        return sqlite.write_copy(settings.palace, origin)
    from mempalace_mcp.storage.postgres.driver import verify_driver

    verify_driver(settings.url)
    from mempalace_mcp.storage.postgres import copying as postgres

    return postgres.write_copy(settings.url, origin, settings.zone)
