"""A session in one process, without a daemon: for sandboxes, and to be told what is wrong with a palace."""

from __future__ import annotations

import os
import sys
from typing import cast

from mempalace_mcp.cli.session import Options
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.logs import configure_logging
from mempalace_mcp.protocol.tools.table import Profile


def run_solo(options: Options) -> int:
    """Serve until the client closes stdin; returns the exit code."""
    try:
        settings = load_settings(os.environ, options.palace)
        configure_logging(settings.log_level)
        from mempalace_mcp.cli.serving import serve_stdio
        from mempalace_mcp.process.services import Offer
        from mempalace_mcp.runtime.app import open_app

        offer = Offer(cast(Profile, options.profile), options.read_only, options.prefix)
        serve_stdio(lambda: open_app(settings), offer)
    except PalaceError as error:
        print(f"mempalace-mcp: {error.message}. {error.hint or ''}".rstrip(), file=sys.stderr)
        return 2
    return 0
