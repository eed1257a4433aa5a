"""An index of vectors is made while a server of the palace, or PostgreSQL itself, is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.postgres.connection import connect
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.vectors import PostgresVectors
from mempalace_mcp.storage.vectors.model import IndexState
from tests.postgres_server import Server, fresh_schema, text_of
from tests.storage.postgres.test_vectors import indexes, settle, wait_for
from tests.storage.support import ROOT
from tests.storage.vectors.support import DIMENSION, EVERYTHING, unit_vectors

pytestmark = pytest.mark.long

ROWS = 10_000
"""So many that the index takes seconds."""

_MAKING = """
import sys, time
from pathlib import Path
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.vectors import PostgresVectors
url = read_url(sys.argv[1])
vectors = PostgresVectors(url, exact_rows=100)
vectors.advance(PostgresDatabase(url, Path(sys.argv[2])).read, 100)
print("begun", flush=True)
time.sleep(60)
"""

_FILL = f"""
    INSERT INTO wings (key, name) VALUES ('w', 'w');
    INSERT INTO rooms (wing, key, name, drawers) VALUES (1, 'r', 'r', {ROWS});
    ALTER TABLE drawers DISABLE TRIGGER drawers_counted;
    INSERT INTO drawers (drawer_id, wing, room, created_at, updated_at, seq, content_hash, normalized_hash, content)
    SELECT n, 1, 1, 0, 0, 1, '', '', '' FROM generate_series(1, {ROWS}) n;
    INSERT INTO chunks (drawer, ordinal, start, stop) SELECT id, 0, 0, 0 FROM drawers;
    INSERT INTO vectors (chunk, embedding)
    SELECT id, l2_normalize(
        (SELECT array_agg(random() - 0.5) FROM generate_series(1, {DIMENSION}) WHERE chunks.id > 0)::vector
    ) FROM chunks;
"""


@contextmanager
def filled(url: PalaceUrl, directory: Path) -> Iterator[PostgresDatabase]:
    """A palace with many vectors."""
    with closing(PostgresDatabase(url, directory)) as database:
        with closing(connect(url)) as connection:
            connection.script(f"BEGIN; SET LOCAL search_path = {connection.path}; {_FILL} COMMIT")
        yield database


def maker(database: PostgresDatabase) -> int | None:
    """The process of PostgreSQL that makes an index now, and has begun with the rows."""
    with database.read() as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_progress_create_index"
            " WHERE relid = 'vectors'::regclass AND phase LIKE 'building%' AND tuples_done > 0"
        ).fetchone()
        return None if row is None else int(row[0])


def verify_one_index(url: PalaceUrl, database: PostgresDatabase, vectors: PostgresVectors) -> None:
    settle(vectors, database)
    settle(vectors, database)
    assert [(table, valid) for table, _, valid in indexes(url)] == [("vectors", True)]
    assert vectors.statistics().state is IndexState.READY
    with database.read() as connection:
        assert vectors.verify(connection) == []


def test_postgresql_finishes_what_a_killed_server_has_begun(url: PalaceUrl, tmp_path: Path) -> None:
    with filled(url, tmp_path) as database, closing(PostgresVectors(url, exact_rows=100)) as vectors:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAKING, text_of(url), str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "begun\n"
            wait_for(lambda: maker(database) is not None)
            process.kill()
            process.wait()
        settle(vectors, database)
        assert vectors.statistics().state is IndexState.BUILDING
        assert not vectors.rebuild()
        wait_for(lambda: [valid for _, _, valid in indexes(url)] == [True])
        verify_one_index(url, database, vectors)
        assert vectors.statistics().builds == 0


def test_after_a_crash_of_postgresql_the_index_is_made_anew(own_server: Server, tmp_path: Path) -> None:
    with (
        fresh_schema(own_server.address) as url,
        filled(url, tmp_path) as database,
        closing(PostgresVectors(url, exact_rows=100)) as vectors,
    ):
        vectors.advance(database.read, 100)
        wait_for(lambda: maker(database) is not None)
        os.kill(maker(database) or own_server.pid, signal.SIGKILL)
        wait_for(lambda: vectors.rest == 0)
        settle(vectors, database)
        assert vectors.statistics().state is IndexState.FAILED
        assert [valid for _, _, valid in indexes(url)] == [False]
        (query,) = unit_vectors(1, 1)
        with database.read() as connection:
            assert len(vectors.nearest(connection, query, 10, EVERYTHING)) == 10
            vectors.reconnect(connection)
        verify_one_index(url, database, vectors)
