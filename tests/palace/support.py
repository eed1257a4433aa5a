"""A whole palace on a temporary directory: real SQLite, real index, the real model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.runtime.app import App, open_app

MODEL_SECONDS = 30.0


@contextmanager
def opened(directory: Path, *, started: bool = True, **environment: str) -> Iterator[App]:
    """The running process of a palace; `started` also loads the model and waits for it."""
    with open_app(load_settings(environment, str(directory))) as app:
        if started:
            app.start()
            assert app.embedder.wait(MODEL_SECONDS), app.embedder.failure
        yield app


def seq_of(app: App) -> int:
    """The number of the last unit of work that changed something."""
    with app.database.read() as connection:
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])
