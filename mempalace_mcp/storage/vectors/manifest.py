"""Whether Chroma's files can be trusted: a manifest beside them vouches for them, or they are rebuilt from the log.

There is one rule. Files that were not closed cleanly, or that another program has changed, are never opened. The
manifest is removed before Chroma may write. It is put back when the files are on the disk. Each step is durable before
the next one begins, so a crash or a power cut in between leaves no manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from mempalace_mcp.core import platform
from mempalace_mcp.core.files import PRIVATE_DIRECTORY
from mempalace_mcp.storage.vectors.log import Snapshot
from mempalace_mcp.storage.vectors.model import Cause

DATABASE = "chroma.sqlite3"
_JOURNAL = f"{DATABASE}-journal"
_NAME = "chroma.json"
_PREFIX = "chroma-"

FileStamp = tuple[int, int, int, int]
"""Device, inode, size in bytes, time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class FileStamps:
    """The state of a Chroma directory: the stamp of every file, and the number of the last operation applied.

    Every write increases `sequence`. Opening a client changes the database file too, but not the sequence.
    """

    files: Mapping[str, FileStamp]
    sequence: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, _, size, _ in self.files.values())

    def is_same_database(self, directory: Path) -> bool:
        """Is the database still the same file, neither deleted nor replaced?

        Raises:
            OSError: it cannot be looked at.
        """
        found = (directory / DATABASE).stat()
        return (found.st_dev, found.st_ino) == self.files[DATABASE][:2]

    def refreshed(self, directory: Path) -> FileStamps | None:
        """The stamps of now, or None when there was a write since.

        Raises:
            OSError, sqlite3.Error: the files cannot be read.
        """
        files = stamp_files(directory)
        if files == self.files:
            return self
        if {**files, DATABASE: files[DATABASE][:2]} != {**self.files, DATABASE: self.files[DATABASE][:2]}:
            return None
        return FileStamps(files, self.sequence) if _read_sequence(directory) == self.sequence else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a Chroma directory that can be trusted.

    `position` is how far it follows the log of the palace. `deleted` counts the rows that Chroma has marked as deleted
    and still holds.
    """

    directory: str
    palace: str
    position: int
    deleted: int
    stamp: FileStamps


def take_stamp(directory: Path) -> FileStamps:
    """The stamps of a directory. No code of this process may have the database open: reading it drops POSIX locks.

    Raises:
        OSError, sqlite3.Error: the files cannot be read.
    """
    return FileStamps(stamp_files(directory), _read_sequence(directory))


def stamp_files(directory: Path) -> dict[str, FileStamp]:
    """The stamp of every file, apart from the database's journal, which exists during a transaction only.

    Raises:
        OSError: the database does not exist, or a file cannot be looked at.
    """
    files = {}
    for path in _files_below(directory):
        if path.name != _JOURNAL:
            found = path.stat()
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            files[str(path.relative_to(directory))] = stamp
    if DATABASE not in files:
        raise FileNotFoundError(directory / DATABASE)
    return files


def load_manifest(directory: Path) -> Manifest | None:
    """The manifest, or None when there is none or it is malformed."""
    try:
        values = json.loads((directory / _NAME).read_text(encoding="utf-8"))
        values.pop("boot", None)  # this and the next one are of earlier versions,
        if not values.pop("closed", True):  # which wrote files through to the disk only when they closed them
            return None
        stamp = values.pop("stamp")
        files = {str(name): tuple(int(number) for number in file) for name, file in stamp["files"].items()}
        return Manifest(stamp=FileStamps(files, int(stamp["sequence"])), **values)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def reason_to_rebuild(directory: Path, manifest: Manifest | None, snapshot: Snapshot) -> Cause | None:
    """Why the files cannot be trusted, or None when they can."""
    if manifest is None:
        return Cause.NOT_CLOSED if directories(directory) else Cause.BEGUN
    if manifest.palace != snapshot.palace or manifest.position > snapshot.position:
        return Cause.DIFFERENT
    try:
        unchanged = stamp_files(directory / manifest.directory) == manifest.stamp.files
    except OSError:
        unchanged = False
    return None if unchanged else Cause.FILES_CHANGED


def store_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically and durably.

    Raises:
        OSError: it cannot be written; the former one stays, if there is one.
    """
    path = directory / _NAME
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(directory)


def remove_manifest(directory: Path) -> None:
    """Remove the manifest durably; it may be absent.

    Raises:
        OSError: the directory cannot be changed.
    """
    (directory / _NAME).unlink(missing_ok=True)
    _sync_directory(directory)


def sync_files(directory: Path, current: FileStamps, synced: FileStamps) -> None:
    """Write the files that have changed since `synced`, and all folders, through to the disk.

    Raises:
        OSError: that failed.
    """
    for name, stamp in current.files.items():
        if synced.files.get(name) != stamp:
            _sync(directory / name)
    for folder, _, _ in os.walk(directory):
        _sync_directory(Path(folder))  # of the database too: SQLite does not sync the removal of its journal


def directories(directory: Path) -> list[Path]:
    """The Chroma directories that exist; at most one of them has a manifest."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal())


def begin_directory(directory: Path) -> Path:
    """A new Chroma directory, with a new name: a former process that does not end may still write to its own.

    Raises:
        OSError: it cannot be made.
    """
    latest = max((int(path.name.removeprefix(_PREFIX)) for path in directories(directory)), default=0)
    path = directory / f"{_PREFIX}{latest + 1}"
    path.mkdir(PRIVATE_DIRECTORY)
    return path


def remove_others(directory: Path, keep: Path) -> None:
    """Remove every Chroma directory but one, as far as that is possible."""
    for path in directories(directory):
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)


def discard_files(directory: Path) -> None:
    """Remove the manifest and every Chroma directory. The caller holds `index.lock`.

    Raises:
        OSError: the directory cannot be changed.
    """
    remove_manifest(directory)
    for path in directories(directory):
        shutil.rmtree(path)


def _read_sequence(directory: Path) -> int:
    """The number of the last operation applied, 0 when there was none."""
    uri = f"file:{quote(str(directory / DATABASE))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
        row = connection.execute("SELECT coalesce(max(seq_id), 0) FROM max_seq_id").fetchone()
    return int(row[0])


def _files_below(directory: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]


def _sync_directory(directory: Path) -> None:
    if platform.CAN_SYNC_DIRECTORIES:
        _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
