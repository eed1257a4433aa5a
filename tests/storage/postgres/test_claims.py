"""Several servers at work on one palace: each passage is embedded by one of them, each task done by one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import Busy
from mempalace_mcp.core.model import Chunk, Priority
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.postgres.connection import connect
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.turns import LeasedTurns
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.turns import Task
from tests.postgres_server import Server, fresh_schema
from tests.storage.support import ROOT, soon

SHORT_SECONDS = 0.6
WAIT_SECONDS = 30

_CLAIMING = """
import sys, time
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.core.model import Priority
from mempalace_mcp.storage.postgres.turns import LeasedTurns
from mempalace_mcp.storage.turns import Task
turns = LeasedTurns(read_url(sys.argv[1]), seconds=4)
print(len(turns.claim(None, 4, Priority.INTERACTIVE)), turns.lead(Task.TOKENS), flush=True)
time.sleep(60)
"""
"""A server that claims passages and takes a lease, and then does nothing."""


@pytest.fixture
def servers(url: PalaceUrl, database: PostgresDatabase) -> Iterator[Callable[..., LeasedTurns]]:
    """Makes the turns of one more server."""
    with ExitStack() as stack:

        def server(seconds: float = 60.0) -> LeasedTurns:
            return stack.enter_context(closing(LeasedTurns(url, seconds=seconds)))

        yield server


def file_pending(database: PostgresDatabase, passages: int, *, bulk: bool = False, text: str = "passage") -> list[int]:
    """Drawers of two passages each, none of which has a vector; the numbers of the passages."""

    def work(tx: Transaction) -> list[int]:
        connection, chunks = tx.connection, []
        connection.execute("INSERT INTO wings (key, name) VALUES ('w', 'w') ON CONFLICT DO NOTHING")
        connection.execute("INSERT INTO rooms (wing, key, name) VALUES (1, 'r', 'r') ON CONFLICT DO NOTHING")
        for number in range(passages // 2):
            (drawer,) = connection.execute(
                "INSERT INTO drawers (drawer_id, wing, room, created_at, updated_at, seq, content_hash,"
                " normalized_hash, content) VALUES (?, 1, 1, 0, 0, ?, ?, ?, ?) RETURNING id",
                (f"{tx.stamp.seq}-{number}", tx.stamp.seq, b"", b"", f"{text} {number}"),
            ).fetchone()
            for ordinal, (start, stop) in enumerate([(0, len(text)), (len(text) + 1, len(text) + 9)]):
                (chunk,) = connection.execute(
                    "INSERT INTO chunks (drawer, ordinal, start, stop) VALUES (?, ?, ?, ?) RETURNING id",
                    (drawer, ordinal, start, stop),
                ).fetchone()
                connection.execute("INSERT INTO pending (chunk, bulk) VALUES (?, ?)", (chunk, int(bulk)))
                chunks.append(chunk)
        return chunks

    return database.write(work, soon())


def claim(turns: LeasedTurns, limit: int, priority: Priority = Priority.INTERACTIVE) -> list[int]:
    """The numbers of the passages that are claimed."""
    return [each.chunk for each in claimed(turns, limit, priority)]


def claimed(turns: LeasedTurns, limit: int, priority: Priority) -> list[Chunk]:
    return turns.claim(None, limit, priority)  # type: ignore[arg-type]  # it has a connection of its own


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_passage_is_claimed_once(servers: Callable[..., LeasedTurns], database: PostgresDatabase) -> None:
    chunks = file_pending(database, 10)
    one, two = servers(), servers()
    assert claim(one, 4) == chunks[:4]
    assert claim(two, 4) == chunks[4:8]
    assert claim(one, 4) == chunks[8:]
    assert claim(two, 4) == []


def test_a_claim_brings_the_text(servers: Callable[..., LeasedTurns], database: PostgresDatabase) -> None:
    file_pending(database, 4, text="Grüße 🦊 from")
    texts = [each.text for each in claimed(servers(), 4, Priority.INTERACTIVE)]
    assert texts == ["Grüße 🦊 from", "0", "Grüße 🦊 from", "1"]


def test_priorities_are_claimed_apart(servers: Callable[..., LeasedTurns], database: PostgresDatabase) -> None:
    bulk, interactive = file_pending(database, 6, bulk=True), file_pending(database, 2)
    turns = servers()
    assert claim(turns, 10) == interactive
    assert claim(turns, 10, Priority.BULK) == bulk


def test_servers_at_once_share_without_overlap(servers: Callable[..., LeasedTurns], database: PostgresDatabase) -> None:
    chunks = file_pending(database, 600, bulk=True)

    def empty(turns: LeasedTurns) -> list[int]:
        mine: list[int] = []
        while more := claim(turns, 7, Priority.BULK):
            assert len(more) <= 7
            mine += more
        return mine

    with ThreadPoolExecutor(6) as pool:
        shares = list(pool.map(empty, [servers() for _ in range(6)]))
    assert sorted(chain(*shares)) == chunks
    assert sum(bool(share) for share in shares) > 1


def test_what_a_dead_server_has_claimed_is_free_again(
    servers: Callable[..., LeasedTurns], database: PostgresDatabase, url: PalaceUrl
) -> None:
    chunks = file_pending(database, 6)
    address = f"{url.conninfo}?schema={url.schema}"
    process = subprocess.Popen([sys.executable, "-c", _CLAIMING, address], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "4 True\n"
        process.kill()
        process.wait()
    turns = servers(SHORT_SECONDS)
    assert claim(turns, 10) == chunks[4:]
    assert not turns.lead(Task.TOKENS)
    wait_for(lambda: claim(turns, 10) == chunks[:4])
    wait_for(lambda: turns.lead(Task.TOKENS))


def test_what_was_not_stored_in_time_is_free_again(
    servers: Callable[..., LeasedTurns], database: PostgresDatabase
) -> None:
    chunks = file_pending(database, 4)
    assert claim(servers(3.0), 4) == chunks
    other = servers()
    assert claim(other, 4) == []
    wait_for(lambda: claim(other, 4) == chunks)
    assert claim(other, 4) == []


def test_a_write_under_way_does_not_hold_up_claims(
    servers: Callable[..., LeasedTurns], database: PostgresDatabase
) -> None:
    """It has the palace's lock and some of the rows."""
    chunks = file_pending(database, 6)
    turns, began, done = servers(), threading.Event(), threading.Event()

    def work(tx: Transaction) -> None:
        assert tx.connection.execute("DELETE FROM pending WHERE chunk <= ?", (chunks[1],)).rowcount == 2
        tx.mark_changed()
        began.set()
        assert done.wait(WAIT_SECONDS)

    writing = threading.Thread(target=lambda: database.write(work, soon()))
    writing.start()
    assert began.wait(WAIT_SECONDS)
    assert claim(turns, 10) == chunks[2:]
    done.set()
    writing.join()
    assert claim(servers(), 10) == []


