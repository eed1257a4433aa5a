"""The one process that serves a palace: bridges through its socket, and HTTP clients if it was asked to."""

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
from anyio.abc import TaskGroup

from mempalace_mcp import __version__
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.door import Door
from mempalace_mcp.process.life import Life
from mempalace_mcp.process.listening import listening
from mempalace_mcp.process.seat import Seat
from mempalace_mcp.protocol.stdio import stop_on_signal
from mempalace_mcp.runtime import descriptors
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.loop import run_loop
from mempalace_mcp.runtime.memory import share_one_heap

logger = logging.getLogger(__name__)

ADMISSION_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class HttpDoor:
    """Where HTTP clients come in; `serve` lets them, until the event is set."""

    url: str
    serve: Callable[[anyio.Event], Awaitable[None]]


class Daemon:
    """Runs once, from `serve` to its end."""

    def __init__(self, app: App, seat: Seat | None = None, http_door: HttpDoor | None = None) -> None:
        self.app = app
        self.leaving = anyio.Event()
        self._reason = ""
        self._address_file = str(app.settings.palace / addresses.FILE)
        self._seat = seat
        self._http = http_door
        self._started = time.time()
        self._door: Door | None = None

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
            "elected": self._seat is not None,
            "health": {
                "status": report.status.value,
                "reasons": [
                    {"code": concern.code, "message": concern.message, "remedy": concern.reason.remedy}
                    for concern in report.reasons
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

    async def serve(self, ready: Callable[[Address], None]) -> None:
        """Serve until there is a reason to leave; then finish what is in flight. `ready` hears when it listens.

        Raises:
            ConfigurationError: it finds no folder for its socket.
            OSError: it cannot listen.
        """
        palace, url = str(self.app.settings.palace), self._http.url if self._http else None
        with stop_on_signal() as stop, listening(palace, url) as (plain, address):
            self._door = Door(self, address)
            async with anyio.create_task_group() as doors:
                doors.start_soon(self._serve_http)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._leave_at, stop)
                    tasks.start_soon(_admit, plain, self._door, doors)
                    await self._live(
                        Life(self.app, self._door, address, self._address_file, self._seat), address, ready
                    )
                    tasks.cancel_scope.cancel()

    async def _live(self, life: Life, address: Address, ready: Callable[[Address], None]) -> None:
        """From the moment others can find this process, if they may, to the moment it takes nobody any more."""
        if self._seat is not None:
            address.write(self._address_file)
        try:
            ready(address)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(life.watch, self.leave)
                tasks.start_soon(self._watch)
                await self.leaving.wait()
                tasks.cancel_scope.cancel()
        finally:
            if self._seat is not None:
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


async def _admit(listener: socket.socket, door: Door, doors: TaskGroup) -> None:
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
    seat: Seat | None,
    ready: Callable[[Address], None],
    http_door: Callable[[App], HttpDoor] | None = None,
) -> Mapping[str, Any]:
    """Open the palace, serve it, and close it before anybody else may have the seat. How it was when it left.

    Without a seat nobody finds it but whoever is told the address by `ready`.

    Raises:
        PalaceError: the palace cannot be opened.
        OSError: it cannot listen.
    """
    share_one_heap()
    descriptors.raise_limit()
    with contextlib.closing(open_app()) as app, app.watchdog.on_signal():
        app.start()
        daemon = Daemon(app, seat, http_door(app) if http_door else None)
        run_loop(daemon.serve, ready)
        return daemon.describe()
