"""What the files of a Chroma directory look like, to tell whether somebody else has touched them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

DATABASE = "chroma.sqlite3"
_JOURNAL = f"{DATABASE}-journal"

FileStamp = tuple[int, int, int, int]
"""Device, inode, size in bytes, time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Stamp:
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


def take_stamp(directory: Path) -> Stamp:
    """Look at all files. Nobody of this process may be inside the database: reading it drops the locks of others.

    Raises:
        OSError, sqlite3.Error: the files cannot be read.
    """
    return Stamp(stamp_files(directory), read_sequence(directory))


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
