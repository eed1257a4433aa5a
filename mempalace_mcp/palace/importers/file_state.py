"""The state of a file: by it an unchanged one is recognized, and one that has only grown is read on."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mempalace_mcp.palace.importers.documents import Resume
from mempalace_mcp.palace.importers.files import DATABASE_MAGIC, open_regular_file

READERS = 3
"""To be raised when the readers find more in the same files: then all of them are read anew."""

_STATE_HEAD, _TAIL = 1_024, 8_192
_DIGEST_BYTES = 16
_BAR = "|"
_BEFORE = 4_096
"""Bytes before a place by which it is known again."""


def state_of(path: Path, include_tools: bool = False) -> str | None:
    """Size, time of the last change, and a digest of the beginning and the end; None if the file cannot be read.

    Programs append to their files or write them anew, so that either the size or the end is another one. Of a database
    the size and time of its log count too. A file that was read without what tools returned is another one with it.
    """
    try:
        descriptor = open_regular_file(path)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            head = file.read(_STATE_HEAD)
            digest = blake2b(head, digest_size=_DIGEST_BYTES)
            file.seek(max(0, status.st_size - _TAIL))
            digest.update(file.read(_TAIL))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    log = _log_state(path) if head.startswith(DATABASE_MAGIC) else ""
    tools = ":tools" if include_tools else ""
    return f"{READERS}:{status.st_size}:{status.st_mtime_ns}:{digest.hexdigest()}{log}{tools}"


def _log_state(path: Path) -> str:
    """The size and time of the log beside an SQLite database, which holds its latest changes."""
    try:
        status = os.lstat(f"{path}-wal")
    except OSError:
        return ""
    return f":{status.st_size}:{status.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class FileState:
    """What is remembered of a file: its fingerprint, empty if it is to count as changed, and a place in it.

    `drawers` is how many drawers an import filed from it; are there fewer, something is gone, and all of it is read.
    """

    fingerprint: str
    place: str = ""
    drawers: int = 0

    def __str__(self) -> str:
        return _BAR.join((self.fingerprint, str(self.drawers), self.place)) if self.place else self.fingerprint

    @classmethod
    def read(cls, state: str | None) -> FileState:
        """The state of this text; the empty one if there is none."""
        fingerprint, _, rest = (state or "").partition(_BAR)
        drawers, _, place = rest.partition(_BAR)
        return cls(fingerprint, place, int(drawers or 0))


def format_place(path: Path, resume: Resume | None, include_tools: bool) -> str:
    """A place in a file, to be remembered; empty if there is none."""
    digest = None if resume is None else _digest_before(path, resume.offset)
    if resume is None or digest is None:
        return ""
    return f"{_readers(include_tools)}:{resume.offset}:{resume.line}:{digest}:{resume.memo}"


def read_place(path: Path, place: str, include_tools: bool) -> Resume | None:
    """The place from which the file may be read on; None unless what stands before it is as it was."""
    match place.split(":", 4):
        case [readers, offset, line, digest, memo] if readers == _readers(include_tools):
            resume = Resume(int(offset), int(line), memo)
            return resume if _digest_before(path, resume.offset) == digest else None
        case _:
            return None


def _readers(include_tools: bool) -> str:
    return f"{READERS}+tools" if include_tools else str(READERS)


def _digest_before(path: Path, offset: int) -> str | None:
    """A digest of the beginning of a file and of what stands before a place; None if the file does not reach there."""
    try:
        with os.fdopen(open_regular_file(path), "rb") as file:
            digest = blake2b(file.read(min(_STATE_HEAD, offset)), digest_size=_DIGEST_BYTES)
            file.seek(max(0, offset - _BEFORE))
            before = file.read(min(_BEFORE, offset))
    except OSError:
        return None
    digest.update(before)
    return digest.hexdigest() if len(before) == min(_BEFORE, offset) else None
