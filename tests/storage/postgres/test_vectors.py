"""Neighbours in PostgreSQL: the same as with SQLite, exactly or by an index that is made when it pays."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mempalace_mcp.core.errors import ModelMismatch, ModelMoved, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter, ModelStamp
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.drawers import ChunkLog
from mempalace_mcp.storage.model_moves import begin_move
from mempalace_mcp.storage.postgres.connection import PostgresConnection, connect
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.vectors import PostgresVectors
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.vectors.model import IndexState
from tests.storage.support import soon
from tests.storage.vectors.support import (
    DIMENSION,
    EVERYTHING,
    World,
    answer,
    differences,
    index_of,
    plain_answer,
    unit_vectors,
    verify_answers,
)

FEW = 200
"""From so many vectors on there is an index, here."""
WAIT_SECONDS = 90


@pytest.fixture
def vectors(url: PalaceUrl, database: PostgresDatabase) -> Iterator[PostgresVectors]:
    vectors = PostgresVectors(url, exact_rows=FEW)
    yield vectors
    vectors.close()


def beginning(database: PalaceDatabase) -> World:
    """A palace whose vectors are of a model."""
    stamp = ModelStamp("model", "float32", DIMENSION)
    database.write(lambda tx: ChunkLog().set_model_stamp(tx, stamp), soon())
    return World(database)


@pytest.fixture
def world(database: PostgresDatabase) -> World:
    return beginning(database)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def settle(vectors: PostgresVectors, database: PalaceDatabase) -> None:
    """Advance until nothing is being made."""
    wait_for(lambda: vectors.advance(database.read, 100) == 0 == vectors.rest)


def indexes(url: PalaceUrl) -> list[tuple[str, str, bool]]:
    """Table, name and validity of all that are there."""
    connection = connect(url)
    try:
        return connection.execute(
            "SELECT tablename, indexname, i.indisvalid FROM pg_indexes p JOIN pg_index i"
            " ON i.indexrelid = (quote_ident(schemaname) || '.' || quote_ident(indexname))::regclass"
            " WHERE schemaname = ? AND indexname LIKE 'nearest%' ORDER BY 1, 2",
            (url.schema,),
        ).fetchall()
    finally:
        connection.close()


def recall(vectors: PostgresVectors, database: PalaceDatabase, drawer_filter: DrawerFilter, limit: int = 20) -> float:
    """The share of the true neighbours that are found."""
    found = 0
    with database.read() as connection:
        for query in unit_vectors(20, 99):
            true = set(plain_answer(connection, query, limit, drawer_filter))
            found += len(true & set(answer(vectors, connection, query, limit, drawer_filter)))
    return found / (20 * limit)


def test_an_empty_palace_has_no_neighbours(
    vectors: PostgresVectors, database: PostgresDatabase, url: PalaceUrl
) -> None:
    (query,) = unit_vectors(1, 1)
    with database.read() as connection:
        assert vectors.nearest(connection, query, 5, EVERYTHING) == []
        assert vectors.cosines(connection, query, [1, 2]) == {}
    settle(vectors, database)
    assert indexes(url) == []
    assert vectors.statistics().state is IndexState.ABSENT
    assert differences(vectors, database) == []
    with database.read() as connection:
        assert vectors.reconnect(connection).differences == []


Operation = Callable[[World, list[int], random.Random], object]

OPERATIONS: list[Operation] = [
    lambda world, drawers, draw: world.delete(draw.sample(drawers, 30)),
    lambda world, drawers, draw: world.restore(draw.sample(drawers, 40)),
    lambda world, drawers, draw: world.move(draw.sample(drawers, 40), "other", draw.choice("rs")),
    lambda world, drawers, draw: world.redate(draw.sample(drawers, 60), draw.randrange(1000)),
    lambda world, drawers, draw: world.purge(draw.sample(drawers, 5)),
    lambda world, drawers, draw: world.change_model(seed=draw.randrange(99), dimension=draw.choice([12, DIMENSION])),
    lambda world, drawers, draw: world.file(
        20, seed=draw.randrange(10**6), wing="other", source="a.md", when=500, dimension=length(world)
    ),
]


def length(world: World) -> int:
    """Of the world's vectors."""
    with world.database.read() as connection:
        (embedding,) = connection.execute("SELECT embedding FROM vectors LIMIT 1").fetchone()
    return len(embedding) // 4


