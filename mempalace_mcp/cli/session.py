"""What an MCP client starts: one session over stdin and stdout.

As a rule this process is a bridge to the palace's daemon and must cost a client next to nothing. So it imports little
and reads its options itself; click knows the same options from the table, for help and errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mempalace_mcp.core import place, platform
from mempalace_mcp.daemon.ipc import PROFILES

_SHORT_PREFIX = 32
"""With this many characters before it the longest name of a tool is still one."""


class Option:
    """One option of a session. `field` is its attribute of `Options`; an option whose default is False is a flag."""

    __slots__ = ("choices", "default", "field", "help", "metavar", "name")

    def __init__(
        self,
        name: str,
        field: str,
        help: str,
        *,
        default: str | bool | None = None,
        metavar: str | None = None,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.field = field
        self.help = help
        self.default = default
        self.metavar = metavar
        self.choices = choices

    @property
    def is_flag(self) -> bool:
        """Does it take no value?"""
        return self.default is False

    @property
    def usage(self) -> str:
        """The option with its value, as help shows it."""
        return self.name if self.is_flag else f"{self.name} {self.metavar or '|'.join(self.choices)}"


PALACE = Option(
    "--palace",
    "palace",
    "The palace: a directory, or a file with the address of a palace in PostgreSQL"
    " (default: $PALACE_PATH, $PALACE_URL, $PALACE_URL_FILE or ~/.mempalace-mcp/palace).",
    metavar="PLACE",
)
TOOLS = Option("--tools", "profile", "Which tools to offer.", default="core", choices=PROFILES)
READ_ONLY = Option("--read-only", "read_only", "Offer no tool that writes.", default=False)
TOOL_PREFIX = Option(
    "--tool-prefix", "prefix", "Put before every tool's name, for example mempalace_.", default="", metavar="PREFIX"
)
SOLO = Option("--solo", "solo", "Serve in this process alone, without a daemon.", default=False)

SESSION_OPTIONS = (PALACE, TOOLS, READ_ONLY, TOOL_PREFIX, SOLO)


class Options:
    """How a client wants its session: the values of `SESSION_OPTIONS`."""

    __slots__ = ("palace", "prefix", "profile", "read_only", "solo")

    palace: str | None
    profile: str
    read_only: bool
    prefix: str
    solo: bool

    def __init__(self) -> None:
        for option in SESSION_OPTIONS:
            setattr(self, option.field, option.default)

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Options | None:
        """The options; None if help is asked for or something is wrong with them."""
        options = cls()
        known = {option.name: option for option in SESSION_OPTIONS}
        rest = list(arguments)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            option = known.get(name)
            if option is None or (option.is_flag and equals):
                return None
            if not option.is_flag and not equals:
                if not rest or rest[0].startswith("-"):
                    return None
                value = rest.pop(0)
            if option.choices and value not in option.choices:
                return None
            setattr(options, option.field, True if option.is_flag else value)
        return options


def is_ordinary(prefix: str) -> bool:
    """Is the prefix surely right? Others are verified with the names of all tools, which a bridge does not import."""
    letters = prefix.replace("_", "").replace("-", "")
    return len(prefix) <= _SHORT_PREFIX and (not letters or (letters.isascii() and letters.isalnum()))


def run_session(arguments: Sequence[str]) -> int:
    """Serve until the client closes stdin; returns the exit code."""
    options = Options.read(arguments)
    if options is None:
        from mempalace_mcp.cli.commands import explain_session

        explain_session(arguments)
    if not is_ordinary(options.prefix):
        from mempalace_mcp.cli.commands import verify_prefix

        verify_prefix(options)
    try:
        found = place.place_of(os.environ, options.palace)
    except ValueError:
        options.solo = True  # it explains what is wrong
    if options.solo or not platform.HAS_DAEMON or not place.has_room_for_daemon(found):
        from mempalace_mcp.core.loading import loading

        with loading():
            from mempalace_mcp.cli.solo import run_solo

        return run_solo(options)
    from mempalace_mcp.daemon.bridge import Bridge
    from mempalace_mcp.daemon.connector import Connector

    found.name_for_children(os.environ)
    connector = Connector(found, os.environ, options.profile, options.prefix, options.read_only)
    sys.stdout = sys.stderr  # stdout carries the protocol alone
    return Bridge(connector).run()
