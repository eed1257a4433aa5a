"""The options of a session for people: help, and what is wrong with them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mempalace_mcp.cli.session import PROFILES, Options


def read_carefully(arguments: Sequence[str]) -> Options:
    """The options; prints help or an error and exits if that is what is to be done."""
    return session_parser().parse_args(arguments, namespace=Options())


def verify_prefix(options: Options) -> None:
    """Return if tools can be named with it; says what is wrong with it and exits otherwise."""
    from mempalace_mcp.core.errors import ConfigurationError
    from mempalace_mcp.server.tools import registry

    try:
        registry.verify_prefix(options.prefix, "full" if options.profile == "full" else "core")
    except ConfigurationError as error:
        session_parser().error(f"{error.message}. {error.hint}")


def session_parser() -> argparse.ArgumentParser:
    """All options of the form without a command."""
    parser = argparse.ArgumentParser(
        prog="mempalace-mcp",
        description="Serve one MCP session over stdio. See `mempalace-mcp --help` for the commands.",
        allow_abbrev=False,
    )
    parser.add_argument("--palace", help="directory of the palace (default: $PALACE_PATH or ~/.mempalace-mcp/palace)")
    parser.add_argument("--solo", action="store_true", help="serve in this process alone, without a daemon")
    parser.add_argument("--tools", dest="profile", choices=PROFILES, default="core", help="which tools to offer")
    parser.add_argument("--read-only", action="store_true", help="offer no tool that writes")
    parser.add_argument(
        "--tool-prefix", dest="prefix", default="", help="put before every tool's name, for example mempalace_"
    )
    return parser
