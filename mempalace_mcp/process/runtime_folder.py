"""A folder for sockets that nobody else can enter."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator

from mempalace_mcp.core.errors import ConfigurationError

LONGEST_SOCKET_PATH = 100
"""In bytes. The smallest system takes 104, with the byte that ends it."""

SOCKET_SUFFIX = ".sock"
_NAME_BYTES = 8
_ROOM_FOR_NAMES = 50
"""In bytes, for what comes behind such a folder in the path of a socket."""

_PRIVATE = 0o700


def runtime_folder(palace: str) -> str:
    """The folder: in `XDG_RUNTIME_DIR` if that is this user's alone, else in the one for temporary files, else in the
    palace, which can be written where nothing else can.

    Raises:
        ConfigurationError: none can be made whose path is short enough.
    """
    for parent in _parents():
        folder = os.path.join(parent, f"mempalace-mcp-{_user()}")
        if _is_short(folder) and _is_ours(folder):
            return folder
    folder = os.path.join(palace, "run")
    if _is_short(folder) and _is_ours(folder):
        return folder
    return _new_folder()


def new_name(palace: str, suffix: str) -> str:
    """A path in the folder that nobody can guess.

    Raises:
        ConfigurationError: there is no folder.
    """
    return os.path.join(runtime_folder(palace), os.urandom(_NAME_BYTES).hex() + suffix)


def _parents() -> Iterator[str]:
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        yield given
    if found := _temporary():
        yield found
    yield "/tmp"


def _temporary() -> str | None:
    """The folder for temporary files, if there is one: all of the system may be read-only."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return None


def _new_folder() -> str:
    """One that nobody has made before: somebody else has the usual ones."""
    with contextlib.suppress(OSError):
        folder = tempfile.mkdtemp(prefix="mempalace-mcp-")
        if _is_short(folder):
            return folder
        os.rmdir(folder)
    raise ConfigurationError(
        "there is no folder for the daemon's socket",
        hint="Set XDG_RUNTIME_DIR to a folder of this user that can be written, with a path of at most "
        f"{LONGEST_SOCKET_PATH - _ROOM_FOR_NAMES} bytes.",
    )


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) + len(os.sep) + 2 * _NAME_BYTES + len(SOCKET_SUFFIX) <= LONGEST_SOCKET_PATH


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
