"""A whole palace on a temporary directory: real SQLite, real index, the real model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.storage.sqlite.database import Database

MODEL_SECONDS = 30.0


@contextmanager
def opened(directory: Path, *, started: bool = True, **environment: str) -> Iterator[App]:
    """The running process of a palace; `started` also loads the model and waits for it."""
    with open_app(load_settings(environment, str(directory))) as app:
        if started:
            app.start()
            assert app.embedder.wait(MODEL_SECONDS), app.embedder.failure
        yield app


def at(directory: Path) -> Settings:
    """The settings for a palace in a directory, as a command has them."""
    return load_settings({}, str(directory))


def database_of(app: App) -> Database:
    """The database of a palace in a directory, with what SQLite alone can do."""
    assert isinstance(app.database, Database)
    return app.database


def seq_of(app: App) -> int:
    """The number of the last unit of work that changed something."""
    with app.database.read() as connection:
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])
