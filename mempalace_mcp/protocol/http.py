"""The HTTP doors: `/mcp`, `/sse` with `/messages/`, and the probes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.protocol.calls import Calls
from mempalace_mcp.protocol.connections import Connections
from mempalace_mcp.protocol.exposure import Exposure
from mempalace_mcp.protocol.health import health_routes
from mempalace_mcp.protocol.history import history_route
from mempalace_mcp.protocol.keyring import Keyring
from mempalace_mcp.protocol.plain import PlainServer
from mempalace_mcp.protocol.security import HostGuard, TokenGuard
from mempalace_mcp.protocol.server import build_server
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.sse import MESSAGES_PATH, SseDoor
from mempalace_mcp.protocol.stdio import stop_on_signal
from mempalace_mcp.protocol.streamable import StreamableDoor
from mempalace_mcp.runtime.descriptors import sockets_at_a_door

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 60
SHUTDOWN_SECONDS = 2


LOOPBACK = Exposure()


def build_http(services: Services, exposure: Exposure = LOOPBACK, keyring: Keyring | None = None) -> Starlette:
    """The application, for bearers of the tokens in the keyring or, without one, for everybody who reaches it;
    `state.close` ends its streams, before the server waits for open responses."""
    streamable = StreamableDoor(build_server(services, Calls(services), sessions=False), services.activity)
    sse = SseDoor(PlainServer(services), services.activity)

    async def close() -> None:
        streamable.close()
        await sse.close()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with streamable.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(services.health.watch)
            tasks.start_soon(services.feed.watch)
            yield
            tasks.cancel_scope.cancel()

    application = Starlette(
        routes=[
            Route("/mcp", streamable),
            Route("/sse", sse),
            Route(MESSAGES_PATH, sse),
            *health_routes(services.health),
            history_route(services.activity),
        ],
        middleware=_guards(exposure, keyring),
        lifespan=lifespan,
    )
    application.state.close = close
    return application


def _guards(exposure: Exposure, keyring: Keyring | None) -> list[Middleware]:
    """Who is refused before anything else looks at a request."""
    host = Middleware(HostGuard, exposure)
    return [host] if keyring is None else [host, Middleware(TokenGuard, keyring)]


async def serve_http(services: Services, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve until a stop signal comes. `ready` is told the port, which the system chooses if it is 0.

    Raises:
        ConfigurationError: the host is not loopback, or the port is taken.
    """
    exposure = Exposure(host)
    with listen(exposure, port) as listener, stop_on_signal() as stop:
        await serve_on(services, listener, ready, stop, exposure)


async def serve_on(
    services: Services,
    listener: socket.socket,
    ready: Callable[[int], None],
    stop: anyio.Event,
    exposure: Exposure = LOOPBACK,
    keyring: Keyring | None = None,
) -> None:
    """Serve on a socket that listens, until `stop` is set. `ready` is told the port."""
    application, certificate = build_http(services, exposure, keyring), exposure.certificate
    protocol: Any = Connections(sockets_at_a_door())
    config = uvicorn.Config(
        application,
        http=protocol,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=certificate.file if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    await _Server(config, application.state.close, ready, stop).serve([listener])


def listen(exposure: Exposure, port: int, keyring: Keyring | None = None) -> socket.socket:
    """A socket bound to the port, or to a free one if it is 0.

    Raises:
        ConfigurationError: it could be reached from other machines without a token, or the port is taken.
    """
    host = exposure.host
    if not exposure.is_local and not keyring:
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, so it needs a token",
            argument="--host",
            hint="Make one with `mempalace-mcp token new NAME`, or set PALACE_TOKEN; or use 127.0.0.1.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which delays small answers by 40 ms, only where TCP is named as protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error}", argument="--port", hint="Choose another port, or 0."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Uvicorn that tells when it is ready, ends its streams when it stops, and then just returns."""

    def __init__(
        self,
        config: uvicorn.Config,
        close_streams: Callable[[], Awaitable[None]],
        ready: Callable[[int], None],
        stop: anyio.Event,
    ) -> None:
        super().__init__(config)
        self._close_streams = close_streams
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            self._ready(sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._close_streams()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the event; signals are not this server's to catch, and to raise again, as Uvicorn does."""
        waiting = asyncio.get_running_loop().create_task(self._exit_at_stop())
        try:
            yield
        finally:
            waiting.cancel()

    async def _exit_at_stop(self) -> None:
        await self._stop.wait()
        self.should_exit = True