def test_one_server_has_a_lease(servers: Callable[..., LeasedTurns]) -> None:
    one, two = servers(), servers(SHORT_SECONDS)
    for task in Task:
        assert one.lead(task)
        assert one.lead(task)
        assert not two.lead(task)
    one.release()
    wait_for(lambda: two.lead(Task.MOVE))
    wait_for(lambda: two.lead(Task.TOKENS))
    assert not two.lead(Task.TIDY)


def test_leases_given_back_at_the_end(servers: Callable[..., LeasedTurns]) -> None:
    one, two = servers(), servers(SHORT_SECONDS)
    assert one.lead(Task.TIDY)
    one.close()
    assert two.lead(Task.TIDY)


def test_a_lease_that_is_used_is_kept(servers: Callable[..., LeasedTurns]) -> None:
    one, two = servers(2.0), servers(SHORT_SECONDS)
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        assert one.lead(Task.MOVE)
        assert not two.lead(Task.MOVE)
        time.sleep(0.02)
    wait_for(lambda: two.lead(Task.MOVE))


def test_servers_that_ask_at_once_get_one_lease(servers: Callable[..., LeasedTurns]) -> None:
    everyone = [servers() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda turns: turns.lead(Task.TIDY), everyone)) == 1


def test_a_connection_that_was_lost_is_replaced(
    servers: Callable[..., LeasedTurns], database: PostgresDatabase
) -> None:
    chunks = file_pending(database, 4)
    turns = servers()
    assert claim(turns, 2) == chunks[:2]
    with closing(connect(database.url)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND application_name LIKE 'mempalace-mcp %'"
        )
    assert claim(turns, 2) == chunks[2:]


def test_without_a_server_it_is_said(own_server: Server, tmp_path: Path) -> None:
    with fresh_schema(own_server.address) as url, closing(PostgresDatabase(url, tmp_path)) as database:
        file_pending(database, 4)
        turns = LeasedTurns(url)
        assert turns.lead(Task.TIDY)
        own_server.kill()
        with pytest.raises(Busy):
            claim(turns, 2)
        turns.close()
        own_server.start()
        assert len(claim(turns, 2)) == 2
        turns.close()