FILTERS = [
    EVERYTHING,
    DrawerFilter(wing="w"),
    DrawerFilter(wing="other", room="s"),
    DrawerFilter(room="r"),
    DrawerFilter(source_file="a.md"),
    DrawerFilter(since=200, before=700),
    DrawerFilter(within=("other",), since=1),
    DrawerFilter(wing="nowhere"),
]


@pytest.mark.parametrize("seed", range(4))
def test_both_stores_find_the_same(seed: int, tmp_path: Path, database: PostgresDatabase, url: PalaceUrl) -> None:
    """The threshold is not reached here: every answer is exact."""
    palace = Database(tmp_path)
    plain, vectors = index_of(tmp_path, mode="exact"), PostgresVectors(url)
    choice = random.Random(seed)
    for world in (beginning(palace), beginning(database)):
        for number, (wing, room) in enumerate([("w", "r"), ("other", "r"), ("other", "s")]):
            world.file(60, seed=number, chunks=2, wing=wing, room=room, when=300 * number)
    if seed % 2:  # then the size of the tables is known, and rows of few drawers are looked up
        administer(url, "ANALYZE {schema}.vectors, {schema}.chunks, {schema}.drawers")
    for _ in range(8):
        operation, draw = choice.choice(OPERATIONS), choice.randrange(1000)
        for world in (World(palace), World(database)):
            with world.database.read() as connection:
                drawers = [row[0] for row in connection.execute("SELECT id FROM drawers ORDER BY id")]
            operation(world, drawers, random.Random(draw))
        with palace.read() as one, database.read() as two:
            for query in unit_vectors(3, draw, length(World(database))):
                for drawer_filter in FILTERS:
                    expected = plain.nearest(one, query, 15, drawer_filter)
                    found = vectors.nearest(two, query, 15, drawer_filter)
                    assert [each.chunk for each in found] == [each.chunk for each in expected]
                    assert [each.cosine for each in found] == pytest.approx(
                        [each.cosine for each in expected], abs=1e-6
                    )
                chunks = [each.chunk for each in expected] + [1, 2, 3, 10_000]
                assert vectors.cosines(two, query, chunks) == pytest.approx(plain.cosines(one, query, chunks), abs=1e-6)
    assert differences(vectors, database) == []
    assert vectors.statistics().rows_live
    for each in (plain, vectors, palace):
        each.close()


