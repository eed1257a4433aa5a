"""Where a palace is. A bridge imports this module, so it imports next to nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "PALACE_PATH"
DEFAULT_PALACE = "~/.mempalace-mcp/palace"


def palace_of(environment: Mapping[str, str], option: str | None = None) -> str:
    """The palace's directory: `option`, from the command line, else the environment's, else the default.

    An empty option does not mean the default: a script may have left a variable unset.

    Raises:
        ValueError: the path cannot be one of a directory.
    """
    return resolve(environment.get(VARIABLE, "").strip() or DEFAULT_PALACE if option is None else option)


def resolve(text: str) -> str:
    """The one absolute path of a palace, whatever path or symbolic link leads to it.

    Raises:
        ValueError: it cannot be the path of a directory.
    """
    path = os.path.realpath(expand(text))
    found = path
    while not os.path.lexists(found) and os.path.dirname(found) != found:
        found = os.path.dirname(found)
    if not os.path.isdir(found):
        raise ValueError(f"must be a directory, and {found} is a file")
    return path


def expand(text: str) -> str:
    """The path with the home directory in place of a leading `~`.

    Raises:
        ValueError: it is no path, or holds a variable without its value.
    """
    if not text.strip() or "\0" in text:
        raise ValueError("must be a path")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"nobody knows the home directory {path.replace(os.sep, '/').split('/')[0]}")
    variable = _variable(path) if any(mark in path for mark in "$%{`~") else None
    if variable is not None:
        raise ValueError(
            f"{variable} stands where a value should: nothing has put one there. "
            "Write the path itself; a folder that is really called so has to be there already"
        )
    return path


def _variable(path: str) -> str | None:
    """The first variable in a path, unless the folder or file with that in its name is there."""
    import re  # most paths have none

    found = re.search(
        r"\$\{[^}]*\}?|\$\([^)]*\)?|\$[A-Za-z_][\w:]*|%[A-Za-z_][\w()]*%|\{\{.*?\}\}|\{env:[^}]*\}|`[^`]*`|(?<=[/\\])~(?=[/\\]|$)",
        path,
    )
    if found is None:
        return None
    end = next((place for place in range(found.end(), len(path)) if path[place] in (os.sep, os.altsep)), len(path))
    return None if os.path.lexists(path[:end]) else found[0]


def is_read_only(palace: str) -> bool:
    """May this user not write in the palace? Then it cannot have the lock and the address of a daemon."""
    return os.path.isdir(palace) and not os.access(palace, os.W_OK)
