"""What tells whether Chroma's files can be trusted: a manifest beside them and their stamps.

What the files of a Chroma directory look like, to tell whether somebody else has touched them.

The record of a Chroma directory that may be trusted. No record, no trust: its absence is the dirty flag.

It names the directory and tells how far it follows the log. It is removed before anything may change there and put
back afterwards, each step durable before the next, so that a process which dies in between leaves no record.
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

import psutil

from mempalace_mcp.core.files import PRIVATE_DIRECTORY
from mempalace_mcp.storage.vectors.log import Snapshot
from mempalace_mcp.storage.vectors.model import Cause

DATABASE = "chroma.sqlite3"
_JOURNAL = f"{DATABASE}-journal"

FileStamp = tuple[int, int, int, int]
"""Device, inode, size in bytes, time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class FileStamps:
    """Every file, and the number of the last operation that Chroma has applied.

    The number is the witness: it moves with each write and with nothing else, while merely opening a client changes
    the database file.
    """

    files: Mapping[str, FileStamp]
    sequence: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, _, size, _ in self.files.values())

    def is_same_file(self, directory: Path) -> bool:
        """Is the database still the file it was, neither deleted nor replaced?"""
        try:
            found = (directory / DATABASE).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.files[DATABASE][:2]

    def agrees_beside_database(self, files: Mapping[str, FileStamp]) -> bool:
        """Are all files but the database as they were?"""
        return {**files, DATABASE: None} == {**self.files, DATABASE: None}


def take_stamp(directory: Path) -> FileStamps:
    """Look at all files. Nobody of this process may be inside the database: reading it drops the locks of others.

    Raises:
        OSError, sqlite3.Error: the files cannot be read.
    """
    return FileStamps(stamp_files(directory), read_sequence(directory))


def stamp_files(directory: Path) -> dict[str, FileStamp]:
    """Every file of the directory, apart from the passing journal of the database.

    Raises:
        OSError: the database is not there, or a file cannot be looked at.
    """
    files = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            if name != _JOURNAL:
                path = Path(folder, name)
                found = path.stat()
                files[str(path.relative_to(directory))] = (
                    found.st_dev,
                    found.st_ino,
                    found.st_size,
                    found.st_mtime_ns,
                )
    if DATABASE not in files:
        raise FileNotFoundError(directory / DATABASE)
    return files


def read_sequence(directory: Path) -> int:
    """The number of the last operation applied, 0 when there was none.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    uri = f"file:{quote(str(directory / DATABASE))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
        row = connection.execute("SELECT coalesce(max(seq_id), 0) FROM max_seq_id").fetchone()
    return int(row[0])


NAME = "chroma.json"
_PREFIX = "chroma-"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`position` is Chroma's place in the log of vectors, `deleted` counts rows it has marked as deleted but still
    holds. `closed` says that the files were made durable at the end; else they are good only until a reboot."""

    directory: str
    palace: str
    position: int
    deleted: int
    stamp: FileStamps
    boot: str
    closed: bool


def boot_identity() -> str:
    """What changes when the machine starts anew."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def load_record(directory: Path) -> Manifest | None:
    """The record, or None when there is none that makes sense."""
    try:
        values = json.loads((directory / NAME).read_text(encoding="utf-8"))
        stamp = values.pop("stamp")
        files = {str(name): tuple(int(number) for number in file) for name, file in stamp["files"].items()}
        return Manifest(stamp=FileStamps(files, int(stamp["sequence"])), **values)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def doubt(directory: Path, record: Manifest | None, moment: Snapshot) -> Cause | None:
    """Why the files that a record speaks of cannot be trusted, or None when nothing speaks against them."""
    if record is None:
        return Cause.NOT_CLOSED if directories(directory) else Cause.BEGUN
    if record.palace != moment.palace:
        return Cause.OTHER_PALACE
    if record.position > moment.position:
        return Cause.AHEAD
    if record.boot != boot_identity() and not record.closed:
        return Cause.NOT_CLOSED_BEFORE_RESTART
    try:
        unchanged = stamp_files(directory / record.directory) == record.stamp.files
    except OSError:
        return Cause.FILES_MISSING
    return None if unchanged else Cause.FILES_CHANGED


def directories(directory: Path) -> list[Path]:
    """The Chroma directories there are; at most one of them has a record."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal())


def begin_directory(directory: Path) -> Path:
    """A new Chroma directory, under a name of its own: Chroma tells directories apart by name.

    Raises:
        OSError: it cannot be made.
    """
    numbers = (path.name.removeprefix(_PREFIX) for path in directories(directory))
    path = directory / f"{_PREFIX}{max((int(number) for number in numbers if number.isdecimal()), default=0) + 1}"
    path.mkdir(PRIVATE_DIRECTORY)
    return path


def remove_others(directory: Path, keep: Path) -> None:
    """Remove every Chroma directory but one, as far as that is possible."""
    for path in directories(directory):
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)


def discard_files(directory: Path) -> None:
    """Remove every Chroma directory and the record; for whoever holds `index.lock`.

    Raises:
        OSError: the directory cannot be changed.
    """
    remove_record(directory)
    for path in directories(directory):
        shutil.rmtree(path)


def store_record(directory: Path, record: Manifest) -> None:
    """Replace the record atomically and durably.

    Raises:
        OSError: it cannot be written; then the former one stands.
    """
    path = directory / NAME
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(record), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _make_durable(directory)


def remove_record(directory: Path) -> None:
    """Remove the record durably; it may be absent.

    Raises:
        OSError: the directory cannot be changed.
    """
    (directory / NAME).unlink(missing_ok=True)
    _make_durable(directory)


def make_files_durable(directory: Path) -> None:
    """Write every file of a directory through to the disk.

    Raises:
        OSError: that failed.
    """
    for folder, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(Path(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _make_durable(Path(folder))


def _make_durable(directory: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
