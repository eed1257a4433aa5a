"""What an MCP client starts: one session over stdin and stdout."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mempalace_mcp.core.config import configure_logging, load_settings
from mempalace_mcp.core.errors import PalaceError

PROFILES = ("core", "full")


def run_session(arguments: Sequence[str]) -> int:
    """Serve until the client closes stdin; returns the exit code."""
    options = session_parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ, options.palace)
    except PalaceError as error:
        return _explain(error)
    configure_logging(settings.log_level)
    from mempalace_mcp.cli.serving import Offer, serve_stdio
    from mempalace_mcp.runtime.app import open_app

    try:
        serve_stdio(lambda: open_app(settings), Offer(options.tools, options.read_only, options.tool_prefix))
    except PalaceError as error:
        return _explain(error)
    return 0


def _explain(error: PalaceError) -> int:
    print(f"mempalace-mcp: {error.message}. {error.hint or ''}".rstrip(), file=sys.stderr)
    return 2


def session_parser() -> argparse.ArgumentParser:
    """The options of a session."""
    parser = argparse.ArgumentParser(
        prog="mempalace-mcp",
        description="Serve one MCP session over stdio. See `mempalace-mcp --help` for the commands.",
        allow_abbrev=False,
    )
    parser.add_argument("--palace", help="directory of the palace (default: $PALACE_PATH or ~/.mempalace-mcp/palace)")
    parser.add_argument("--solo", action="store_true", help="serve in this process alone")
    parser.add_argument("--tools", choices=PROFILES, default="core", help="which tools to offer")
    parser.add_argument("--read-only", action="store_true", help="offer no tool that writes")
    parser.add_argument("--tool-prefix", default="", help="put before every tool's name, for example mempalace_")
    return parser
