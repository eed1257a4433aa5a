"""Where a palace is. Imports next to nothing, for processes that need to know no more."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "PALACE_PATH"
DEFAULT_PALACE = "~/.mempalace-mcp/palace"


def palace_of(environment: Mapping[str, str], option: str | None = None) -> str:
    """The palace's directory: `option`, from the command line, else the environment's, else the default.

    An empty option, of a script whose variable is not set, does not mean the default.

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
        ValueError: it is no path, or whoever was to put a value for a variable in it has not.
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


def is_sealed(palace: str) -> bool:
    """True if nobody can write there: then there is no room for what a daemon needs, nor anything to agree on."""
    return os.path.isdir(palace) and not os.access(palace, os.W_OK)
