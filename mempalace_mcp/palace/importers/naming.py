"""Which wing and room a file belongs to, by the folders around it."""

from __future__ import annotations

import os
from pathlib import Path

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import MAX_NAME_CHARACTERS, read_name

NOTES = "notes"
SESSIONS = "sessions"


def project_folder(folder: Path) -> Path:
    """The root of the repository that holds the folder, or the folder itself if none does."""
    for candidate in (folder, *folder.parents):
        if os.path.exists(candidate / ".git"):  # noqa: PTH110 - a folder that may not be searched is no error
            return candidate
    return folder


def wing_of(folder: Path | str) -> str:
    """The folder's name as a wing. The path may be of another system, as transcripts record them."""
    return _name(str(folder).replace("\\", "/").rstrip("/").rpartition("/")[2], "files")


def room_of(path: Path, root: Path) -> str:
    """The name of the folder that holds the file; `NOTES` for files at the root itself."""
    return NOTES if path.parent == root else _name(path.parent.name, NOTES)


def _name(text: str, otherwise: str) -> str:
    """The text if it can name a wing or room, else as much of it as can."""
    cleaned = "".join(character if character.isprintable() else " " for character in text)[:MAX_NAME_CHARACTERS]
    try:
        return read_name(cleaned, "name").shown
    except InvalidArgument:
        return otherwise
