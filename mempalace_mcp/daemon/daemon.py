"""The daemon: the one process that serves a palace to all its sessions, and over HTTP if asked to.

It leaves when it is idle, told to stop, its palace or its lock is gone, or another process asks for the lock. It
removes its address first, finishes what takes little time, says goodbye to each bridge, closes the palace, and frees
the lock last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from mempalace_mcp import __version__
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon import ipc
from mempalace_mcp.daemon.daemon_session import SocketServer
from mempalace_mcp.daemon.entry import Log, listening
from mempalace_mcp.daemon.hook_reader import HookReader
from mempalace_mcp.daemon.ipc import DaemonAddress, identity_of
from mempalace_mcp.runtime import monitor
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.event_loop import run_loop
from mempalace_mcp.runtime.monitor import share_one_heap
from mempalace_mcp.server.stdio import stop_on_signal

LOOK_SECONDS = 0.5
LONGEST_WORK_SECONDS = 1800.0
"""Without sessions, texts to embed or index keep a daemon alive so long at most."""

FIRST_SESSION_SECONDS = 30.0
"""For the session for which a process was started to connect."""


class IdleMonitor:
    """Looks twice a second for a reason to leave: nothing to do, or the palace or the lock is gone."""

    def __init__(
        self,
        app: App,
        server: SocketServer,
        hooks: HookReader,
        address: DaemonAddress,
        address_file: str,
        lock: FileLock | None,
    ) -> None:
        self._app = app
        self._hooks = hooks
        self._server = server
        self._address = address
        self._address_file = address_file
        self._lock = lock
        self._palace = str(app.settings.palace)
        self._identity = identity_of(self._palace)
        self._log = Log(app.settings.palace / ipc.LOG_FILE)
        self._last_used = time.monotonic()
        self._last_opened = 0

    async def watch(self, leave: Callable[[str], None]) -> None:
        """Call `leave` with the reason as soon as there is one."""
        while (reason := await self._reason_to_leave()) is None:
            await anyio.sleep(LOOK_SECONDS)
        leave(reason)

    async def _reason_to_leave(self) -> str | None:
        # In a thread, for a disk may hang. Not in the executor, which may be full.
        changed = await anyio.to_thread.run_sync(self._look_at_files, abandon_on_cancel=True)
        if changed is not None:
            return changed
        if self._lock is None:
            return self._private_reason()
        return "idle" if self._address.http is None and self._is_idle() else None

    def _look_at_files(self) -> str | None:
        """The reason to leave that the files give, if any. Restores the address file and rotates the log."""
        if self._app.settings.url is not None and self._address.http is not None and not self._has_seat():
            return None  # this machine's directory for the palace is gone, or a new one there: HTTP needs none
        if not self._palace_is_there():
            return "missing"
        if self._lock is None:
            return None
        if not self._lock.is_current():
            return "retiring"
        if DaemonAddress.read(self._address_file) is None:
            with contextlib.suppress(OSError):  # perhaps the disk is full: the next look tries again
                self._address.write(self._address_file)
        if self._address.http is None:
            self._log.rotate()
        return None

    def _has_seat(self) -> bool:
        return self._palace_is_there() and (self._lock is None or self._lock.is_current())

    def _palace_is_there(self) -> bool:
        try:
            return identity_of(self._palace) == self._identity
        except OSError:
            return False

    def _private_reason(self) -> str | None:
        if self._server.sessions:
            return None
        grace = 0.0 if self._server.opened else FIRST_SESSION_SECONDS
        return "idle" if time.monotonic() - self._last_used >= grace else None

    def _is_idle(self) -> bool:
        now = time.monotonic()
        if self._server.sessions or self._server.opened != self._last_opened or self._app.activity.statistics().running:
            self._last_used, self._last_opened = now, self._server.opened
            return False
        unused = now - self._last_used
        grace = 0.0 if self._server.opened else FIRST_SESSION_SECONDS
        if unused < max(grace, self._app.settings.idle_seconds):
            return False
        return (self._app.indexer.idle and self._hooks.idle) or unused > LONGEST_WORK_SECONDS


logger = logging.getLogger(__name__)

ADMISSION_PAUSE_SECONDS = 0.5
_HOOKS = "hooks"
"""Whose calls those for hooks are."""


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """Serves HTTP clients at `url`, from the call of `serve` until its event is set."""

    url: str
    serve: Callable[[anyio.Event], Awaitable[None]]


class Daemon:
    """One process that serves a palace; `serve` runs once. Without a lock it serves one session alone, or HTTP."""

    def __init__(self, app: App, lock: FileLock | None = None, http: HttpTransport | None = None) -> None:
        self.app = app
        self.hooks = HookReader(app.palace, app.settings.palace)
        self.leaving = anyio.Event()
        self._reason = ""
        self._address_file = str(app.settings.palace / ipc.ADDRESS_FILE)
        self._lock = lock
        self._http = http
        self._started = time.time()
        self._server: SocketServer | None = None

    @property
    def reason(self) -> str:
        """Why it leaves: `stopped`, `retiring` for another process, `idle`, `missing` palace, or a `signal`."""
        return self._reason

    def leave(self, reason: str) -> None:
        """Begin to leave; the first reason counts."""
        if not self.leaving.is_set():
            logger.info("leaving: %s", reason)
            self._reason = reason
            self.leaving.set()

    def describe(self) -> dict[str, Any]:
        """Process, version, health and sessions, JSON-safe."""
        hellos = list(self._server.sessions.values()) if self._server else []
        report = self.app.health.snapshot()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "palace": self.app.settings.shown,
            "uptime_seconds": round(time.time() - self._started, 3),
            "http": self._http.url if self._http else None,
            "elected": self._lock is not None,
            "health": {
                "status": report.status.value,
                "reasons": [
                    {"code": issue.code, "message": issue.message, "remedy": issue.remedy} for issue in report.reasons
                ],
            },
            "sessions": [
                {"pid": hello.pid, "version": hello.version, "tools": hello.profile, "read_only": hello.read_only}
                for hello in hellos
            ],
        }

    def report(self) -> dict[str, Any]:
        """The same, and under `view` the `status` of sessions, without the palace's sizes."""
        view = self.app.process_status()
        return {**self.describe(), "view": {**view, "timezone": self.app.settings.zone.name}}

    async def take_hook(self, fields: Mapping[str, str]) -> str | None:
        """What is known of the project of a session that starts."""
        return await self.app.executor.run(_HOOKS, self.hooks.greet, fields)

    async def serve(self, ready: Callable[[DaemonAddress], None]) -> None:
        """Serve until there is a reason to leave, then finish what takes little time. `ready` is called when it
        listens.

        Raises:
            ConfigurationError: there is no folder for its socket.
            OSError: it cannot listen.
        """
        palace, url = str(self.app.settings.palace), self._http.url if self._http else None
        if self._http is not None and not self._takes_sessions:
            await self._serve_http_alone(self._http)
            return
        with stop_on_signal() as stop, listening(palace, url) as (listener, address):
            self._server = SocketServer(self, address)
            async with anyio.create_task_group() as connections:
                connections.start_soon(self._serve_http)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._leave_at, stop)
                    tasks.start_soon(_accept, listener, self._server, connections)
                    await self._serve_until_leaving(
                        IdleMonitor(self.app, self._server, self.hooks, address, self._address_file, self._lock),
                        address,
                        ready,
                    )
                    tasks.cancel_scope.cancel()

    async def _serve_until_leaving(
        self, idle_monitor: IdleMonitor, address: DaemonAddress, ready: Callable[[DaemonAddress], None]
    ) -> None:
        """Publish the address, if this is the daemon, until there is a reason to leave."""
        if self._lock is not None:
            self._publish(address)
        try:
            ready(address)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(idle_monitor.watch, self.leave)
                tasks.start_soon(self._watch)
                await self.leaving.wait()
                tasks.cancel_scope.cancel()
        finally:
            if self._lock is not None:
                address.remove(self._address_file)

    def _publish(self, address: DaemonAddress) -> None:
        """Write the address for bridges.

        Raises:
            OSError: it cannot be written, and without bridges there is nobody to serve.
        """
        try:
            address.write(self._address_file)
        except OSError:
            if self._http is None or self.app.settings.url is None:
                raise
            logger.info("no session finds this process: %s cannot be written", self._address_file)

    async def _watch(self) -> None:
        if self._http is None:  # else the HTTP transports do
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.app.health.watch)
                tasks.start_soon(self.app.feed.watch)

    @property
    def _takes_sessions(self) -> bool:
        """Can bridges find it? Of a palace on a server this machine's directory may be gone, and HTTP needs none."""
        settings = self.app.settings
        return self._lock is not None and (settings.url is None or settings.palace.is_dir())

    async def _serve_http_alone(self, http: HttpTransport) -> None:
        """Serve a palace on a server whose stdio sessions another process serves, or nobody: no disk is needed."""
        with stop_on_signal() as stop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._leave_at, stop)
                await http.serve(self.leaving)
                tasks.cancel_scope.cancel()

    async def _serve_http(self) -> None:
        if self._http is not None:
            await self._http.serve(self.leaving)

    async def _leave_at(self, stop: anyio.Event) -> None:
        await stop.wait()
        self.leave("signal")


async def _accept(listener: socket.socket, server: SocketServer, connections: TaskGroup) -> None:
    """Accept connections; wait a little when the system has no descriptor for one."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
            connections.start_soon(server, connection)
        except OSError as error:
            logger.warning("a connection cannot be taken now: %s", error)
            await anyio.sleep(ADMISSION_PAUSE_SECONDS)


def run_daemon(
    open_app: Callable[[], App],
    lock: FileLock | None,
    ready: Callable[[DaemonAddress], None],
    http: Callable[[App], HttpTransport] | None = None,
) -> Mapping[str, Any]:
    """Open the palace, serve it, and close it; the caller frees the lock after that. Its last description.

    Without a lock no address is published; `ready` gets it.

    Raises:
        PalaceError: the palace cannot be opened.
        OSError: it cannot listen.
    """
    share_one_heap()
    monitor.raise_limit()
    with contextlib.closing(open_app()) as app, app.watchdog.on_signal():
        app.start()
        daemon = Daemon(app, lock, http(app) if http else None)
        with contextlib.closing(daemon.hooks):
            if lock is not None:
                daemon.hooks.start()
            run_loop(daemon.serve, ready)
        return daemon.describe()
