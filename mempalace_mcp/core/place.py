"""Where a palace is: in a directory, or in a database on a server. A bridge imports it, so it imports little itself.

A palace on a server has a directory too: this machine's own, which holds the address, lock and log of its daemon, and
what its hooks hand over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mempalace_mcp.core.palace_url import PalaceUrl

OPTION = "--palace"
VARIABLE = "PALACE_PATH"
URL_VARIABLE = "PALACE_URL"
URL_FILE_VARIABLE = "PALACE_URL_FILE"
DEFAULT_PALACE = "~/.mempalace-mcp/palace"
SERVERS = "~/.mempalace-mcp/servers"
"""Where this machine keeps the directories of palaces on servers."""

_LONGEST_FILE = 64 * 1024
_PRIVATE = 0o700


class WrongPlace(ValueError):
    """Raised when what is given names no palace. `name` is the option or variable, `shown` its value if that may be
    shown."""

    def __init__(self, name: str, shown: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.shown = shown


class Place:
    """`directory` is absolute. `url` is there if the palace is on a server, `url_file` if a file gave that address."""

    __slots__ = ("directory", "url", "url_file")

    def __init__(self, directory: str, url: PalaceUrl | None = None, url_file: str | None = None) -> None:
        self.directory = directory
        self.url = url
        self.url_file = url_file

    def name_for_children(self, environment: MutableMapping[str, str]) -> None:
        """Let programs that inherit the environment find the palace on the server: command lines are seen by all."""
        if self.url is not None:
            for variable in (VARIABLE, URL_FILE_VARIABLE):
                environment.pop(variable, None)
            environment[URL_VARIABLE] = self.url.text


def place_of(environment: Mapping[str, str], option: str | None = None) -> Place:
    """The palace that `option`, from the command line, names; else the environment; else the default.

    An empty option does not mean the default: a script may have left a variable unset.

    Raises:
        WrongPlace: the address or path cannot be that of a palace, or there are two.
    """
    if option is not None:
        return _place(OPTION, option)
    variables = (VARIABLE, URL_VARIABLE, URL_FILE_VARIABLE)
    given = {name: text for name in variables if (text := environment.get(name, "").strip())}
    if len(given) > 1:
        raise WrongPlace(" and ".join(given), " together", "each names a palace; leave all but one empty")
    name, text = next(iter(given.items()), (VARIABLE, ""))
    return _place(name, text)


def _place(name: str, text: str) -> Place:
    from_file = name == URL_FILE_VARIABLE
    is_secret = name == URL_VARIABLE or _is_address(text)
    shown = "" if is_secret else f"={text!r}"
    if name == VARIABLE and not text:  # the default place is in the home directory, and there may be none
        text, shown = DEFAULT_PALACE, f"={DEFAULT_PALACE!r}, the default,"
    try:
        if from_file or (not is_secret and _is_file_with_address(text)):
            file = os.path.realpath(expand(text))
            return _on_server(_content(file), file)
        if name == VARIABLE and is_secret:
            raise ValueError(f"must be a directory; the address of a server belongs into {URL_VARIABLE}")
        return _on_server(text) if is_secret else Place(resolve(text))
    except (ValueError, OSError) as error:
        raise WrongPlace(name, shown, str(error)) from error


def _on_server(address: str, file: str | None = None) -> Place:
    from mempalace_mcp.core.palace_url import read_url  # few palaces are on servers

    url = read_url(address)
    servers = os.path.expanduser(SERVERS)
    if servers.startswith("~"):  # no home is known, as in a container: below the root it will hardly be made
        servers = servers.replace("~", "", 1)
    return Place(os.path.realpath(os.path.join(servers, url.key)), url, file)


def _is_address(text: str) -> bool:
    """Is it meant as the address of a server, of whatever kind? A drive has one letter."""
    scheme, mark, _ = text.strip().partition("://")
    return bool(mark) and len(scheme) > 1 and scheme.replace("+", "").replace("-", "").isalnum()


def _is_file_with_address(text: str) -> bool:
    """Is it a file with the address of a palace, which stands for the palace?"""
    path = os.path.expanduser(text)
    try:
        return os.path.isfile(path) and _is_address(_content(path))
    except (OSError, ValueError):
        return False


def _content(file: str) -> str:
    """The address in a file.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    if not os.path.isfile(file):
        raise ValueError("must be a file with the address of a palace, and there is none")
    with open(file, encoding="utf-8-sig") as stream:
        lines = stream.read(_LONGEST_FILE).split("\n")
    found = [line.strip() for line in lines if line.strip()]
    if len(found) != 1:
        raise ValueError(f"must be a file of one line, the address of a palace, and has {len(found) or 'none'}")
    return found[0]


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


def has_room_for_daemon(place: Place) -> bool:
    """May this user write in the directory? Without that it cannot have the lock and the address of a daemon."""
    if place.url is not None:
        try:
            os.makedirs(place.directory, _PRIVATE, exist_ok=True)
        except OSError:
            return False
    return not os.path.isdir(place.directory) or os.access(place.directory, os.W_OK)
