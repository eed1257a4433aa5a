"""Filing what files say: a second run adds nothing, a changed or moved file updates, what was deleted stays so.

What was said in a transcript stays, whatever becomes of the file. What goes out of a note, or with it, goes into the
trash, and comes back from there when it comes back.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from mempalace_mcp.core import text
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.file_import import FileImport, discard
from mempalace_mcp.palace.importers import (
    OUTSIDE,
    Document,
    FoundFile,
    Problem,
    SkippedFile,
    discover,
    is_within,
    read_real,
    real_path,
    state_of,
    wing_of_real,
)
from mempalace_mcp.palace.steps import ImportStep
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.trial import Trial
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.sources import ImportedFile

__all__ = ["BATCH", "ImportStep", "Importing"]

BATCH = 16
"""Parts of a file stored at once: other writers wait for no more than that."""


class Importing:
    """Reads files and keeps the palace in step with them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def import_paths(
        self,
        paths: Sequence[Path],
        *,
        wing: str | None = None,
        dry_run: bool = False,
        within: Sequence[Path] | None = None,
    ) -> Iterator[ImportStep]:
        """File what the paths hold, step by step; each step is stored before it is yielded, so stopping loses nothing.

        Imported text is embedded after what agents say. What was said in transcripts is filed once, whatever files hold
        it, and never removed. Parts that are gone from a note, and notes that are gone from a folder, go into the
        trash. The drawers of a file that was moved or renamed stay where they are and name its new path. With `within`
        nothing outside these folders is read, whatever links lead there.
        """
        given = arguments.present(wing)
        chosen = text.read_name(given, "wing").shown if given else None
        if within is not None:
            _verify_within(paths, within)
        with Trial() if dry_run else nullcontext() as trial:
            for found in discover(paths, within):
                if isinstance(found, SkippedFile):
                    yield ImportStep(found.path, problems=(found,))
                else:
                    yield from self._import_file(found, chosen, trial)
            for folder in paths:
                yield from self._remove_vanished(folder, trial)

    def _import_file(self, file: FoundFile, chosen: str | None, trial: Trial | None) -> Iterator[ImportStep]:
        path = str(file.path)
        state = state_of(file.path)
        with self._stores.reader.read() as connection:
            known = sources.find_file(connection, path)
            if known is not None and state is not None and known.state == state:
                unchanged = _unchanged(connection, path, known, chosen)
            else:
                unchanged = None
        if unchanged is not None:
            yield unchanged
            return
        wing = chosen or wing_of_real(file.path, file.root)
        importing = FileImport(self._stores, path, wing, chosen is not None, state or "", trial)
        is_clean, is_complete = state is not None, True
        for entries, is_last in _batches(read_real(file.path, file.root, self._stores.calendar.zone)):
            documents = [entry for entry in entries if isinstance(entry, Document)]
            problems = [entry for entry in entries if not isinstance(entry, Document)]
            is_clean = is_clean and not problems
            is_complete = is_complete and not any(isinstance(problem, SkippedFile) for problem in problems)
            if documents:
                yield importing.file(documents, is_last=is_last and is_clean)
            if problems:
                yield ImportStep(path, problems=problems)
        if is_complete and importing.parts:
            yield from importing.remove_gone()

    def _remove_vanished(self, given: Path, trial: Trial | None) -> Iterator[ImportStep]:
        """Discard the notes that are gone from a folder. One that may only be out of reach stays, and is told of."""
        folder = real_path(given)
        if isinstance(folder, SkippedFile) or not folder.is_dir():
            return
        with self._stores.reader.read() as connection:
            notes = sources.notes_below(connection, f"{folder}{'' if folder == Path(folder.anchor) else os.sep}")
        for path, rows in notes.items():
            if os.path.lexists(path):
                continue
            with self._stores.reader.read() as connection:
                drawers = list(sources.imported_drawers(connection, rows).values())
            if trial is not None:
                drawers = [each for each in drawers if each.row not in trial.moved]
            if not _is_deleted(Path(path), folder):
                yield ImportStep(path, missing=len(drawers))
            else:
                yield from discard(self._stores, path, drawers, trial)


def _unchanged(connection: sqlite3.Connection, path: str, known: ImportedFile, chosen: str | None) -> ImportStep:
    """What there is to tell of a file that is as it was when it was read last."""
    discarded = min(known.drawers, sources.discarded_of_file(connection, path))
    places = sources.places_of_file(connection, path) if chosen else {}
    key = text.read_name(chosen, "wing").key if chosen else None
    elsewhere = {wing: count for wing, count in places.items() if text.read_name(wing, "wing").key != key}
    return ImportStep(path, unchanged=known.drawers - discarded, in_trash=discarded, elsewhere=elsewhere)


def _is_deleted(path: Path, root: Path) -> bool:
    """Was the file deleted, as far as the folder around it tells? An empty one may be a disk that is not mounted."""
    inner, folder = path, path.parent
    while not os.path.lexists(folder) and folder != root:
        inner, folder = folder, folder.parent
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError:
        return False
    return bool(names) and inner.name not in names


def _verify_within(paths: Sequence[Path], within: Sequence[Path]) -> None:
    for position, path in enumerate(paths):
        if isinstance(real := real_path(path), Path) and not is_within(real, within):
            folders = f"are {', '.join(map(str, within))}" if within else "have not been named yet"
            raise InvalidArgument(
                f"paths[{position}] is {OUTSIDE}",
                argument=f"paths[{position}]",
                hint=f"These {folders}: whoever runs the server says so in PALACE_IMPORT_ROOTS, or imports the files "
                "with `mempalace-mcp import PATH...`.",
            )


def _batches(entries: Iterable[Document | Problem]) -> Iterator[tuple[list[Document | Problem], bool]]:
    """A few entries at a time, and whether they are the last."""
    iterator = iter(entries)
    batch = list(islice(iterator, BATCH))
    while batch:
        following = list(islice(iterator, BATCH))
        yield batch, not following
        batch = following
