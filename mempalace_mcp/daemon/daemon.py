"""The daemon of a palace: its services, its sessions, and how long it lives.

Whether a daemon still has a reason to live: sessions or work, its palace, the daemon lock.

The one process that serves a palace: bridges through its socket, and HTTP clients if it was asked to.
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
from mempalace_mcp.daemon import ipc as addresses
from mempalace_mcp.daemon.daemon_session import SocketServer
from mempalace_mcp.daemon.entry import Log, listening
from mempalace_mcp.daemon.ipc import DaemonAddress, identity_of
from mempalace_mcp.runtime import monitor
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.event_loop import run_loop
from mempalace_mcp.runtime.monitor import share_one_heap
from mempalace_mcp.server.stdio import stop_on_signal

LOOK_SECONDS = 0.5
LONGEST_WORK_SECONDS = 1800.0
"""Without sessions, what is to be embedded or indexed keeps a daemon alive so long at most."""

FIRST_SESSION_SECONDS = 30.0
"""A process leaves if the session for which it was started does not come for so long."""


class IdleMonitor:
    """Looks around twice a second."""

    def __init__(
        self, app: App, door: SocketServer, address: DaemonAddress, address_file: str, lock: FileLock | None
    ) -> None:
        self._app = app
        self._door = door
        self._address = address
        self._address_file = address_file
        self._lock = lock
        self._palace = str(app.settings.palace)
        self._identity = identity_of(self._palace)
        self._log = Log(app.settings.palace / addresses.LOG)
        self._last_used = time.monotonic()
        self._last_opened = 0

    async def watch(self, leave: Callable[[str], None]) -> None:
        """Call `leave` with the reason as soon as there is one."""
        while (reason := await self._reason_to_leave()) is None:
            await anyio.sleep(LOOK_SECONDS)
        leave(reason)

    async def _reason_to_leave(self) -> str | None:
        # In a thread, for a disk may hang; the executor could be full, and with it nobody would look at all.
        changed = await anyio.to_thread.run_sync(self._look_at_files, abandon_on_cancel=True)
        if changed is not None:
            return changed
        if self._lock is None:
            return self._end_of_private_life()
        return "idle" if self._address.http is None and self._is_idle() else None

    def _look_at_files(self) -> str | None:
        """Why the files say that this process is to leave, if they do; what it owes them is seen to."""
        if not self._palace_is_there():
            return "missing"
        if self._lock is None:
            return None
        if not self._lock.is_current():
            return "retiring"
        if DaemonAddress.read(self._address_file) is None:
            with contextlib.suppress(OSError):  # for want of space, perhaps: the next look tries again
                self._address.write(self._address_file)
        if self._address.http is None:
            self._log.rotate()
        return None

    def _palace_is_there(self) -> bool:
        try:
            return identity_of(self._palace) == self._identity
        except OSError:
            return False

    def _end_of_private_life(self) -> str | None:
        if self._door.sessions:
            return None
        patience = 0.0 if self._door.opened else FIRST_SESSION_SECONDS
        return "idle" if time.monotonic() - self._last_used >= patience else None

    def _is_idle(self) -> bool:
        now = time.monotonic()
        if self._door.sessions or self._door.opened != self._last_opened or self._app.activity.statistics().running:
            self._last_used, self._last_opened = now, self._door.opened
            return False
        unused = now - self._last_used
        patience = 0.0 if self._door.opened else FIRST_SESSION_SECONDS
        if unused < max(patience, self._app.settings.idle_seconds):
            return False
        return self._app.indexer.idle or unused > LONGEST_WORK_SECONDS


logger = logging.getLogger(__name__)

ADMISSION_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """Where HTTP clients come in; `serve` lets them, until the event is set."""

    url: str
    serve: Callable[[anyio.Event], Awaitable[None]]


class Daemon:
    """Runs once, from `serve` to its end."""

    def __init__(self, app: App, lock: FileLock | None = None, http_door: HttpTransport | None = None) -> None:
        self.app = app
        self.leaving = anyio.Event()
        self._reason = ""
        self._address_file = str(app.settings.palace / addresses.FILE)
        self._lock = lock
        self._http = http_door
        self._started = time.time()
        self._door: SocketServer | None = None

    @property
    def reason(self) -> str:
        """Why it leaves: `stopped`, `retiring` for another process, `idle`, `missing` palace, or a `signal`."""
        return self._reason

    def leave(self, reason: str) -> None:
        """Begin to end; the first reason counts."""
        if not self.leaving.is_set():
            logger.info("leaving: %s", reason)
            self._reason = reason
            self.leaving.set()

    def describe(self) -> dict[str, Any]:
        """Process, version, health and sessions, JSON-safe."""
        hellos = list(self._door.sessions.values()) if self._door else []
        report = self.app.health.snapshot()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "palace": str(self.app.settings.palace),
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
        """The same, and under `view` what a session is told by `status`, but for the palace's sizes."""
        view = self.app.process_status()
        return {**self.describe(), "view": {**view, "timezone": self.app.settings.zone.name}}

    async def serve(self, ready: Callable[[DaemonAddress], None]) -> None:
        """Serve until there is a reason to leave; then finish what is in flight. `ready` hears when it listens.

        Raises:
            ConfigurationError: it finds no folder for its socket.
            OSError: it cannot listen.
        """
        palace, url = str(self.app.settings.palace), self._http.url if self._http else None
        with stop_on_signal() as stop, listening(palace, url) as (plain, address):
            self._door = SocketServer(self, address)
            async with anyio.create_task_group() as doors:
                doors.start_soon(self._serve_http)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._leave_at, stop)
                    tasks.start_soon(_admit, plain, self._door, doors)
                    await self._live(
                        IdleMonitor(self.app, self._door, address, self._address_file, self._lock), address, ready
                    )
                    tasks.cancel_scope.cancel()

    async def _live(self, life: IdleMonitor, address: DaemonAddress, ready: Callable[[DaemonAddress], None]) -> None:
        """From the moment others can find this process, if they may, to the moment it takes nobody any more."""
        if self._lock is not None:
            address.write(self._address_file)
        try:
            ready(address)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(life.watch, self.leave)
                tasks.start_soon(self._watch)
                await self.leaving.wait()
                tasks.cancel_scope.cancel()
        finally:
            if self._lock is not None:
                address.remove(self._address_file)

    async def _watch(self) -> None:
        if self._http is None:  # else the HTTP doors do
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.app.health.watch)
                tasks.start_soon(self.app.feed.watch)

    async def _serve_http(self) -> None:
        if self._http is not None:
            await self._http.serve(self.leaving)

    async def _leave_at(self, stop: anyio.Event) -> None:
        await stop.wait()
        self.leave("signal")


async def _admit(listener: socket.socket, door: SocketServer, doors: TaskGroup) -> None:
    """Take one connection after the other; while the system has no descriptor for one, it waits."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
            doors.start_soon(door, connection)
        except OSError as error:
            logger.warning("a connection cannot be taken now: %s", error)
            await anyio.sleep(ADMISSION_PAUSE_SECONDS)


def run_daemon(
    open_app: Callable[[], App],
    lock: FileLock | None,
    ready: Callable[[DaemonAddress], None],
    http_door: Callable[[App], HttpTransport] | None = None,
) -> Mapping[str, Any]:
    """Open the palace, serve it, and close it before anybody else may have the daemon lock. How it was when it left.

    Without a lock nobody finds it but whoever is told the address by `ready`.

    Raises:
        PalaceError: the palace cannot be opened.
        OSError: it cannot listen.
    """
    share_one_heap()
    monitor.raise_limit()
    with contextlib.closing(open_app()) as app, app.watchdog.on_signal():
        app.start()
        daemon = Daemon(app, lock, http_door(app) if http_door else None)
        run_loop(daemon.serve, ready)
        return daemon.describe()
