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
    if not text or "\0" in text:
        raise ValueError("must be a path")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError("the home directory is unknown")
    path = os.path.realpath(path)
    found = path
    while not os.path.lexists(found) and os.path.dirname(found) != found:
        found = os.path.dirname(found)
    if not os.path.isdir(found):
        raise ValueError(f"must be a directory, and {found} is a file")
    return path


def is_sealed(palace: str) -> bool:
    """True if nobody can write there: then there is no room for what a daemon needs, nor anything to agree on."""
    return os.path.isdir(palace) and not os.access(palace, os.W_OK)
