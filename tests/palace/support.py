"""A whole palace on a temporary directory: real SQLite, real index, the real model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.storage.sqlite.database import Database
from tests.postgres_server import text_of
from tests.storage.support import POSTGRES

MODEL_SECONDS = 30.0


@contextmanager
def opened(directory: Path, *, started: bool = True, **environment: str) -> Iterator[App]:
    """The running process of a palace; `started` also loads the model and waits for it."""
    with open_app(at(directory, **environment)) as app:
        if started:
            app.start()
            assert app.embedder.wait(MODEL_SECONDS), app.embedder.failure
        yield app


def at(directory: Path, **environment: str) -> Settings:
    """The settings for a palace in a directory, or for the one on a server that stands for it (`each_store`)."""
    palaces = POSTGRES.get()
    if palaces is None:
        return load_settings(environment, str(directory))
    settings = load_settings({**environment, "PALACE_URL": text_of(palaces.at(directory))})
    return replace(settings, palace=directory)


def environment_of(directory: Path) -> dict[str, str]:
    """What a program's environment says of that palace."""
    palaces = POSTGRES.get()
    if palaces is None:
        return {"PALACE_PATH": str(directory)}
    return {"PALACE_URL": text_of(palaces.at(directory)), "HOME": str(directory)}


def database_of(app: App) -> Database:
    """The database of a palace in a directory, with what SQLite alone can do."""
    assert isinstance(app.database, Database)
    return app.database


def seq_of(app: App) -> int:
    """The number of the last unit of work that changed something."""
    with app.database.read() as connection:
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])
