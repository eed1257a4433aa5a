"""Whether a daemon still has a reason to live: sessions or work, its palace, its seat."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import anyio
import anyio.to_thread

from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.door import Door
from mempalace_mcp.process.hello import identity_of
from mempalace_mcp.process.log import Log
from mempalace_mcp.process.seat import Seat
from mempalace_mcp.runtime.app import App

LOOK_SECONDS = 0.5
LONGEST_WORK_SECONDS = 1800.0
"""Without sessions, what is to be embedded or indexed keeps a daemon alive so long at most."""

FIRST_SESSION_SECONDS = 30.0
"""A process leaves if the session for which it was started does not come for so long."""


class Life:
    """Looks around twice a second."""

    def __init__(self, app: App, door: Door, address: Address, address_file: str, seat: Seat | None) -> None:
        self._app = app
        self._door = door
        self._address = address
        self._address_file = address_file
        self._seat = seat
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
        if self._seat is None:
            return self._end_of_private_life()
        return "idle" if self._address.http is None and self._is_idle() else None

    def _look_at_files(self) -> str | None:
        """Why the files say that this process is to leave, if they do; what it owes them is seen to."""
        if not self._palace_is_there():
            return "missing"
        if self._seat is None:
            return None
        if not self._seat.is_current():
            return "retiring"
        if Address.read(self._address_file) is None:
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
