"""Connections: the oldest SQLite that will do, and the pool of those that read."""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.storage.reader_pool import PoolClosed
from mempalace_mcp.storage.sqlite.connection import (
    OLDEST_SQLITE,
    SqliteConnection,
    SqliteReaders,
    open_reader,
    verify_sqlite,
)


class Opener:
    """Opens connections and remembers them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[SqliteConnection] = []

    def __call__(self) -> SqliteConnection:
        self.opened.append(open_reader(self.path))
        return self.opened[-1]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    path = tmp_path / "file.db"
    sqlite3.connect(path).close()
    return Opener(path)


@pytest.fixture
def pool(opener: Opener) -> Iterator[SqliteReaders]:
    pool = SqliteReaders(opener, 2)
    yield pool
    pool.close()


def test_connections_are_opened_when_needed_and_used_again(pool: SqliteReaders, opener: Opener) -> None:
    for _ in range(3):
        with pool.lend():
            assert pool.lent == 1
    assert len(opener.opened) == 1
    with pool.lend(), pool.lend():
        assert pool.lent == 2
    assert len(opener.opened) == 2
    assert pool.lent == 0


def test_who_finds_none_waits_for_one(pool: SqliteReaders, opener: Opener) -> None:
    arrived = threading.Event()

    def borrow() -> None:
        with pool.lend():
            arrived.set()

    thread = threading.Thread(target=borrow)
    with pool.lend():
        with pool.lend():
            thread.start()
            assert not arrived.is_set()
        thread.join()
    assert arrived.is_set()
    assert len(opener.opened) == 2


def test_a_transaction_left_open_is_rolled_back(pool: SqliteReaders) -> None:
    with pool.lend() as connection:
        connection.execute("BEGIN")
        assert connection.in_transaction
    with pool.lend() as connection:
        assert not connection.in_transaction


def test_a_connection_that_was_closed_is_replaced(pool: SqliteReaders, opener: Opener) -> None:
    with pool.lend() as connection:
        connection.close()
    with pool.lend() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(opener.opened) == 2


def test_a_connection_that_cannot_be_opened_costs_no_place(pool: SqliteReaders, opener: Opener) -> None:
    opener.path.rename(opener.path.with_name("elsewhere.db"))
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError), pool.lend():
            pass
    assert pool.lent == 0
    opener.path.with_name("elsewhere.db").rename(opener.path)
    with pool.lend(), pool.lend():
        assert pool.lent == 2


def test_a_closed_pool(pool: SqliteReaders, opener: Opener) -> None:
    with pool.lend():
        pass
    pool.close()
    with pytest.raises(PoolClosed), pool.lend():
        pass
    with pytest.raises(sqlite3.ProgrammingError):
        opener.opened[0].execute("SELECT 1")


def test_closing_wakes_who_waits(pool: SqliteReaders) -> None:
    outcome: list[str] = []

    def borrow() -> None:
        try:
            with pool.lend():
                outcome.append("lent")
        except PoolClosed:
            outcome.append("closed")

    waiting, closing = threading.Thread(target=borrow), threading.Thread(target=pool.close)
    with pool.lend(), pool.lend():
        waiting.start()
        closing.start()
        waiting.join()
    closing.join()
    assert outcome == ["closed"]


@pytest.mark.parametrize("version", [(3, 37, 2), (3, 9, 0), (2, 99, 99)])
def test_an_old_sqlite_is_refused_by_name(version: tuple[int, int, int]) -> None:
    verify_sqlite(OLDEST_SQLITE)
    verify_sqlite((3, 100, 0))
    with pytest.raises(ConfigurationError, match=re.escape(".".join(map(str, version)))) as caught:
        verify_sqlite(version)
    assert "3.38.0" in caught.value.message
    assert sys.executable in caught.value.message
