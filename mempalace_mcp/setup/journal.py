"""The journal of what was done to the settings of others, by which it is taken back.

A change is written down before it is made: after a crash the journal may tell of a change that was not made, which is
then taken back by changing nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.setup import files
from mempalace_mcp.setup.formats import MISSING, KeyPath, SettingsFault
from mempalace_mcp.setup.machine import Machine

FILE = ".mempalace-mcp/setup.json"
"""Below the home directory, since the settings of clients are those of one user, whatever palace they name."""


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

    `backup` is the copy of what was there before, `folders` are the folders that were made, the outermost first.
    """

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
        plain = {name: getattr(self, name) for name in ("client", "kind", "file", "at", "before", "after", "backup")}
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

    def records(self) -> list[Record]:
        """All changes that were not taken back, the oldest first.

        Raises:
            SettingsFault: the journal cannot be read.
        """
        try:
            return [Record.of(each) for each in self._read()["records"]]
        except (KeyError, TypeError) as error:
            raise self._broken(f"{error!r}") from error

    def imports(self) -> dict[str, dict[str, Any]]:
        """The last import of each client, by its id: `at`, `sessions`, `path`.

        Raises:
            SettingsFault: the journal cannot be read.
        """
        found = self._read().get("imports", {})
        return found if isinstance(found, dict) else {}

    def add(self, record: Record) -> None:
        """Write down a change that is about to be made.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        self._write([*self.records(), record])

    def change(self, record: Record, to: Record | None) -> None:
        """Replace a record, or forget it.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        rest = [each for each in self.records() if each != record]
        self._write(rest if to is None else [*rest, to])

    def note_import(self, client: str, **details: Any) -> None:
        """Write down that the histories of a client were imported.

        Raises:
            SettingsFault: the journal cannot be read or written.
        """
        self._write(self.records(), {**self.imports(), client: details})

    def _read(self) -> dict[str, Any]:
        text = files.read_settings(self.path).text
        try:
            data = json.loads(text) if text.strip() else {"records": []}
        except ValueError as error:
            raise self._broken(str(error)) from error
        if not isinstance(data, dict):
            raise self._broken("it is no object")
        return data

    def _write(self, records: Sequence[Record], imports: dict[str, dict[str, Any]] | None = None) -> None:
        imports = self.imports() if imports is None else imports
        if not records and not imports:
            self.path.unlink(missing_ok=True)
            files.remove_empty([self.path.parent])
            return
        files.make_folders(self.path.parent)
        data = {"records": [record.as_dict() for record in records], "imports": imports}
        text = json.dumps(data, indent=1, ensure_ascii=True) + "\n"
        if not files.replace(files.read_settings(self.path), text):
            raise SettingsFault(f"{self.path} is being changed by another setup", hint="Wait for it, then try again.")

    def _broken(self, why: str) -> SettingsFault:
        hint = "Move it away; what it tells of has to be taken back by hand, from the copies beside the settings."
        return SettingsFault(f"the journal {self.path} is damaged: {why}", hint=hint)


def finished(record: Record, after: str | None, puts: tuple[Put, ...]) -> Record:
    """The record of a change that another program has made for us."""
    return replace(record, after=after, puts=puts)
