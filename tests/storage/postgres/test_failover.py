"""A primary that is killed, and a synchronous standby that takes its place."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.errors import Busy
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from tests.postgres_server import Server, as_another_user
from tests.storage.postgres.test_database_processes import assert_stored, child
from tests.storage.support import add_wing, soon, wings

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

STANDBY = "second"


class Standby(Server):
    """A copy of another server, which follows it until it is promoted."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        super().__init__(durable=True)

    def initialize(self) -> None:
        """Copy the primary."""
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name={STANDBY}"
        command = [str(self.programs / "pg_basebackup"), "-D", str(self.data), "-d", source]
        subprocess.run([*command, "-R", "--checkpoint=fast", "--no-sync"], check=True, **as_another_user())

    def promote(self) -> None:
        """Make it the primary."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


@pytest.fixture
def primary() -> Iterator[Server]:
    """A server whose commits wait for the standby."""
    server = Server(durable=True, settings={"synchronous_standby_names": STANDBY})
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def standby(primary: Server) -> Iterator[Standby]:
    """A copy of it that follows."""
    server = Standby(primary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def both(primary: Server, standby: Server) -> str:
    """An address with both."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in (primary, standby))
    return f"postgresql://postgres@{hosts}/postgres?schema=on_two"


def test_what_was_acknowledged_survives_the_primary(primary: Server, standby: Standby, tmp_path: Path) -> None:
    url = read_url(both(primary, standby))
    with contextlib.closing(PostgresDatabase(url, tmp_path)) as database, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(child("serve", url, name, 4, 60)) for name in "abc"]
        assert [server.line() for server in servers] == ["ready"] * 3
        for server in servers:
            server.go()
        acknowledged = [server.line() for server in servers for _ in range(40)]
        assert wings(database)
        primary.kill()
        standby.promote()
        acknowledged += [line for server in servers for line in server.rest()]
        assert len(acknowledged) == 720
        assert_stored(database, acknowledged)


def test_a_standby_that_is_gone_makes_writers_wait_and_nothing_is_lost(
    primary: Server, standby: Server, tmp_path: Path
) -> None:
    with contextlib.closing(PostgresDatabase(read_url(both(primary, standby)), tmp_path)) as database:
        database.write(add_wing("before"), soon())
        standby.stop()
        # now COMMIT is written here and not answered
        back = threading.Timer(3.0, standby.start)
        back.start()
        database.write(add_wing("waited"), soon())
        back.join()
        assert wings(database) == ["before", "waited"]


def test_a_standby_alone_is_read_by_nobody(primary: Server, standby: Standby, tmp_path: Path) -> None:
    """What it lacks could have been acknowledged."""
    url = read_url(both(primary, standby))
    with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
        primary.kill()
        with pytest.raises(Busy, match="cannot be reached"):
            wings(database)
        standby.promote()
        assert wings(database) == []
