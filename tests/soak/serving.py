"""A server process to be used hard."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.clients import PATIENCE, ROOT, end

LITTLE_HISTORY = {"PALACE_HISTORY_LIMIT": "20"}
"""Calls remembered for a session: few, so that they are soon as many as they will ever be."""


@contextmanager
def server(log: Path, *command: str | Path) -> Iterator[str]:
    """A server process that ends well with the block; the line that it prints when it is ready."""
    words = [sys.executable, "-m", *map(str, command)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, env={**os.environ, **LITTLE_HISTORY}
        )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        end(process)


def serve(palace: Path) -> tuple[str | Path, ...]:
    """The command of a daemon with HTTP transports and every tool, on a free port that it announces as JSON."""
    return ("mempalace_mcp", "serve", "--palace", palace, "--port", "0", "--json", "--tools", "full")
