"""The HTTP server: routes, middleware, and Uvicorn with its settings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.monitor import connection_limit
from mempalace_mcp.server.auth import Authenticator
from mempalace_mcp.server.http_connections import ConnectionMiddleware, Connections
from mempalace_mcp.server.http_messages import ErrorResponse, NotFoundResponse
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.monitoring import health_routes, history_route
from mempalace_mcp.server.sdk import build_server
from mempalace_mcp.server.security import HostGuard, ListeningSocket, ListenSettings, TokenGuard, listen, require_token
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.sse import MESSAGES_PATH, SseTransport
from mempalace_mcp.server.stdio import stop_on_signal
from mempalace_mcp.server.streamable_http import StreamableHttpTransport

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 60
SHUTDOWN_SECONDS = 2

LOOPBACK = ListenSettings()


@dataclass(frozen=True)
class Authentication:
    """How callers are identified: by the server's connections and, if there may be tokens, the authenticator."""

    connections: Connections
    authenticator: Authenticator | None = None


def build_http(
    services: Services, settings: ListenSettings = LOOPBACK, authentication: Authentication | None = None
) -> Starlette:
    """The application; without `authentication` everybody may use it. `state.close` ends its streams: the server must
    call it before it waits for open responses."""
    methods = MethodServer(services)
    streamable = StreamableHttpTransport(build_server(methods, sessions=False), services.activity)
    sse = SseTransport(methods, services.activity)

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

    routes = [
        *(Route(path, streamable) for path in ("/mcp", "/mcp/")),
        *(Route(path, sse) for path in ("/sse", "/sse/", MESSAGES_PATH, MESSAGES_PATH.rstrip("/"))),
        *health_routes(services.health),
        history_route(services.activity),
    ]
    middleware = [Middleware(HostGuard, settings), Middleware(NotFoundGuard, [route.path for route in routes])]
    if authentication is not None:
        middleware.append(Middleware(TokenGuard, authentication.authenticator, authentication.connections))
    application = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={405: _refuse_method},
        lifespan=lifespan,
    )
    application.router.redirect_slashes = False
    application.state.close = close
    return application


class NotFoundGuard:
    """Middleware that answers 404 for unknown paths before a token is asked for: clients without one probe such paths.

    A 404 handler of Starlette would run only after `TokenGuard`.
    """

    def __init__(self, app: ASGIApp, paths: list[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._not_found = NotFoundResponse()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_known = scope["type"] == "lifespan" or scope["path"] in self._paths
        await (self._app if is_known else self._not_found)(scope, receive, send)


async def _refuse_method(request: Request, error: Exception) -> Response:
    fields = getattr(error, "headers", None)
    wrong = InvalidArgument(f"{request.url.path} is only read", argument="method", hint="GET it.")
    return ErrorResponse(405, wrong, fields).plain()


async def serve_http(services: Services, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve without tokens until a stop signal comes. `ready` is called with the port; port 0 lets the system choose.

    Raises:
        ConfigurationError: the host is not loopback, or the port is taken.
    """
    settings = ListenSettings(host)
    require_token(settings, None)
    with listen(settings, port) as listening, stop_on_signal() as stop:
        await serve_on(services, listening, ready, stop, settings)


async def serve_on(
    services: Services,
    listening: ListeningSocket,
    ready: Callable[[int], None],
    stop: anyio.Event,
    settings: ListenSettings = LOOPBACK,
    authenticator: Authenticator | None = None,
) -> None:
    """Serve on bound sockets until `stop` is set. `ready` is called with the port."""
    connections = Connections(connection_limit())
    application = build_http(services, settings, Authentication(connections, authenticator))
    protocol: Any = connections  # Uvicorn only calls its protocol class, so that a factory will do
    certificate = settings.certificate
    config = uvicorn.Config(
        ConnectionMiddleware(application, connections),
        http=protocol,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else a client could claim another address
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=certificate.file if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    await _Server(config, application.state.close, ready, stop).serve(listening.sockets)


class _Server(uvicorn.Server):
    """Uvicorn that calls `ready` when it listens, ends streams when it stops, and leaves signals to the caller."""

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
        """Stop at the event, instead of catching signals and raising them again."""
        waiting = asyncio.get_running_loop().create_task(self._exit_at_stop())
        try:
            yield
        finally:
            waiting.cancel()

    async def _exit_at_stop(self) -> None:
        await self._stop.wait()
        self.should_exit = True
