"""The templates of an Obsidian vault, as its settings name them. They are not notes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.palace.importers import files

MARK = ".obsidian"
"""The folder of a vault's settings."""

_FOLDERS = {
    "templates.json": "folder",
    "plugins/templater-obsidian/data.json": "templates_folder",
    "plugins/quickadd/data.json": "templateFolderPath",
}
"""Settings that name a folder of templates, by their file."""

_NOTES = ("daily-notes.json", "zk-prefixer.json", "plugins/periodic-notes/data.json")
"""Files of settings that name single notes as templates, somewhere under `template`."""

_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Templates:
    """Where templates lie, as paths below the vault without case."""

    vault: Path
    places: frozenset[str]

    def hold(self, path: Path) -> bool:
        """Is this a template, or a folder of them?"""
        return _folded(path.relative_to(self.vault).as_posix()) in self.places


def read_templates(vault: Path) -> Templates:
    """The templates that the settings of a vault name; none where they cannot be read."""
    named = [
        *(_setting(vault / MARK / file, key) for file, key in _FOLDERS.items()),
        *(name for file in _NOTES for name in _named(_read_vault_file(vault / MARK / file))),
    ]
    places = {_folded(name.strip("/")) for name in named if isinstance(name, str) and name.strip("/ .")}
    return Templates(vault, frozenset(places | {f"{place}.md" for place in places}))


def _setting(file: Path, key: str) -> Any:
    settings = _read_vault_file(file)
    return settings.get(key) if isinstance(settings, dict) else None


def _named(settings: Any) -> Iterator[Any]:
    """What is set as template at the top or one level below."""
    if isinstance(settings, dict):
        yield settings.get("template")
        yield from (each.get("template") for each in settings.values() if isinstance(each, dict))


def _read_vault_file(file: Path) -> Any:
    try:
        with open(files.open_regular_file(file), "rb") as opened:  # noqa: PTH123 - by its descriptor
            return json.loads(opened.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
