from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mempalace_mcp.core.model import Changes
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.feed import ChangeFeed
from tests.palace.support import database_of, opened

T = TypeVar("T")


class Ear:
    """Remembers what it hears."""

    def __init__(self, *drawer_ids: str) -> None:
        self.drawer_ids: Collection[str] = drawer_ids
        self.heard: asyncio.Queue[Changes | None] = asyncio.Queue()

    def notify(self, changes: Changes | None) -> None:
        self.heard.put_nowait(changes)

    async def next(self) -> Changes | None:
        return await asyncio.wait_for(self.heard.get(), 30)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path, started=False) as app:
        yield app


@asynccontextmanager
async def watched(app: App) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(app.database, app.executor, poll_seconds=0.01)
    watching = asyncio.create_task(feed.watch())
    yield feed
    watching.cancel()


async def test_each_change_is_told_once_to_everybody_who_has_joined(app: App) -> None:
    drawer = app.palace.add_drawer("a", "before", "text").drawer_id
    async with watched(app) as feed:
        first, second = Ear(drawer), Ear()
        await feed.join(first)
        app.palace.add_drawer("a", "one", "text")
        assert await first.next() == Changes(frozenset({("a", "one")}), frozenset())
        await feed.join(second)
        app.palace.update_drawer(drawer, content="new text")
        both = await first.next(), await second.next()
        assert both == (Changes(frozenset({("a", "before")}), frozenset({drawer})),) * 2
        feed.leave(second)
        app.palace.add_drawer("b", "two", "text")
        assert await first.next() == Changes(frozenset({("b", "two")}), frozenset())
        assert (first.heard.qsize(), second.heard.qsize()) == (0, 0)


async def test_nobody_hears_of_what_was_written_while_nobody_listened(app: App) -> None:
    async with watched(app) as feed:
        ear = Ear()
        await feed.join(ear)
        feed.leave(ear)
        app.palace.add_drawer("a", "unheard", "text")
        await feed.join(ear)
        app.palace.add_drawer("a", "heard", "text")
        assert await ear.next() == Changes(frozenset({("a", "heard")}), frozenset())


async def test_another_palace_in_its_place_may_have_changed_anything(app: App, tmp_path: Path) -> None:
    empty = tmp_path / "backup.db"
    database_of(app).backup(empty)
    async with watched(app) as feed:
        ear = Ear()
        await feed.join(ear)
        app.palace.add_drawer("a", "r", "text")
        assert await ear.next()
        database_of(app).checkpoint()
        for name in ("palace.db-wal", "palace.db-shm"):
            (tmp_path / name).unlink()
        empty.replace(tmp_path / "palace.db")
        app.database.reopen()
        assert await ear.next() is None
        assert feed.statistics().failed >= 0
        app.palace.add_drawer("b", "r", "text")
        assert await ear.next() == Changes(frozenset({("b", "r")}), frozenset())


class Gate:
    """Runs work as the executor does; what arrives while it is shut waits before it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.arrived = asyncio.Event()
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
        self.arrived.set()
        await self.is_open.wait()
        return await self._executor.run(client, function, *args)


async def test_whoever_joins_while_a_look_waits_for_a_thread_misses_nothing(app: App) -> None:
    drawer = app.palace.add_drawer("a", "r", "text").drawer_id
    gate = Gate(app.executor)
    feed = ChangeFeed(app.database, gate, poll_seconds=0)
    await feed.join(Ear())
    gate.is_open.clear()
    gate.arrived.clear()
    watching = asyncio.create_task(feed.watch())
    await gate.arrived.wait()
    ear = Ear(drawer)
    await feed.join(ear)
    app.palace.update_drawer(drawer, content="new text")
    gate.is_open.set()
    assert await ear.next() == Changes(frozenset({("a", "r")}), frozenset({drawer}))
    watching.cancel()


async def test_a_look_that_fails_is_not_the_last_one(app: App, caplog: pytest.LogCaptureFixture) -> None:
    class Exhausted(Gate):
        async def run(self, client: Hashable, function: Callable[..., T], *args: Any) -> T:
            if not self.is_open.is_set():
                self.is_open.set()
                raise RuntimeError("can't start new thread")  # as the system says it
            return await super().run(client, function, *args)

    gate = Exhausted(app.executor)
    feed = ChangeFeed(app.database, gate, poll_seconds=0)
    ear = Ear()
    await feed.join(ear)
    gate.is_open.clear()
    watching = asyncio.create_task(feed.watch())
    app.palace.add_drawer("a", "r", "text")
    assert await ear.next() == Changes(frozenset({("a", "r")}), frozenset())
    assert (feed.statistics().failed, len(caplog.records)) == (1, 1)
    watching.cancel()
