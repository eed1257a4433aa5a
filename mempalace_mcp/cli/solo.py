"""A session in one process, without a daemon: for sandboxes, read-only palaces, and systems without daemons.

It also explains what is wrong with the path of a palace.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import cast

from mempalace_mcp.cli.session import Options
from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.logs import configure_logging
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.app import open_app
from mempalace_mcp.runtime.event_loop import run_loop
from mempalace_mcp.runtime.monitor import share_one_heap
from mempalace_mcp.server.stdio import serve_stdio
from mempalace_mcp.server.tools.registry import Profile


def run_solo(options: Options) -> int:
    """Serve until the client closes stdin; returns the exit code."""
    try:
        settings = load_settings(os.environ, options.palace)
        configure_logging(settings.log_level)
        _serve(settings, ToolSelection(cast(Profile, options.profile), options.read_only, options.prefix))
    except PalaceError as error:
        print(f"mempalace-mcp: {error.message}. {error.hint or ''}".rstrip(), file=sys.stderr)
        return 2
    return 0


def _serve(settings: Settings, selection: ToolSelection) -> None:
    share_one_heap()
    with closing(open_app(settings)) as app, app.watchdog.on_signal():
        app.start()
        run_loop(serve_stdio, services_of(app, selection))
