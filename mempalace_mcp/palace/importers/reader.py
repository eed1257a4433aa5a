"""What a reader is: how files of one kind are recognized, where they lie on a machine, and how they are read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.palace.importers.documents import Document, Problem, Source
from mempalace_mcp.palace.importers.files import DATABASE_MAGIC, open_regular_file

HEAD_BYTES = 256 * 1024
_MOST_LINES = 100
_MOST_MEMBERS = 100_000


class Candidate:
    """A file whose format is to be found out. Everything but its path is read at the first use.

    A file that cannot be read is empty here; its reader says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def head(self) -> bytes:
        """The first `HEAD_BYTES` of the file."""
        try:
            descriptor = open_regular_file(self.path)
            with os.fdopen(descriptor, "rb") as file:
                return file.read(HEAD_BYTES)
        except OSError:
            return b""

    @cached_property
    def text(self) -> str:
        """The head as text."""
        return self.head.decode("utf-8-sig", "replace")

    @cached_property
    def records(self) -> list[Mapping[str, Any]]:
        """The objects on the first whole lines: what a file of JSON Lines begins with."""
        lines = self.text.split("\n")
        if len(self.head) == HEAD_BYTES:
            lines.pop()  # it is cut
        return [record for record in map(_object, lines[:_MOST_LINES]) if record is not None]

    @property
    def is_database(self) -> bool:
        """Is it an SQLite database?"""
        return self.head.startswith(DATABASE_MAGIC)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The names of the files in a zip; none if it is no zip, or damaged."""
        if not self.head.startswith(b"PK"):
            return ()
        try:
            with os.fdopen(open_regular_file(self.path), "rb") as file, zipfile.ZipFile(file) as archive:
                return tuple(archive.namelist()[:_MOST_MEMBERS])
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            return ()


def _object(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where programs keep their files: the home folder of a user, and the environment that moves them."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def this(cls) -> Machine:
        """The machine and the user that this process runs on."""
        return cls(Path.home(), os.environ)

    def folder(self, variable: str, default: Path) -> Path:
        """The folder that a variable of the environment names, else the default one."""
        named = self.environment.get(variable)
        return Path(named).expanduser() if named else default

    @property
    def applications(self) -> Path:
        """Where desktop programs keep their data: `~/.config`, `~/Library/Application Support` or `%APPDATA%`."""
        return platform.application_folder(self.home, self.environment)

    @property
    def data(self) -> Path:
        """Where other programs keep theirs: `$XDG_DATA_HOME`, by default `~/.local/share`, on all systems."""
        return self.folder("XDG_DATA_HOME", self.home / ".local" / "share")


def _nowhere(machine: Machine) -> Iterable[Path]:
    del machine
    return ()


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of file that holds conversations.

    `name` is short and stays for ever: it is the `agent` in metadata, part of the keys of messages, and the room.
    `label` is for people. `suffixes` are those of its files, in lower case, and `hidden_names` its files that begin
    with a dot: `recognizes` is asked about no others. It looks at the path first and at the content next, and never
    raises. `read` yields documents in their order, and problems; an OSError may escape from it at any point. `places`
    are the files and folders where a machine keeps such histories; they need not exist.
    """

    name: str
    label: str
    suffixes: frozenset[str]
    recognizes: Callable[[Candidate], bool]
    read: Callable[[Source], Iterator[Document | Problem]]
    places: Callable[[Machine], Iterable[Path]] = _nowhere
    hidden_names: frozenset[str] = frozenset()
