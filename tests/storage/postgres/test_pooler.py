"""A palace behind pgbouncer, which gives each transaction another connection to PostgreSQL."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.runtime.app import open_app
from mempalace_mcp.runtime.moving import move_palace
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.turns import LeasedTurns
from mempalace_mcp.storage.postgres.vectors import PostgresVectors
from mempalace_mcp.storage.transactions import Stamp
from mempalace_mcp.storage.turns import Task
from mempalace_mcp.storage.vectors.model import IndexState
from tests.daemon.support import made
from tests.palace.lived_in import at, rows_of
from tests.postgres_server import as_another_user, free_port, shared_address, text_of
from tests.storage.postgres.test_database_processes import child
from tests.storage.support import add_wing, soon, wings
from tests.storage.vectors.support import EVERYTHING, World, answer, plain_answer, unit_vectors

pytestmark = pytest.mark.long

SERVER_CONNECTIONS = 4
CLIENTS = 8
WAIT_SECONDS = 30
SETTINGS = """\
[databases]
* = {server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_lifetime = 1
"""


@pytest.fixture(scope="module")
def pooled() -> Iterator[str]:
    """The address of the shared server's database behind a pooler with few connections."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian package pgbouncer)")
    parts = psycopg.conninfo.conninfo_to_dict(shared_address())
    port = free_port()
    server = f"host={parts['host']} port={parts['port']}"
    settings = SETTINGS.format(server=server, port=port, size=SERVER_CONNECTIONS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pgbouncer.ini")
        file.write_text(settings, encoding="utf-8")
        for each in (file.parent, file):
            each.chmod(0o755)
        with subprocess.Popen([program, "-q", str(file)], stderr=subprocess.DEVNULL, **as_another_user()) as process:
            try:
                address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
                wait_until_served(address)
                yield address
            finally:
                process.kill()


def wait_until_served(address: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def behind(pooled: str, url: PalaceUrl) -> PalaceUrl:
    """A palace that is not there yet, behind the pooler."""
    return read_url(f"{pooled}?schema={url.schema}&prepare=no")


def test_many_servers_with_many_clients(behind: PalaceUrl, tmp_path: Path) -> None:
    """The first of them makes the palace."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(child("serve", behind, name, CLIENTS // 2, 20)) for name in "abcd"]
        assert [server.line() for server in servers] == ["ready"] * 4
        for server in servers:
            server.go()
        acknowledged = [line for server in servers for line in server.rest()]
    assert len(acknowledged) == 4 * CLIENTS // 2 * 20
    with contextlib.closing(PostgresDatabase(behind, tmp_path)) as database:
        assert sorted(wings(database)) == sorted(acknowledged)
        with database.read() as connection:
            assert Stamp.last(connection).seq == len(acknowledged)


def test_readers_beside_a_writer(behind: PalaceUrl, tmp_path: Path) -> None:
    """More of them than the pooler has connections; each sees a snapshot and leaves no setting behind."""
    with contextlib.closing(PostgresDatabase(behind, tmp_path)) as database, ThreadPoolExecutor(CLIENTS) as pool:
        database.write(add_wing("first"), soon())

        def read_often(_: int) -> None:
            for _ in range(20):
                with database.read() as connection:
                    first = connection.execute("SELECT count(*) FROM wings").fetchone()
                    assert connection.execute("SELECT count(*) FROM wings").fetchone() == first

        reading = [pool.submit(read_often, number) for number in range(CLIENTS)]
        for number in range(20):
            database.write(add_wing(str(number)), soon())
        for each in reading:
            each.result()
    with psycopg.connect(behind.conninfo, autocommit=True, prepare_threshold=None) as other:
        settings = other.execute("SELECT current_setting('search_path'), current_setting('statement_timeout')")
        assert settings.fetchone() == ('"$user", public', "0")


def test_a_whole_palace(behind: PalaceUrl, tmp_path: Path) -> None:
    settings = load_settings({"PALACE_URL": text_of(behind), "HOME": str(tmp_path)})
    with open_app(settings) as app:
        app.start()
        for number in range(20):
            app.palace.add_drawer("w", "r", f"the otter of day {number} sleeps in the reeds")
        app.palace.kg_add("otter", "sleeps in", "reeds")
        assert app.indexer.wait_until_idle(WAIT_SECONDS)
        for number in range(10):
            (hit, *_) = app.palace.search(f"what sleeps in the reeds on day {number}?").hits
            assert "otter" in hit.drawer.content


def test_the_index_of_vectors_and_leases(behind: PalaceUrl, tmp_path: Path) -> None:
    with (
        contextlib.closing(PostgresDatabase(behind, tmp_path)) as database,
        contextlib.closing(PostgresVectors(behind, exact_rows=100)) as vectors,
        contextlib.closing(LeasedTurns(behind)) as one,
        contextlib.closing(LeasedTurns(behind)) as other,
    ):
        World(database).file(300, seed=1)
        end = time.monotonic() + WAIT_SECONDS
        while vectors.statistics().state is not IndexState.READY:
            vectors.advance(database.read, 100)
            assert time.monotonic() < end
            time.sleep(0.02)
        (query,) = unit_vectors(1, 2)
        for _ in range(8):
            with database.read() as connection:
                found = answer(vectors, connection, query, 10, EVERYTHING)
                assert len(set(found) & set(plain_answer(connection, query, 10, EVERYTHING))) >= 8
        assert one.lead(Task.TIDY)
        assert not other.lead(Task.TIDY)


def test_a_palace_moves_there_and_back(behind: PalaceUrl, url: PalaceUrl, tmp_path: Path) -> None:
    source = made(tmp_path / "source", [f"drawer {number}" for number in range(30)], [("Ada", "keeps", "ropes")])
    move_palace(at(source), at(behind), lambda *_: None)
    assert rows_of(url) == rows_of(source)
    move_palace(at(behind), at(tmp_path / "back"), lambda *_: None)
    assert rows_of(tmp_path / "back") == rows_of(source)


def test_without_the_parameter_the_error_names_it(pooled: str, url: PalaceUrl, tmp_path: Path) -> None:
    address = read_url(f"{pooled}?schema={url.schema}")
    with contextlib.closing(PostgresDatabase(address, tmp_path)) as database, ThreadPoolExecutor(CLIENTS) as pool:

        def read_often(_: int) -> None:
            for _ in range(50):
                wings(database)

        reading = [pool.submit(read_often, number) for number in range(CLIENTS)]
        with pytest.raises(ConfigurationError) as caught:
            list(map(Future.result, reading))
        assert "prepare=no" in (caught.value.hint or "")
        assert caught.value.argument == "PALACE_URL"
