"""A palace on PostgreSQL with several servers, some of which are killed or stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.transactions import Stamp, Transaction
from tests.postgres_server import Server, fresh_schema, text_of
from tests.storage.support import Child, add_wing, soon, wings

pytestmark = pytest.mark.long

MODULE = "tests.storage.postgres.child"


def child(act: str, url: PalaceUrl, *arguments: object) -> Child:
    return Child(act, text_of(url), *arguments, module=MODULE)


def assert_stored(database: PostgresDatabase, acknowledged: list[str]) -> None:
    """Everything acknowledged is stored once, and the changes are numbered without a gap."""
    stored = wings(database)
    assert sorted(stored) == sorted(acknowledged)
    with database.read() as connection:
        assert Stamp.last(connection).seq == len(stored)


def test_many_servers_with_many_clients(database: PostgresDatabase, url: PalaceUrl) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(child("serve", url, name, 8, 10)) for name in "abcdefgh"]
        assert [server.line() for server in servers] == ["ready"] * 8
        for server in servers:
            server.go()
        acknowledged = [line for server in servers for line in server.rest()]
    assert len(acknowledged) == 640
    assert_stored(database, acknowledged)


def test_many_may_open_a_new_palace_at_once(url: PalaceUrl, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(child("open_once", url)) for _ in range(8)]
        assert {server.line() for server in servers} == {"ready"}
        for server in servers:
            server.go()
        assert {line for server in servers for line in server.rest()} == {"closed"}
    with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
        assert len(wings(database)) == 8


def test_a_server_killed_inside_its_transaction(database: PostgresDatabase, url: PalaceUrl) -> None:
    with child("stop_inside", url) as server:
        assert server.line() == "inside"
        assert wings(database) == []
        server.kill()
        database.write(add_wing("alive"), soon())
    assert wings(database) == ["alive"]


def test_a_server_stopped_inside_its_transaction_loses_the_lock(database: PostgresDatabase, url: PalaceUrl) -> None:
    with child("stop_inside", url) as server:
        assert server.line() == "inside"
        database.write(add_wing("went on"), Deadline(30))
        assert wings(database) == ["went on"]
        server.go()
        assert server.line() == "inside"  # on a new connection: what was undone is done again
        server.go()
        assert server.line() == "written"
    assert sorted(wings(database)) == ["half done", "went on"]


def backends(address: str) -> list[int]:
    """The processes that serve connections to palaces."""
    with psycopg.connect(read_url(address).conninfo, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name LIKE 'mempalace%'"
        )
        return [pid for (pid,) in rows]


def kill_backend(server: Server) -> None:
    """A backend that crashes takes all others along: PostgreSQL recovers as after a power cut."""
    with contextlib.suppress(psycopg.Error):
        for pid in backends(server.address)[:1]:
            os.kill(pid, signal.SIGKILL)


def end_backends(server: Server) -> None:
    """As an administrator does."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
        )


def kill_server(server: Server) -> None:
    """As a power cut does."""
    server.kill()
    server.start()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("harm", [kill_backend, end_backends, kill_server])
def test_what_was_acknowledged_survives(own_server: Server, tmp_path: Path, harm: Callable[[Server], None]) -> None:
    with (
        fresh_schema(own_server.address) as url,
        contextlib.closing(PostgresDatabase(url, tmp_path)) as database,
        contextlib.ExitStack() as stack,
    ):
        servers = [stack.enter_context(child("serve", url, name, 4, 40)) for name in "abc"]
        assert [server.line() for server in servers] == ["ready"] * 3
        for server in servers:
            server.go()
        acknowledged = []
        for _ in range(4):
            acknowledged += [server.line() for server in servers for _ in range(10)]
            harm(own_server)
        acknowledged += [line for server in servers for line in server.rest()]
        assert len(acknowledged) == 480
        assert_stored(database, acknowledged)


def test_nobody_overtakes_in_the_order_of_changes(database: PostgresDatabase, url: PalaceUrl) -> None:
    """A reader that asks for what is newer than what it has seen misses nothing."""
    seen: list[int] = []
    with child("serve", url, "a", 8, 40) as one, child("serve", url, "b", 8, 40) as other:
        assert {one.line(), other.line()} == {"ready"}
        one.go()
        other.go()
        while len(seen) < 640:
            with database.read() as connection:
                last = seen[-1] if seen else 0
                # the receipts of a server hold the change that each has made
                rows = connection.execute("SELECT answer FROM receipts").fetchall()
                numbers = sorted(int(answer) for (answer,) in rows)
                assert numbers == list(range(1, len(numbers) + 1)), "a change is missing below one that is visible"
                assert len(numbers) >= last
                seen = numbers
        one.rest()
        other.rest()


class Proxy:
    """Passes bytes between clients and the server. `cut` says when a connection is lost in COMMIT."""

    def __init__(self, port: int, cut: str) -> None:
        self.cuts = 0
        self._server_port = port
        self._cut = cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, target in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target, source is client))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if is_client and b"COMMIT" in data and not self.cuts:
                    self.cuts += 1
                    if self._cut == "after":
                        target.sendall(data)
                        target.recv(1, socket.MSG_PEEK)  # its answer is there, so that it is durable
                    break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if is_client:
            source.close()
            target.close()


@pytest.fixture(params=["before", "after"])
def proxy(request: pytest.FixtureRequest, own_server: Server) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(own_server.port, request.param)) as proxy:
        yield proxy


def test_what_was_lost_in_commit_is_settled(own_server: Server, proxy: Proxy, tmp_path: Path) -> None:
    with (
        fresh_schema(own_server.address) as url,
        contextlib.closing(PostgresDatabase(url, tmp_path)) as direct,
        contextlib.closing(
            PostgresDatabase(read_url(text_of(url).replace(f":{own_server.port}", f":{proxy.port}")), tmp_path)
        ) as cut,
    ):
        runs = []

        def work(tx: Transaction) -> int:
            runs.append(1)
            return add_wing("once")(tx)

        assert cut.write(work, Deadline(20)) == 1
        assert proxy.cuts == 1
        assert len(runs) in (1, 2)
        assert wings(direct) == ["once"]