def test_an_index_is_made_when_there_are_many(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(FEW, seed=1)
    settle(vectors, database)
    assert indexes(url) == []
    world.file(FEW, seed=2)
    settle(vectors, database)
    assert [(table, valid) for table, _, valid in indexes(url)] == [("vectors", True)]
    figures = vectors.statistics()
    assert (figures.state, figures.rows_indexed, figures.builds) == (IndexState.READY, 2 * FEW, 1)
    assert figures.bytes_index > 0
    assert recall(vectors, database, EVERYTHING) > 0.95
    assert differences(vectors, database) == []


def test_what_is_filed_later_is_found_at_once(
    vectors: PostgresVectors, database: PostgresDatabase, world: World
) -> None:
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    (drawer,) = world.file(1, seed=77)
    (vector,) = unit_vectors(1, 77)
    with database.read() as connection:
        (best,) = vectors.nearest(connection, vector, 1, EVERYTHING)
        assert best.cosine == pytest.approx(1, abs=1e-6)
    world.delete([drawer])
    with database.read() as connection:
        assert vectors.nearest(connection, vector, 1, EVERYTHING)[0].chunk != best.chunk


def test_the_index_answers_and_the_order_is_the_true_one(
    vectors: PostgresVectors, database: PostgresDatabase, world: World
) -> None:
    drawers = world.file(4 * FEW, seed=1) + world.file(2 * FEW, seed=2, wing="other")
    world.delete(drawers[::3])
    settle(vectors, database)
    for drawer_filter in (EVERYTHING, DrawerFilter(wing="w"), DrawerFilter(wing="other", room="r")):
        assert recall(vectors, database, drawer_filter) > 0.95
    with database.read() as connection:
        for query in unit_vectors(5, 3):
            found = vectors.nearest(connection, query, 30, DrawerFilter(wing="w"))
            true = vectors.cosines(connection, query, [each.chunk for each in found])
            assert [each.cosine for each in found] == sorted(true.values(), reverse=True)


def uses(connection: PostgresConnection) -> int:
    """How often an index of vectors was used, here and in a few transactions before."""
    return int(
        connection.execute(
            "SELECT coalesce(sum(pg_stat_get_xact_numscans(c.oid)), 0) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relname LIKE 'nearest%'",
            (connection.schema,),
        ).fetchone()[0]
    )


def rows_read(connection: PostgresConnection) -> int:
    """How many vectors were read but not looked up, here and in a few transactions before."""
    row = connection.execute("SELECT pg_stat_get_xact_tuples_returned('vectors'::regclass)").fetchone()
    return int(row[0]) if row else 0


def test_few_rows_are_compared_one_by_one(vectors: PostgresVectors, database: PostgresDatabase, world: World) -> None:
    world.file(2 * FEW, seed=1)
    world.file(FEW - 10, seed=2, wing="small", when=7)
    settle(vectors, database)
    few = [DrawerFilter(wing="small"), DrawerFilter(since=5), DrawerFilter(source_file="nowhere")]
    with database.read() as connection:
        for drawer_filter in few:
            for query in unit_vectors(5, 3):
                found = answer(vectors, connection, query, 20, drawer_filter)
                assert found == plain_answer(connection, query, 20, drawer_filter)
        assert uses(connection) == 0
        for times, drawer_filter in enumerate([EVERYTHING, DrawerFilter(wing="w"), DrawerFilter(before=5)]):
            vectors.nearest(connection, query, 20, drawer_filter)
            assert uses(connection) == times + 1
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("200",)
        assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("relaxed_order",)
        assert connection.execute("SHOW enable_sort").fetchone() == ("on",)
    with database.read() as connection:
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)


