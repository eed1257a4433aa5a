"""A server that leaks on demand: the whole process as it is, but its imports keep what they should let go.

    python -m tests.soak.leaking_server <palace>      prints its port

`import_path` of `/threads`, `/descriptors` or `/memory` leaks more of these, and files nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.event_loop import run_loop
from mempalace_mcp.server.http import serve_http

LEAKED_DESCRIPTORS = 3
LEAKED_OBJECTS = 20_000
LEAKED_BYTES = 4 << 20


class LeakingContext(AppContext):
    """What tools need, and what is never let go."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.kept: list[Any] = []

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        match Path(paths[0]).name:
            case "threads":
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            case "descriptors":
                self.kept += [os.open(os.devnull, os.O_RDONLY) for _ in range(LEAKED_DESCRIPTORS)]
            case "memory":
                self.kept.append(([object() for _ in range(LEAKED_OBJECTS)], os.urandom(LEAKED_BYTES)))
        return ImportSummary().as_dict(complete=True)


def main(palace: Path) -> None:
    """Serve the palace over HTTP until a signal comes."""
    with open_app(load_settings(os.environ, str(palace))) as app:
        app.start()
        services = services_of(app, ToolSelection("full"), LeakingContext(app))
        run_loop(serve_http, services, "127.0.0.1", 0, lambda port: print(port, flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
