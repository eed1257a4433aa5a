"""A palace's server that lacks space, connections, or the palace itself."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.errors import Busy, PalaceMissing, StorageFull
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.storage.postgres import database as databases
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.transactions import Transaction, Work
from tests.postgres_server import Server
from tests.storage.support import add_wing, small_disk, soon, wings

pytestmark = pytest.mark.long

DISK_KILOBYTES = 200_000
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "RECONNECT_SECONDS", 1.0)


def large(name: str) -> Work[None]:
    """A unit of work that takes a megabyte of space."""

    def work(tx: Transaction) -> None:
        add_wing(name)(tx)
        tx.connection.execute("UPDATE state SET palace_id = ?", (secrets.token_hex(MEGABYTE),))

    return work


def write_until_refused(database: PostgresDatabase) -> None:
    """A table has some pages in reserve."""
    for number in range(20):
        database.write(large(f"too much {number}"), soon())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        # The server runs as another user, and the folder of the test is closed to it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="palace-disk-")))
        disk = stack.enter_context(small_disk(folder / "disk", DISK_KILOBYTES))
        for each in (folder, folder / "disk"):
            each.chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "tempdir", str(disk.path))
            server = Server(durable=True)
        stack.callback(server.remove)
        server.start()
        url = read_url(server.address)
        with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
            database.write(large("before"), soon())
            disk.fill()
            with pytest.raises(StorageFull, match="no space left") as caught:
                write_until_refused(database)
            assert "Free some space" in (caught.value.hint or "")
            assert database.statistics().last_error == StorageFull.code
            stored = wings(database)
            disk.empty()
            database.write(large("after"), soon())
            assert wings(database) == [*stored, "after"]
            assert database.statistics().last_error is None
            assert database.integrity() == []


@pytest.fixture
def crowded() -> Iterator[PalaceUrl]:
    """A palace on a server that takes few connections, for a user who has no special ones."""
    server = Server(settings={"max_connections": "6", "superuser_reserved_connections": "2"})
    try:
        server.start()
        with psycopg.connect(server.address, autocommit=True) as connection:
            for statement in (
                "CREATE EXTENSION vector",
                "CREATE ROLE plain LOGIN",
                "GRANT ALL ON DATABASE postgres TO plain",
            ):
                connection.execute(statement.encode())
        yield read_url(server.address.replace("postgres@", "plain@"))
    finally:
        server.remove()


def test_no_connection_left(crowded: PalaceUrl, tmp_path: Path) -> None:
    with contextlib.closing(PostgresDatabase(crowded, tmp_path)) as database:
        database.write(add_wing("before"), soon())
        with contextlib.ExitStack() as others:
            while True:
                try:
                    others.enter_context(psycopg.connect(crowded.conninfo))
                except psycopg.OperationalError:
                    break
            with pytest.raises(Busy, match="takes no more connections") as caught:
                wings(database)
            assert "max_connections" in (caught.value.hint or "")
            database.write(add_wing("its connection is kept"), soon())
            with pytest.raises(Busy, match="takes no more connections"):
                PostgresDatabase(crowded, tmp_path).close()
            assert not database.files().available
        assert wings(database) == ["before", "its connection is kept"]


def test_a_schema_that_is_dropped_and_restored(url: PalaceUrl, database: PostgresDatabase) -> None:
    database.write(add_wing("before"), soon())
    with psycopg.connect(url.conninfo, autocommit=True) as other:
        other.execute(f"ALTER SCHEMA {url.schema} RENAME TO {url.schema}_away".encode())
        for _ in range(2):
            with pytest.raises(PalaceMissing, match="not at"):
                wings(database)
            with pytest.raises(PalaceMissing, match="not at"):
                database.write(add_wing("nowhere"), soon())
        assert not database.statistics().available
        with pytest.raises(PalaceMissing, match="no palace"):
            database.reopen()  # which makes no new one
        other.execute(f"ALTER SCHEMA {url.schema}_away RENAME TO {url.schema}".encode())
    database.write(add_wing("after"), soon())
    assert wings(database) == ["before", "after"]
    assert database.statistics().available
    database.reopen()
    assert wings(database) == ["before", "after"]
