"""Vector search in PostgreSQL: `python -m benchmarks.pgvector [ROWS ...]`, by default 10000 100000.

The vectors are those of `benchmarks.vectors`, four to a drawer. For each size: making the index, its size, and for
filters that leave a share of the rows the time of a search and how many of the 50 true neighbours it finds. The server
is the one of the tests, on this machine; it does not wait for the disk. `PALACE_TEST_URL` names another one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.vectors import CHUNKS, DIMENSION, LIMIT, clustered_vectors, spread
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.postgres.connection import PostgresConnection, Vector, connect
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.vectors import PostgresVectors
from mempalace_mcp.storage.vectors.log import Vectors
from tests.postgres_server import VARIABLE, Server, fresh_schema

QUERIES = 100
BATCH = 10_000
SHARES = (1, 5, 20, 74)
"""Percent of the drawers that stand in each of the wings."""
SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "8GB", "autovacuum": "off"}
FILTERS = {
    "all": DrawerFilter(),
    **{f"wing of {share} %": DrawerFilter(wing=f"w{share}") for share in SHARES},
    "newest half": DrawerFilter(since=500_000),
}

_PLACES = """
    INSERT INTO wings (key, name) SELECT 'w' || s, 'w' || s FROM unnest(ARRAY{shares}) s;
    INSERT INTO rooms (wing, key, name) SELECT id, 'r', 'r' FROM wings;
    ALTER TABLE drawers DISABLE TRIGGER USER;
"""
_DRAWERS = """
    INSERT INTO drawers (drawer_id, wing, room, occurred_at, created_at, updated_at, seq, content_hash, normalized_hash,
                         content)
    SELECT 'd' || n, w, w, n::bigint * 1000000 / {drawers}, 0, 0, 1, '', '', repeat('text ', 400)
    FROM generate_series(1, {drawers}) n,
         LATERAL (SELECT CASE WHEN n % 100 < 1 THEN 1 WHEN n % 100 < 6 THEN 2 WHEN n % 100 < 26 THEN 3 ELSE 4 END w) s;
    INSERT INTO chunks (drawer, ordinal, start, stop)
    SELECT d.id, o, 0, 1 FROM drawers d, generate_series(0, {last}) o ORDER BY d.id, o;
    UPDATE rooms SET drawers = (SELECT count(*) FROM drawers d WHERE d.room = rooms.id);
"""


def fill(url: PalaceUrl, rows: int) -> None:
    """File so many passages with vectors."""
    with closing(connect(url)) as connection:
        connection.script(f"SET search_path = {connection.path}")
        connection.script(_PLACES.format(shares=list(SHARES)))
        connection.script(_DRAWERS.format(drawers=rows // CHUNKS, last=CHUNKS - 1))
        (kind,) = connection.execute("SELECT 'vector'::regtype::oid::bigint").fetchone() or (0,)
        for start in range(0, rows, BATCH):
            vectors = clustered_vectors(min(BATCH, rows - start), 1 + start)
            with connection.driver.cursor().copy(b"COPY vectors (chunk, embedding) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", kind])
                for number, vector in enumerate(vectors, start + 1):
                    copy.write_row((number, Vector(vector.tobytes())))
        connection.script("VACUUM ANALYZE")


def size_of(url: PalaceUrl, relation: str) -> float:
    """Megabytes."""
    with closing(connect(url)) as connection:
        row = connection.execute("SELECT pg_table_size(?::regclass) / 1e6", (f"{url.schema}.{relation}",)).fetchone()
        assert row is not None
        return float(row[0])


def report(line: str) -> None:
    print(line, flush=True)


def ask(
    vectors: PostgresVectors, connection: PostgresConnection, query: Vectors, drawer_filter: DrawerFilter
) -> tuple[list[int], float]:
    """The chunks that are found, and how long that takes."""
    started = time.perf_counter()
    found = [each.chunk for each in vectors.nearest(connection, query, LIMIT, drawer_filter)]
    return found, (time.perf_counter() - started) * 1000


def search(vectors: PostgresVectors, exact: PostgresVectors, database: PostgresDatabase, queries: Vectors) -> None:
    """Report times and found neighbours by filter."""
    for name, drawer_filter in FILTERS.items():
        times, by_one, found, best = [], [], 0, 0
        for query in queries:
            with database.read() as connection:
                wanted, slow = ask(exact, connection, query, drawer_filter)
                got, quick = ask(vectors, connection, query, drawer_filter)
            times.append(quick)
            by_one.append(slow)
            found += len(set(wanted) & set(got))
            best += len(set(wanted[:10]) & set(got))
        count = len(queries)
        report(
            f"  {name:14} {spread(times)};  finds {found / count / LIMIT:.3f} of 50, {best / count / 10:.3f} of 10;"
            f"  one by one p50 {np.median(by_one):.1f} ms"
        )


@contextmanager
def server() -> Iterator[str]:
    """The address of a server."""
    if os.environ.get(VARIABLE):
        yield os.environ[VARIABLE]
        return
    own = Server(settings=SETTINGS)
    try:
        own.start()
        yield own.address
    finally:
        own.remove()


def measure(url: PalaceUrl, directory: Path, rows: int) -> None:
    """Report everything about a palace of so many passages."""
    queries = clustered_vectors(QUERIES, 99)
    with ExitStack() as stack:
        database = stack.enter_context(closing(PostgresDatabase(url, directory)))
        exact = stack.enter_context(closing(PostgresVectors(url, indexed=False)))
        vectors = stack.enter_context(closing(PostgresVectors(url)))
        started = time.perf_counter()
        fill(url, rows)
        seconds = time.perf_counter() - started
        report(f"{rows:,} vectors of {DIMENSION}: filled in {seconds:.0f} s, {size_of(url, 'vectors'):.0f} MB")
        while vectors.advance(database.read, 100) or vectors.rest:
            time.sleep(0.1)
        vectors.advance(database.read, 100)
        made = vectors.statistics()
        report(f"  index {made.state}: {made.bytes_index / 1e6:.0f} MB in {made.build_seconds or 0:.1f} s")
        search(vectors, exact, database, queries)


def main() -> None:
    with server() as address, tempfile.TemporaryDirectory() as directory:
        for rows in [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000]:
            with fresh_schema(address) as url:
                measure(url, Path(directory), rows)


if __name__ == "__main__":
    main()
