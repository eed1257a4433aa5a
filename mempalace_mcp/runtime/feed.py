"""The feed of changes to the palace by any process. It polls the database while there are listeners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.model import Changes
from mempalace_mcp.storage.connection import Reader
from mempalace_mcp.storage.queries import changes_since
from mempalace_mcp.storage.transactions import Stamp

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Pause between polls. Changes in between are reported together."""

_CLIENT = "feed"

T = TypeVar("T")


class Runner(Protocol):
    """Runs blocking work; `runtime.executor.Executor` does."""

    async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
        """Run the function for the client in a thread."""
        ...


class Listener(Protocol):
    """A receiver of changes."""

    @property
    def drawer_ids(self) -> Collection[str]:
        """The drawers whose changes it wants; it always gets those of wings and rooms."""
        ...

    def notify(self, changes: Changes | None) -> None:
        """Receive changes; None means that anything may have changed."""
        ...


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    """Listeners now; polls that found a change (`told`), and polls that failed, since the process started."""

    listeners: int
    told: int
    failed: int


class ChangeFeed:
    """Notifies every listener of what was committed since the last poll. For the event loop alone.

    Without listeners it does not poll.
    """

    def __init__(self, reader: Reader, executor: Runner, poll_seconds: float = POLL_SECONDS) -> None:
        self._reader = reader
        self._executor = executor
        self._poll_seconds = poll_seconds
        self._listeners: dict[Listener, None] = {}
        self._joined = asyncio.Event()
        self._since = Stamp(0, 0)
        self._told = 0
        self._failed = 0

    async def join(self, listener: Listener) -> None:
        """Notify the listener of everything that is committed from now on.

        Raises:
            PalaceError: the palace cannot be read.
        """
        if not self._listeners:
            now, _ = await self._executor.run(_CLIENT, self._read_changes, None, ())
            if not self._listeners:  # nobody else has come meanwhile
                self._since = now
        self._listeners[listener] = None
        self._joined.set()

    def leave(self, listener: Listener) -> None:
        """Stop notifying the listener."""
        self._listeners.pop(listener, None)
        if not self._listeners:
            self._joined.clear()

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._joined.wait()
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._poll()
            except PalaceError:  # busy, or the files are gone for now: the next poll reports everything
                self._failed += 1
            except Exception:  # listeners need the next poll, and the process must not end
                self._failed += 1
                logger.exception("looking for changes failed")

    def statistics(self) -> FeedStatistics:
        """The figures now."""
        return FeedStatistics(len(self._listeners), self._told, self._failed)

    async def _poll(self) -> None:
        since, wanted = self._since, self._wanted()
        stamp, changes = await self._executor.run(_CLIENT, self._read_changes, since, wanted)
        if (
            stamp == since or not self._wanted() <= wanted
        ):  # new listeners came meanwhile: the next poll is for them, too
            return
        self._since = stamp
        self._told += 1
        for listener in list(self._listeners):
            listener.notify(changes)

    def _wanted(self) -> set[str]:
        return {drawer_id for listener in self._listeners for drawer_id in listener.drawer_ids}

    def _read_changes(self, since: Stamp | None, wanted: Collection[str]) -> tuple[Stamp, Changes | None]:
        """The last unit of work, and the changes; None if the palace was replaced by an older one."""
        with self._reader.read() as connection:
            stamp = Stamp.last(connection)
            if since is None or stamp.seq <= since.seq:
                return stamp, None
            return stamp, changes_since(connection, since, wanted)
