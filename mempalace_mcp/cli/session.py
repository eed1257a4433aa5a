"""What an MCP client starts: one session over stdin and stdout.

As a rule this process is a bridge to the palace's daemon, and costs a client next to nothing: what it needs to start
is imported here, and what only few sessions need where they need it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mempalace_mcp.core import place, platform

PROFILES = ("core", "full")

_SHORT_PREFIX = 32
"""With this many characters before it the longest name of a tool is still one."""


class Options:
    """How a client wants its session."""

    __slots__ = ("palace", "prefix", "profile", "read_only", "solo")

    def __init__(self) -> None:
        self.palace: str | None = None
        self.solo = False
        self.profile = "core"
        self.read_only = False
        self.prefix = ""

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Options | None:
        """The options as they are usually given; None if something is unusual about them."""
        options = cls()
        rest = list(arguments)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            if name in ("--solo", "--read-only") and not equals:
                setattr(options, name[2:].replace("-", "_"), True)
                continue
            if not equals:
                if not rest or rest[0].startswith("-"):
                    return None
                value = rest.pop(0)
            if name == "--palace":
                options.palace = value
            elif name == "--tools" and value in PROFILES:
                options.profile = value
            elif name == "--tool-prefix":
                options.prefix = value
            else:
                return None
        return options


def is_ordinary(prefix: str) -> bool:
    """Is there surely nothing wrong with it? To be certain takes all the tools, which a bridge does not have."""
    letters = prefix.replace("_", "").replace("-", "")
    return len(prefix) <= _SHORT_PREFIX and (not letters or (letters.isascii() and letters.isalnum()))


def run_session(arguments: Sequence[str]) -> int:
    """Serve until the client closes stdin; returns the exit code."""
    options = Options.read(arguments)
    if options is None:
        from mempalace_mcp.cli.session_options import read_carefully

        options = read_carefully(arguments)
    if not is_ordinary(options.prefix):
        from mempalace_mcp.cli.session_options import verify_prefix

        verify_prefix(options)
    try:
        palace = place.palace_of(os.environ, options.palace)
    except ValueError:
        options.solo = True  # it explains what is wrong
    if options.solo or not platform.HAS_DAEMON or place.is_sealed(palace):
        from mempalace_mcp.cli.solo import run_solo

        return run_solo(options)
    from mempalace_mcp.daemon.bridge import Bridge
    from mempalace_mcp.daemon.connector import Connector

    connector = Connector(palace, os.environ, options.profile, options.prefix, options.read_only)
    sys.stdout = sys.stderr  # stdout carries the protocol alone
    return Bridge(connector).run()
