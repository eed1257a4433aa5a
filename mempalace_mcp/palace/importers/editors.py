"""Editors of the family of VS Code: where they keep their data, and which project a window of theirs had open."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mempalace_mcp.palace.importers.documents import Source
from mempalace_mcp.palace.importers.files import read_text
from mempalace_mcp.palace.importers.naming import wing_of
from mempalace_mcp.palace.importers.reader import Machine

WINDOWS = "workspaceStorage"
"""The folder that holds one folder for each project that was open in a window."""

_EDITIONS = ("Code", "Code - Insiders", "Code - OSS", "VSCodium", "Cursor", "Windsurf", "Trae", "Positron", "Kiro")
_SERVERS = ("vscode", "vscode-insiders", "vscodium", "cursor", "windsurf", "positron")
_SEVERAL_FOLDERS = ".code-workspace"
_DRIVE = re.compile(r"/[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Project:
    """What a window had open: the folder, and the wing of what is said there."""

    folder: str
    wing: str


def user_folders(machine: Machine) -> Iterator[Path]:
    """Where each edition keeps the data of a user, on this machine and for windows of others that are connected."""
    yield from (machine.applications / name / "User" for name in _EDITIONS)
    yield from (machine.home / f".{_server(name)}" / "data" / "User" for name in _SERVERS)


def _server(edition: str) -> str:
    name, _, channel = edition.partition("-")
    return "-".join(filter(None, (name, "server", channel)))


def project_of_window(folder: Path) -> Project | None:
    """The project of a folder in `WINDOWS`, as far as the file there tells."""
    try:
        text = read_text(Source(folder / "workspace.json"))
        window = json.loads(getattr(text, "content", "null"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(window, Mapping):
        return None
    return project_of(window.get("folder") or window.get("workspace") or window.get("configuration"))


def project_of(uri: Any) -> Project | None:
    """The project at a URI, written as text or as an object of its parts; None for anything else."""
    path = _path(uri)
    if not path:
        return None
    if path.endswith(_SEVERAL_FOLDERS):  # a file that lists folders: the project is called as it is
        return Project(str(_parent(path)), wing_of(path.removesuffix(_SEVERAL_FOLDERS)))
    return Project(path, wing_of(path))


def _path(uri: Any) -> str | None:
    if isinstance(uri, Mapping):
        parts = [uri.get("fsPath"), uri.get("path"), uri.get("external")]
        return next((_path(part) for part in parts if isinstance(part, str) and part), None)
    if not isinstance(uri, str):
        return None
    path = uri
    if "://" in uri:
        try:
            split = urlsplit(uri)
        except ValueError:
            return None
        path = unquote(split.path)
        if split.scheme == "file" and split.netloc:
            path = f"//{split.netloc}{path}"
    return path[1:] if _DRIVE.match(path) else path


def _parent(path: str) -> str:
    return path[: path.rfind("\\")] if "\\" in path and "/" not in path else str(PurePosixPath(path).parent)
