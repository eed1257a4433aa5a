"""Imports: the drawers of files are added, changed and discarded as the files change.

A second run changes nothing. A changed or moved file updates its drawers. Drawers that a user deleted stay deleted.
The text of a transcript stays when its file is gone. Parts that are gone from a note are moved to the trash, and come
back with the part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core import clock, text
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.file_import import FileImport, FileWing, discard
from mempalace_mcp.palace.import_plans import DryRun
from mempalace_mcp.palace.import_report import ImportStep
from mempalace_mcp.palace.importers import (
    OUTSIDE,
    Document,
    FileState,
    FoundFile,
    Problem,
    Resume,
    SkippedFile,
    discover,
    format_place,
    is_within,
    read_place,
    read_real,
    real_path,
    state_of,
    wing_of_real,
)
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage import imports
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.imports import ImportedFile

BATCH = 16
"""Parts of a file stored at once: other writers wait for no more than that."""

QUIET_SECONDS = 300
"""A conversation that has not changed for so long counts as finished."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: into the requested `wing`, with what tools returned, after the end of a turn, and
    with secrets as they are."""

    wing: str | None
    include_tools: bool
    turn_ended: bool
    keep_secrets: bool


class ImportOperations:
    """Reads files and keeps the palace in step with them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def import_paths(
        self,
        paths: Sequence[Path],
        *,
        wing: str | None = None,
        dry_run: bool = False,
        include_tools: bool = False,
        turn_ended: bool = False,
        keep_secrets: bool = False,
        within: Sequence[Path] | None = None,
    ) -> Iterator[ImportStep]:
        """File what the paths hold, step by step; each step is stored before it is yielded, so stopping loses nothing.

        Imported text is embedded after what agents say. What was said in transcripts is filed once, whatever files hold
        it, and never removed. Parts that are gone from a note, and notes that are gone from a folder, go into the
        trash. The drawers of a file that was moved or renamed stay where they are and name its new path. With `within`
        nothing outside these folders is read, whatever links lead there. With `include_tools`, what tools returned in
        conversations is filed too. With `keep_secrets`, keys and passwords are not masked.

        The last exchange of a conversation that is going on waits for the next import: one whose file changed within
        `QUIET_SECONDS`, and of which nothing says that the assistant is done. `turn_ended` says so.
        """
        given = arguments.present(wing)
        chosen = text.read_name(given, "wing").shown if given else None
        reading = Reading(chosen, include_tools, turn_ended, keep_secrets)
        if within is not None:
            _verify_within(paths, within)
        with DryRun() if dry_run else nullcontext() as trial:
            for found in discover(paths, within):
                if isinstance(found, SkippedFile):
                    yield ImportStep(found.path, problems=(found,))
                else:
                    yield from self._import_file(found, reading, trial)
            for folder in paths:
                yield from self._remove_vanished(folder, trial)

    def _import_file(self, file: FoundFile, reading: Reading, trial: DryRun | None) -> Iterator[ImportStep]:
        path = str(file.path)
        state = state_of(file.path, reading.include_tools)
        before, resume = ImportStep(path), None
        with self._stores.reader.read() as connection:
            known = imports.find_file(connection, path)
            if known is not None and state is not None:
                saved = FileState.read(known.state)
                is_unchanged = saved.fingerprint == state
                if not is_unchanged and imports.drawers_of_file(connection, path) >= saved.drawers:
                    resume = read_place(file.path, saved.place, reading.include_tools)
                if is_unchanged or resume is not None:
                    before = _unchanged(connection, path, known, reading.wing)
                if is_unchanged:
                    yield before
                    return
        wing = FileWing(reading.wing, reading.wing or wing_of_real(file.path, file.root))
        importing = FileImport(self._stores, path, wing, trial, before)
        yield from self._read_file(file, reading, importing, state, resume)
        if resume is not None:
            yield importing.rest()

    def _read_file(
        self, file: FoundFile, reading: Reading, importing: FileImport, state: str | None, resume: Resume | None
    ) -> Iterator[ImportStep]:
        """Import a file, from a place in it on if one is given."""
        is_clean, is_complete, waiting = state is not None, True, 0
        is_going_on = not reading.turn_ended and _is_recent(file.path)
        entries = read_real(
            file.path,
            file.root,
            self._stores.calendar.zone,
            include_tools=reading.include_tools,
            keep_secrets=reading.keep_secrets,
            resume=resume,
        )
        for batch, is_last in _batches(entries):
            problems = [entry for entry in batch if not isinstance(entry, Document)]
            is_clean = is_clean and not problems
            is_complete = is_complete and not any(isinstance(problem, SkippedFile) for problem in problems)
            documents = [entry for entry in batch if isinstance(entry, Document)]
            resume = next((each.resume for each in reversed(documents) if each.resume is not None), resume)
            ready = [each for each in documents if not (is_going_on and _may_grow_now(each))]
            waiting += len(documents) - len(ready)
            is_final = is_last and is_clean
            if is_final:
                place = format_place(file.path, resume, reading.include_tools)
                importing.state = FileState("" if waiting or state is None else state, place)
            if ready:
                yield importing.file(ready, is_last=is_final)
            elif is_final:
                importing.remember()
            if problems:
                yield ImportStep(importing.path, problems=problems)
        if waiting:
            yield ImportStep(importing.path, waiting=waiting)
        if is_complete and (importing.parts or not importing.holders):  # all of a note may be private
            yield from importing.remove_gone()

    def _remove_vanished(self, given: Path, trial: DryRun | None) -> Iterator[ImportStep]:
        """Discard the notes that are gone from a folder. One that may only be out of reach stays, and is reported."""
        folder = real_path(given)
        if isinstance(folder, SkippedFile) or not os.path.isdir(folder):  # noqa: PTH112 (no error for a long name)
            return
        with self._stores.reader.read() as connection:
            notes = imports.notes_below(connection, f"{folder}{'' if folder == Path(folder.anchor) else os.sep}")
        for path, rows in notes.items():
            if os.path.lexists(path):
                continue
            with self._stores.reader.read() as connection:
                drawers = list(imports.imported_drawers(connection, rows).values())
            if trial is not None:
                drawers = [each for each in drawers if each.row not in trial.moved]
            if not _is_deleted(Path(path), folder):
                yield ImportStep(path, missing=len(drawers))
            else:
                yield from discard(self._stores, path, drawers, trial)


