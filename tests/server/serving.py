"""A real Uvicorn in a thread, on the event loop that serves everything else, for a part of the transports alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from mempalace_mcp.runtime.event_loop import run_loop
from tests.server.clients import PATIENCE


@contextmanager
def served(application: Any, protocol: Any = "auto") -> Iterator[int]:
    """Serve the ASGI application within the block, at that port."""
    config = uvicorn.Config(
        application, http=protocol, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=run_loop, args=(server.serve, [listener]))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
