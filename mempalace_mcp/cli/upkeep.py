"""`reindex` and `backup`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from mempalace_mcp.cli import show
from mempalace_mcp.cli.interrupts import Interrupts
from mempalace_mcp.cli.progress import Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import Busy
from mempalace_mcp.runtime.app import open_app
from mempalace_mcp.storage.vectors.model import Difference, VectorStatistics
from mempalace_mcp.storage.vectors.record import discard_files


def reindex(settings: Settings, vectors: bool, as_json: bool) -> str:
    """Rebuild the derived index; with `vectors` embed every text anew first."""
    faults, statistics = rebuild(settings, vectors, show_progress=not as_json)
    if as_json:
        told = {"faults": [dataclasses.asdict(fault) for fault in faults], "index": dataclasses.asdict(statistics)}
        return json.dumps(told, ensure_ascii=False)
    verdict = "equals the truth" if not faults else "differs: " + "; ".join(map(str, faults))
    return f"The index has been rebuilt ({statistics.chroma_rows:,} vectors in Chroma) and {verdict}."


def rebuild(
    settings: Settings, vectors: bool = False, *, show_progress: bool = False
) -> tuple[Sequence[Difference], VectorStatistics]:
    """Embed what is pending, and build the indexes of words and vectors anew; where the latter differs from the truth
    afterwards, and its figures.

    Raises:
        Busy: another process holds the index.
        PalaceError: the palace cannot be opened.
    """
    with Interrupts() as interrupts, open_app(settings) as app:
        if not app.index.rebuild():
            raise Busy(
                "another process holds the Chroma index, so it cannot be rebuilt from here",
                hint="Stop that process with `mempalace-mcp daemon stop`, or leave it: its index follows the palace by "
                "itself.",
            )
        if settings.index != "exact":  # then nobody holds the lock on the files
            with contextlib.suppress(OSError):  # what stays is not trusted, and removed when Chroma is next opened
                discard_files(settings.palace / "index")
        app.stores.writer.write(app.stores.lexicon.rebuild, Deadline(COMMAND_SECONDS))
        if vectors:
            app.vectorizing.forget_vectors(Deadline(COMMAND_SECONDS))
        app.embedder.start()
        app.indexer.start()
        with Progress("indexing", enabled=show_progress) as progress:
            app.wait_until_indexed(progress.show, interrupts.check)
        with app.database.read() as connection:
            faults = app.index.verify(connection)
        return faults, app.index.statistics()


def backup(settings: Settings, destination: Path, as_json: bool) -> str:
    """Copy the palace online and verify the copy."""
    with open_app(settings) as app:
        report = app.database.backup(destination)
    if as_json:
        return json.dumps(dataclasses.asdict(report), default=str)
    return f"backed up to {report.path}: {show.size(report.bytes)}, verified. Restore: see docs/operations.md."
