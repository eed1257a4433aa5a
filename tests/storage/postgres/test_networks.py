"""A palace behind a network that swallows what is sent, and closes nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.storage.postgres import connection as connections
from mempalace_mcp.storage.postgres import database as databases
from mempalace_mcp.storage.postgres import migrations, turns
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.turns import LeasedTurns
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.turns import Task
from tests.postgres_server import Server, fresh_schema, text_of
from tests.storage.postgres.networks import Relay
from tests.storage.support import add_wing, soon, wings

pytestmark = pytest.mark.long

WAIT_SECONDS = 50
SHORT: Mapping[Any, Mapping[str, float]] = {
    connections: {"ANSWER_SECONDS": 1},
    migrations: {"IDLE_SECONDS": 3},
    databases: {"IDLE_SECONDS": 3, "RECONNECT_SECONDS": 3.0, "RESTED_SECONDS": 1.0},
    turns: {"_STATEMENT_SECONDS": 1},
}
"""Times that are waited in vain."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, values in SHORT.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def relay(url: PalaceUrl) -> Iterator[Relay]:
    """The way of one server to the database; others have a way of their own."""
    with contextlib.closing(Relay(port_of(url))) as relay:
        yield relay


@pytest.fixture
def remote(url: PalaceUrl, relay: Relay) -> PalaceUrl:
    """The palace at the end of that way."""
    return through(relay, url)


