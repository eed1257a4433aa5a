"""A folder for sockets that nobody else can enter."""

from __future__ import annotations

import os
import stat
import tempfile

LONGEST_SOCKET_PATH = 100
"""In bytes. The smallest system takes 104, with the byte that ends it."""

SOCKET_SUFFIX = ".sock"
_NAME_BYTES = 8
_PRIVATE = 0o700


def runtime_folder(wanted: str | None = None) -> str:
    """The folder: in `XDG_RUNTIME_DIR` if that is this user's alone, else in the folder for temporary files.

    Raises:
        OSError: none can be made.
    """
    for parent in (wanted or os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if not parent:
            continue
        folder = os.path.join(parent, f"mempalace-mcp-{_user()}")
        if len(os.fsencode(folder)) + 2 * _NAME_BYTES + len("/.json") <= LONGEST_SOCKET_PATH and _is_ours(folder):
            return folder
    return tempfile.mkdtemp(prefix="mempalace-mcp-")


def new_name(suffix: str) -> str:
    """A path in the folder that nobody can guess.

    Raises:
        OSError: there is no folder.
    """
    return os.path.join(runtime_folder(), os.urandom(_NAME_BYTES).hex() + suffix)


def _is_ours(folder: str) -> bool:
    """Make the folder if it is missing; is it a folder, of this user, and closed to others?"""
    try:
        os.mkdir(folder, _PRIVATE)
    except FileExistsError:
        pass
    except OSError:
        return False
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return False
    return os.name == "nt" or (status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == _PRIVATE)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
