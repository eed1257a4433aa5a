"""What changes in the palace, whichever process writes: looked up in the truth now and then, while somebody listens."""

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
"""From one look to the next: what happens in between is told together."""

_CLIENT = "feed"

T = TypeVar("T")


class Runner(Protocol):
    """Runs blocking work; `runtime.executor.Executor` does."""

    async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
        """Run the function for the client in a thread."""
        ...


class Listener(Protocol):
    """Somebody who wants to hear of changes."""

    @property
    def drawer_ids(self) -> Collection[str]:
        """The drawers in question; places are told of in any case."""
        ...

    def notify(self, changes: Changes | None) -> None:
        """Take note; None means that anything may have changed."""
        ...


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    """Who listens; looks that found something, and looks that failed, since the process began."""

    listeners: int
    told: int
    failed: int


class ChangeFeed:
    """Tells every listener what was committed since the last look. Used from the event loop alone.

    While nobody listens nothing is looked up.
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
        """Tell the listener of everything that is committed from now on.

        Raises:
            PalaceError: the palace cannot be read.
        """
        if not self._listeners:
            now, _ = await self._executor.run(_CLIENT, self._look, None, ())
            if not self._listeners:  # nobody else has come meanwhile
                self._since = now
        self._listeners[listener] = None
        self._joined.set()

    def leave(self, listener: Listener) -> None:
        """Tell it nothing more."""
        self._listeners.pop(listener, None)
        if not self._listeners:
            self._joined.clear()

    async def watch(self) -> None:
        """Look now and then, for ever."""
        while True:
            await self._joined.wait()
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._look_round()
            except PalaceError:  # busy, or the files are gone for now: the next look tells it all
                self._failed += 1
            except Exception:  # whatever it is, whoever listens needs the next look, and the process is not to end
                self._failed += 1
                logger.exception("a look at what has changed failed")

    def statistics(self) -> FeedStatistics:
        """Counts."""
        return FeedStatistics(len(self._listeners), self._told, self._failed)

    async def _look_round(self) -> None:
        since, wanted = self._since, self._wanted()
        stamp, changes = await self._executor.run(_CLIENT, self._look, since, wanted)
        if stamp == since or not self._wanted() <= wanted:  # then the next look is for those who came meanwhile, too
            return
        self._since = stamp
        self._told += 1
        for listener in list(self._listeners):
            listener.notify(changes)

    def _wanted(self) -> set[str]:
        return {drawer_id for listener in self._listeners for drawer_id in listener.drawer_ids}

    def _look(self, since: Stamp | None, wanted: Collection[str]) -> tuple[Stamp, Changes | None]:
        """The last unit of work and what changed; a palace that is older than before is another one."""
        with self._reader.read() as connection:
            stamp = Stamp.last(connection)
            if since is None or stamp.seq <= since.seq:
                return stamp, None
            return stamp, changes_since(connection, since, wanted)
