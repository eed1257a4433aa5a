"""The journal of what was done to the settings of others, by which it is taken back.

A change is written down before it is made: after a crash the journal may tell of a change that was not made, which is
then taken back by changing nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.setup import files
from mempalace_mcp.setup.formats import MISSING, KeyPath, SettingsFault
from mempalace_mcp.setup.machine import Machine

FILE = ".mempalace-mcp/setup.json"
"""Below the home directory, since the settings of clients are those of one user, whatever palace they name."""

Imports = dict[str, dict[str, Any]]
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Put:
    """A value that was put at a path. The first `depth` keys led to something before; `previous` is what was there."""

    path: KeyPath
    value: Any
    depth: int
    previous: Any = MISSING

    def as_dict(self) -> dict[str, Any]:
        """The put as JSON has it."""
        found = {"path": list(self.path), "value": self.value, "depth": self.depth}
        return found if self.previous is MISSING else {**found, "previous": self.previous}


@dataclass(frozen=True, slots=True)
class Record:
    """One change of one file. `before` and `after` are digests of its contents, None for no file or not known yet.

    `id` tells it from the same change by another setup. `backup` is the copy of what was there before; `folders` were
    made, the outermost first.
    """

    id: str
    client: str
    kind: str
    file: str
    at: str
    puts: tuple[Put, ...]
    before: str | None
    after: str | None = None
    backup: str | None = None
    folders: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        names = ("id", "client", "kind", "file", "at", "before", "after", "backup")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "folders": list(self.folders), "puts": [put.as_dict() for put in self.puts]}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Record:
        """The record that JSON has."""
        puts = [Put(**{**put, "path": tuple(put["path"])}) for put in data["puts"]]
        return cls(**{**data, "folders": tuple(data["folders"]), "puts": tuple(puts)})


class Journal:
    """Reads and writes it; each change is durable on return."""

    def __init__(self, machine: Machine) -> None:
        self.path = machine.home / FILE

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other setup of this user changes anything; it waits."""
        if not platform.CAN_SYNC_DIRECTORIES:  # on Windows a folder cannot be opened, and so not locked
            yield
            return
        descriptor = os.open(self.path.parent.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                platform.lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def records(self) -> list[Record]:
        """All changes that were not taken back, the oldest first.

        Raises:
            SettingsFault: the journal cannot be read.
        """
        return self._read(files.read_settings(self.path))[0]

    def imports(self) -> Imports:
        """The last import of each agent, by the name of its reader: `at`, `palace`, `until`, `files`.

        Raises:
            SettingsFault: the journal cannot be read.
        """
        return self._read(files.read_settings(self.path))[1]

    def add(self, record: Record) -> None:
        """Write down a change that is about to be made.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        self._update(lambda records, imports: ([*records, record], imports))

    def change(self, record: Record, to: Record | None) -> None:
        """Replace a record, or forget it.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        now = [] if to is None else [to]
        self._update(lambda records, imports: ([each for each in records if each.id != record.id] + now, imports))

    def note_import(self, agent: str, **details: Any) -> None:
        """Write down that the histories of an agent were imported.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        self._update(lambda records, imports: (records, {**imports, agent: details}))

    def _read(self, file: files.SettingsFile) -> tuple[list[Record], Imports]:
        try:
            data = json.loads(file.text) if file.text.strip() else {"records": [], "imports": {}}
            return [Record.of(each) for each in data["records"]], dict(data["imports"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._broken(f"{error}") from error

    def _update(self, change: Callable[[list[Record], Imports], tuple[list[Record], Imports]]) -> None:
        """Another setup may write at the same time: then what it wrote is read, and changed in turn."""
        for _ in range(_TRIES):
            file = files.read_settings(self.path)
            records, imports = change(*self._read(file))
            if not records and not imports:
                self.path.unlink(missing_ok=True)
                files.clear(self.path)
                files.remove_empty([self.path.parent])
                return
            files.make_folder(self.path.parent)
            data = {"records": [record.as_dict() for record in records], "imports": imports}
            if files.replace(file, json.dumps(data, indent=1) + "\n"):
                return
        raise SettingsFault(f"{self.path} is being changed by another setup", hint="Wait for it, then try again.")

    def _broken(self, why: str) -> SettingsFault:
        hint = "Move it away; what it tells of has to be taken back by hand, from the copies beside the settings."
        return SettingsFault(f"the journal {self.path} is damaged: {why}", hint=hint)


def finished(record: Record, after: str | None, puts: tuple[Put, ...]) -> Record:
    """The record of a change that another program has made for us."""
    return replace(record, after=after, puts=puts)
