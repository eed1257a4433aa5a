"""A server of test tools as a process: `echo_server.py stdio` or `echo_server.py http`."""

from __future__ import annotations

import logging
import sys

from mempalace_mcp.core.loading import loading

with loading():  # as the program does
    from mempalace_mcp.runtime.event_loop import run_loop
    from tests.server.echo_services import echo_services


def main(transport: str) -> None:
    """Serve through the transport until it closes."""
    logging.basicConfig(level=logging.WARNING)
    with echo_services() as services:
        if transport == "stdio":
            from mempalace_mcp.server.stdio import serve_stdio

            run_loop(serve_stdio, services)
        else:
            with loading():
                from mempalace_mcp.server.http import serve_http

            run_loop(serve_http, services, "127.0.0.1", 0, lambda port: print(port, flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