def _unchanged(connection: Connection, path: str, known: ImportedFile, chosen: str | None) -> ImportStep:
    """The report of a file that has not changed since it was read last."""
    discarded = min(known.drawers, imports.discarded_of_file(connection, path))
    places = imports.places_of_file(connection, path) if chosen else {}
    key = text.read_name(chosen, "wing").key if chosen else None
    elsewhere = {wing: count for wing, count in places.items() if text.read_name(wing, "wing").key != key}
    return ImportStep(path, unchanged=known.drawers - discarded, in_trash=discarded, elsewhere=elsewhere)


def _is_recent(path: Path) -> bool:
    """Did the file, or the log of the database that it is, change a moment ago?"""
    return any(map(_is_new, (_changed_at(path), _changed_at(path.with_name(f"{path.name}-wal")))))


def _changed_at(path: Path) -> Instant | None:
    try:
        return path.lstat().st_mtime_ns // 1000
    except OSError:
        return None


def _may_grow_now(document: Document) -> bool:
    """May the exchange go on, and was its last message a moment ago, or at an unknown time?"""
    time = document.pieces[-1].time if document.pieces else None
    return document.may_grow and (time is None or _is_new(time))


def _is_new(time: Instant | None) -> bool:
    # a time in the future comes from a wrong clock, and must not hold a conversation back until then
    return time is not None and abs(clock.now() - time) < QUIET_SECONDS * 1_000_000


def _is_deleted(path: Path, root: Path) -> bool:
    """Was the file deleted? An empty folder around it may be a disk that is not mounted, and proves nothing."""
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
    """Up to `BATCH` entries at a time, of conversations or of notes, each with whether it is the last batch."""
    batch: list[Document | Problem] = []
    is_conversation: bool | None = None
    for entry in entries:
        is_other = False
        if isinstance(entry, Document):
            is_other = is_conversation is not None and is_conversation != bool(entry.pieces)
            is_conversation = bool(entry.pieces)
        if batch and (is_other or len(batch) == BATCH):
            yield batch, False
            batch = []
        batch.append(entry)
    if batch:
        yield batch, True