def test_drawers_of_many_passages_count_as_many(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(FEW // 2, seed=1, chunks=5)
    administer(url, "ANALYZE {schema}.drawers, {schema}.chunks")
    settle(vectors, database)
    with database.read() as connection:
        vectors.nearest(connection, unit_vectors(1, 1)[0], 20, DrawerFilter(wing="w"))
        assert uses(connection) == 1


def test_for_few_drawers_the_other_vectors_are_not_read(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(400, seed=1)
    world.file(100, seed=2, wing="small", chunks=2)
    administer(url, "ANALYZE {schema}.vectors, {schema}.chunks, {schema}.drawers")
    (query,) = unit_vectors(1, 5)
    with database.read() as connection:
        expected = plain_answer(connection, query, 20, DrawerFilter(wing="small"))
    with database.read() as connection:
        before = rows_read(connection)
        assert answer(vectors, connection, query, 20, DrawerFilter(wing="small")) == expected
        assert rows_read(connection) < before + 10


def test_when_the_index_finds_too_few_all_are_compared(
    database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    vectors = PostgresVectors(url, exact_rows=20)
    world.file(8 * FEW, seed=1)
    world.file(30, seed=2, wing="other")
    settle(vectors, database)
    with database.read() as connection:
        connection.execute("SET LOCAL hnsw.max_scan_tuples = 1")
        for query in unit_vectors(5, 5):
            found = answer(vectors, connection, query, 30, DrawerFilter(wing="other"))
            assert found == plain_answer(connection, query, 30, DrawerFilter(wing="other"))
        assert uses(connection) == 5
    vectors.close()


def administer(url: PalaceUrl, *statements: str) -> None:
    """Run statements outside of transactions; `{schema}` is the palace's."""
    connection = connect(url)
    try:
        for statement in statements:
            connection.script(statement.format(schema=url.schema))
    finally:
        connection.close()


def test_an_index_that_was_not_finished_is_made_anew(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    administer(
        url,
        f"CREATE INDEX nearest_{DIMENSION}_broken ON {{schema}}.vectors"
        f" USING hnsw ((embedding::halfvec({DIMENSION})) halfvec_ip_ops)",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{{schema}}.nearest_{DIMENSION}_broken'::regclass",
    )
    with database.read() as connection:
        (query,) = unit_vectors(1, 5)
        assert answer(vectors, connection, query, 20) == plain_answer(connection, query, 20)
    settle(vectors, database)
    ((table, name, valid),) = indexes(url)
    assert (table, valid) == ("vectors", True)
    assert name != f"nearest_{DIMENSION}_broken"


def test_after_a_move_the_index_is_made_anew(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    for dimension in (24, DIMENSION, DIMENSION):  # the last one is another model with vectors as long
        world.change_model(seed=dimension + len(indexes(url)) + vectors.statistics().builds, dimension=dimension)
        with database.read() as connection:
            (query,) = unit_vectors(1, 5, dimension)
            assert answer(vectors, connection, query, 20) == plain_answer(connection, query, 20)
        settle(vectors, database)
        ((table, name, valid),) = indexes(url)
        assert (table, valid) == ("vectors", True)
        assert name.startswith(f"nearest_{dimension}_")
        with database.read() as connection:
            vectors.nearest(connection, query, 20, EVERYTHING)
            assert uses(connection) == 1


def test_a_palace_moves_on_before_its_former_index_is_dropped(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    world.change_model(seed=2, dimension=24)
    world.change_model(seed=3, dimension=20)  # into the table that the index is of
    with database.read() as connection:
        (query,) = unit_vectors(1, 5, 20)
        assert answer(vectors, connection, query, 20) == plain_answer(connection, query, 20)
    settle(vectors, database)
    ((table, name, valid),) = indexes(url)
    assert (table, name[:11], valid) == ("vectors", "nearest_20_", True)


def test_while_the_palace_moves_no_index_is_made(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    stamp = ModelStamp("another", "float32", 24)
    database.write(lambda tx: begin_move(tx, stamp), soon())
    settle(vectors, database)
    assert indexes(url) == []


def test_one_server_makes_the_index(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(5 * FEW, seed=1)
    others = [PostgresVectors(url, exact_rows=FEW) for _ in range(3)]
    for each in (vectors, *others):
        each.advance(database.read, 100)
    wait_for(lambda: len(indexes(url)) == 1 and indexes(url)[0][2])
    for each in (vectors, *others):
        settle(each, database)
        settle(each, database)
        assert each.statistics().state is IndexState.READY
        each.close()
    assert sum(each.statistics().builds for each in (vectors, *others)) == 1
    assert len(indexes(url)) == 1


def test_rebuild_makes_another_index(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    assert vectors.rebuild()
    settle(vectors, database)
    assert indexes(url) == []
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    before = indexes(url)
    assert vectors.rebuild()
    assert indexes(url) == before
    settle(vectors, database)
    assert len(indexes(url)) == 1
    assert indexes(url) != before
    settle(vectors, database)
    assert vectors.statistics().builds == 2


def test_rebuild_is_left_to_a_server_that_is_at_it(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    other = PostgresVectors(url, exact_rows=FEW)
    world.file(2 * FEW, seed=1)
    assert other.rebuild()
    assert not vectors.rebuild()
    settle(vectors, database)
    assert indexes(url) == []
    settle(other, database)
    assert len(indexes(url)) == 1
    other.close()
    assert vectors.rebuild()


def test_without_an_index_everything_is_compared(database: PostgresDatabase, world: World, url: PalaceUrl) -> None:
    vectors = PostgresVectors(url, exact_rows=FEW, indexed=False)
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    assert indexes(url) == []
    verify_answers(vectors, database)
    assert vectors.statistics().state is IndexState.OFF
    assert vectors.rebuild()
    vectors.close()


def test_an_index_that_cannot_be_made_is_reported(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    name = f"owner_{url.schema}"
    administer(url, f"CREATE ROLE {name} NOLOGIN", f"ALTER TABLE {{schema}}.vectors OWNER TO {name}")
    limited = f"user_{url.schema}"
    administer(
        url,
        f"CREATE ROLE {limited} LOGIN",
        f"GRANT USAGE ON SCHEMA {{schema}} TO {limited}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA {{schema}} TO {limited}",
    )
    try:
        theirs = PostgresVectors(read_url(url.text.replace("postgres@", f"{limited}@")), exact_rows=FEW)
        settle(theirs, database)
        assert theirs.statistics().state is IndexState.FAILED
        assert "owner" in (theirs.statistics().last_error or "")
        verify_answers(theirs, database)
        settle(vectors, database)
        settle(theirs, database)
        assert theirs.statistics().state is IndexState.READY
        theirs.close()
    finally:
        administer(
            url,
            "ALTER TABLE {schema}.vectors OWNER TO postgres",
            *(f"DROP OWNED BY {role}" for role in (name, limited)),
            *(f"DROP ROLE {role}" for role in (name, limited)),
        )


def test_verify_finds_what_is_wrong(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    administer(url, "UPDATE {schema}.vectors SET embedding = '[1,0]' WHERE chunk = 7")
    assert [(each.chunk, each.problem) for each in differences(vectors, database)] == [
        (7, "a vector of another length")
    ]
    (query,) = unit_vectors(1, 1)
    with database.read() as connection:
        assert len(vectors.nearest(connection, query, 5, EVERYTHING)) == 5
        with pytest.raises(PalaceCorrupt):
            vectors.cosines(connection, query, [6, 7])
    with database.read() as connection, pytest.raises(PalaceCorrupt):
        PostgresVectors(url, indexed=False).nearest(connection, query, 5, EVERYTHING)


def test_verify_finds_an_index_that_has_lost_rows(
    vectors: PostgresVectors, database: PostgresDatabase, world: World, url: PalaceUrl
) -> None:
    world.file(2 * FEW, seed=1)
    settle(vectors, database)
    ((_, name, _),) = indexes(url)
    administer(url, f"UPDATE pg_index SET indisready = false WHERE indexrelid = '{{schema}}.{name}'::regclass")
    world.file(2 * FEW, seed=2)
    administer(url, f"UPDATE pg_index SET indisready = true WHERE indexrelid = '{{schema}}.{name}'::regclass")
    assert {each.problem for each in differences(vectors, database)} == {"not found by the index"}


def test_a_query_of_another_model_is_refused(
    vectors: PostgresVectors, database: PostgresDatabase, world: World
) -> None:
    world.file(10, seed=1)
    (query,) = unit_vectors(1, 1, DIMENSION + 1)
    with database.read() as connection:
        with pytest.raises(ModelMismatch, match="17 dimensions"):
            vectors.nearest(connection, query, 5, EVERYTHING)
        with pytest.raises(ModelMismatch, match="17 dimensions"):
            vectors.cosines(connection, query, [1, 2])
        assert vectors.cosines(connection, query, [100]) == {}


def test_a_query_without_direction_is_answered(
    vectors: PostgresVectors, database: PostgresDatabase, world: World
) -> None:
    world.file(2 * FEW, seed=1)
    for _ in range(2):
        with database.read() as connection:
            found = vectors.nearest(connection, np.zeros(DIMENSION, np.float32), 5, EVERYTHING)
            assert [each.cosine for each in found] == [0] * 5
        settle(vectors, database)


def test_a_snapshot_stays_as_it_was(vectors: PostgresVectors, database: PostgresDatabase, world: World) -> None:
    drawers = world.file(2 * FEW, seed=1)
    settle(vectors, database)
    (query,) = unit_vectors(1, 8)
    with database.read() as connection:
        before = answer(vectors, connection, query, 10)
        world.delete(drawers)
        world.file(50, seed=8)
        assert answer(vectors, connection, query, 10) == before
    with database.read() as connection:
        assert len(set(answer(vectors, connection, query, 60)) - set(before)) == 50


def test_a_snapshot_of_before_a_move_is_not_answered_with_vectors_of_after_it(
    vectors: PostgresVectors, database: PostgresDatabase, world: World
) -> None:
    world.file(20, seed=1)
    (query,) = unit_vectors(1, 8)
    with database.read() as connection:
        world.change_model(seed=5)  # whose vectors are as long
        with pytest.raises(ModelMoved):
            vectors.nearest(connection, query, 5, EVERYTHING)
    with database.read() as connection:
        assert answer(vectors, connection, query, 5) == plain_answer(connection, query, 5)