@pytest.fixture
def cut_off(remote: PalaceUrl, tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A server that will be cut off."""
    with contextlib.closing(PostgresDatabase(remote, tmp_path)) as database:
        yield database


def through(relay: Relay, url: PalaceUrl) -> PalaceUrl:
    address = text_of(url).replace(f":{port_of(url)}", f":{relay.port}")
    return read_url(f"{address}&connect_timeout=2")


def port_of(url: PalaceUrl) -> int:
    return int(url.conninfo.rpartition(":")[2].partition("/")[0])


def test_a_reader_is_told_and_goes_on(cut_off: PostgresDatabase, relay: Relay) -> None:
    assert wings(cut_off) == []
    relay.cut()
    with pytest.raises(Busy, match="cannot be reached"):
        wings(cut_off)
    relay.mend()
    assert wings(cut_off) == []


def test_a_connection_that_went_dead_at_rest_is_replaced(cut_off: PostgresDatabase, relay: Relay) -> None:
    """As a firewall forgets connections that are not used."""
    cut_off.write(add_wing("before"), soon())
    assert wings(cut_off) == ["before"]
    relay.cut()
    relay.mend()
    threading.Event().wait(databases.RESTED_SECONDS + 0.5)
    assert wings(cut_off) == ["before"]
    cut_off.write(add_wing("after"), soon())
    assert wings(cut_off) == ["before", "after"]


def test_a_statement_that_is_not_answered(
    cut_off: PostgresDatabase, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "READ_SECONDS", 1)

    def ask() -> None:
        with cut_off.read() as connection:
            relay.cut()
            connection.execute("SELECT count(*) FROM drawers")

    with pytest.raises(Busy, match="no answer"):
        ask()
    relay.mend()
    assert wings(cut_off) == []


def test_the_lock_of_a_server_that_is_cut_off_is_free_again(
    cut_off: PostgresDatabase, database: PostgresDatabase, relay: Relay
) -> None:
    def work(tx: Transaction) -> None:
        add_wing("half done")(tx)
        relay.cut()
        add_wing("the other half")(tx)

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(cut_off.write, work, Deadline(4))
        assert relay.is_cut.wait(WAIT_SECONDS)
        database.write(add_wing("went on"), Deadline(30))
        with pytest.raises(Busy):
            lost.result(WAIT_SECONDS)
    assert wings(database) == ["went on"]
    relay.mend()
    cut_off.write(add_wing("again"), soon())
    assert wings(database) == ["went on", "again"]


@pytest.mark.parametrize("mended", [True, False])
def test_a_commit_that_is_not_answered(
    cut_off: PostgresDatabase, database: PostgresDatabase, relay: Relay, mended: bool
) -> None:
    runs = []

    def work(tx: Transaction) -> None:
        add_wing("once")(tx)
        runs.append(1)
        if len(runs) == 1:
            relay.cut_answers_to(b"COMMIT")

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(cut_off.write, work, Deadline(40 if mended else 1))
        assert relay.is_cut.wait(WAIT_SECONDS)
        if mended:
            relay.mend()
            written.result(WAIT_SECONDS)
        else:
            with pytest.raises(Busy, match="is not known"):
                written.result(WAIT_SECONDS)
    assert wings(database) == ["once"]
    assert len(runs) == 1


def test_a_server_that_starts_is_told(remote: PalaceUrl, relay: Relay, tmp_path: Path) -> None:
    relay.cut_at(b"pg_extension")
    with pytest.raises(Busy, match="no answer"):
        PostgresDatabase(remote, tmp_path).close()


def test_a_server_that_is_cut_off_while_it_makes_a_palace(
    url: PalaceUrl, remote: PalaceUrl, relay: Relay, tmp_path: Path
) -> None:
    """It is in the way of everybody who starts."""
    relay.cut_at(b"CREATE TABLE state")
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(PostgresDatabase, remote, tmp_path)
        assert relay.is_cut.wait(WAIT_SECONDS)
        with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
            database.write(add_wing("made by another"), soon())
            assert wings(database) == ["made by another"]
        relay.drop()
        with pytest.raises(Busy):
            lost.result(WAIT_SECONDS)


def test_a_reader_that_rests_keeps_its_snapshot_only_for_a_while(
    url: PalaceUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "REST_SECONDS", 1)

    def rest(database: PostgresDatabase) -> None:
        with database.read() as connection:
            threading.Event().wait(1.5)
            connection.execute("SELECT count(*) FROM drawers")

    with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
        with pytest.raises(Busy):
            rest(database)
        assert wings(database) == []


def test_claims_and_leases_do_not_wait_for_ever(remote: PalaceUrl, cut_off: PostgresDatabase, relay: Relay) -> None:
    with contextlib.closing(LeasedTurns(remote, seconds=1)) as leases:
        assert leases.lead(Task.TIDY)
        relay.cut()
        threading.Event().wait(1)
        with pytest.raises(Busy):
            leases.lead(Task.TIDY)
        relay.mend()
        assert leases.lead(Task.TIDY)


def test_no_limit_is_left_on_a_connection(cut_off: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may take long is waited for: the limit of a statement is its own."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.2)
    with cut_off.read() as connection:
        assert connection.execute("SELECT 1 FROM pg_sleep(0.8)").fetchone() == (1,)
    cut_off.write(lambda tx: tx.connection.execute("SELECT pg_sleep(0.8)"), soon())


@pytest.fixture
def forgetful() -> Iterator[Server]:
    """A server that writes down nothing before a COMMIT, and begins no transactions of its own."""
    server = Server(durable=True, settings={"wal_writer_delay": "10s", "autovacuum": "off"})
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_a_number_given_twice_is_not_taken_for_an_acknowledgement(forgetful: Server, tmp_path: Path) -> None:
    """After a crash PostgreSQL gives the number of a transaction of which nothing was written down to another one."""
    numbers = []

    def work(tx: Transaction) -> None:
        add_wing("lost and written again")(tx)
        numbers.append(tx.connection.execute("SELECT pg_current_xact_id()::text").fetchone())
        if len(numbers) == 1:
            way.cut_at(b"COMMIT")

    def other(tx: Transaction) -> None:
        add_wing("came between")(tx)
        numbers.append(tx.connection.execute("SELECT pg_current_xact_id()::text").fetchone())

    with (
        fresh_schema(forgetful.address) as url,
        contextlib.closing(PostgresDatabase(url, tmp_path)) as database,
        contextlib.closing(Relay(forgetful.port)) as way,
        contextlib.closing(PostgresDatabase(through(way, url), tmp_path)) as cut_off,
        ThreadPoolExecutor(1) as pool,
    ):
        written = pool.submit(cut_off.write, work, Deadline(40))
        assert way.is_cut.wait(WAIT_SECONDS)
        forgetful.kill()
        forgetful.start()
        database.write(other, soon())
        assert len(set(numbers)) == 1, "this server did not give the number twice"
        way.mend()
        written.result(WAIT_SECONDS)
        assert wings(database) == ["came between", "lost and written again"]
