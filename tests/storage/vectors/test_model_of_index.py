"""Whatever happens to the drawers, in whatever order, the index answers like a plain reading of SQLite."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from tests.storage.support import fresh_database
from tests.storage.vectors.support import (
    THOROUGHNESS,
    World,
    advance_all,
    answer,
    differences,
    index_of,
    plain_answer,
    unit_vectors,
)

pytestmark = pytest.mark.long

PLACES = st.tuples(st.sampled_from(["work", "home"]), st.sampled_from(["kitchen", "attic"]))
DATES = st.integers(0, 3)
SOURCES = st.sampled_from([None, "a.txt", "b.txt"])
SEEDS = st.integers(0, 10_000)
SOME = st.lists(st.integers(0, 10_000), min_size=1, max_size=6)
FILTERS = st.builds(
    DrawerFilter,
    wing=st.sampled_from([None, None, "work", "home", "nowhere"]),
    room=st.sampled_from([None, None, "kitchen", "attic", "nowhere"]),
    source_file=st.sampled_from([None, None, "a.txt", "nothing.txt"]),
    since=st.none() | DATES,
    before=st.none() | DATES,
    within=st.sampled_from([None, None, (), ("home",), ("home", "nowhere", "work")]),
)


class Palace(RuleBasedStateMachine):
    """Two indexes on one palace, both exact or one with Chroma, each beside a reader that sees an earlier time."""

    mode = "exact"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.database = self.stack.enter_context(fresh_database(directory))
        self.world = World(self.database)
        self.exact = index_of(directory, mode="exact")
        self.both = index_of(directory, minimum_rows=10, mode=self.mode)
        self.stack.callback(self.exact.close)
        self.stack.callback(self.both.close)
        self.drawers: list[int] = []
        self.earlier = ExitStack()
        self.earlier_connection: Connection | None = None

    @initialize(advance=st.booleans())
    def fill(self, advance: bool) -> None:
        self.drawers += self.world.file(20, seed=99, wing="work", room="attic", chunks=2)
        if advance:
            advance_all(self.both, self.database)

    @rule(count=st.integers(1, 5), chunks=st.integers(0, 3), seed=SEEDS, place=PLACES, source=SOURCES, when=DATES)
    def file(self, count: int, chunks: int, seed: int, place: tuple[str, str], source: str | None, when: int) -> None:
        wing, room = place
        self.drawers += self.world.file(count, seed=seed, chunks=chunks, wing=wing, room=room, source=source, when=when)

    @rule(some=SOME)
    def delete(self, some: list[int]) -> None:
        self.world.delete(self.pick(some))

    @rule(some=SOME)
    def restore(self, some: list[int]) -> None:
        self.world.restore(self.pick(some))

    @rule(some=SOME, seed=SEEDS, chunks=st.integers(0, 2))
    def update(self, some: list[int], seed: int, chunks: int) -> None:
        self.world.update(self.pick(some), seed=seed, chunks=chunks)

    @rule(some=SOME, place=PLACES)
    def move(self, some: list[int], place: tuple[str, str]) -> None:
        self.world.move(self.pick(some), *place)

    @rule(some=SOME, when=DATES)
    def redate(self, some: list[int], when: int) -> None:
        self.world.redate(self.pick(some), when)

    @rule(some=SOME)
    def purge(self, some: list[int]) -> None:
        self.world.purge(self.pick(some))

    @rule(seed=SEEDS)
    def reindex(self, seed: int) -> None:
        self.world.reindex(seed=seed)

    @rule(seed=st.integers(0, 3))
    def change_model(self, seed: int) -> None:
        self.world.change_model(seed=seed)

    @rule(limit=st.integers(1, 40))
    def advance(self, limit: int) -> None:
        self.both.advance(self.database.read, limit)
        self.exact.advance(self.database.read, limit)

    @rule()
    def reconnect(self) -> None:
        with self.database.read() as connection:
            assert self.both.reconnect(connection).differences == []

    @precondition(lambda self: self.earlier_connection is None)
    @rule()
    def keep_a_snapshot(self) -> None:
        self.earlier_connection = self.earlier.enter_context(self.database.read())
        self.earlier_connection.execute("SELECT 1 FROM state").fetchone()

    @precondition(lambda self: self.earlier_connection is not None)
    @rule()
    def drop_the_snapshot(self) -> None:
        self.earlier_connection = None
        self.earlier.close()

    @rule(seed=SEEDS, limit=st.integers(1, 30), drawer_filter=FILTERS)
    def ask(self, seed: int, limit: int, drawer_filter: DrawerFilter) -> None:
        with self.database.read() as connection:
            self.compare(connection, seed, limit, drawer_filter)
            self.compare(connection, seed, limit, DrawerFilter())

    @precondition(lambda self: self.earlier_connection is not None)
    @rule(seed=SEEDS, limit=st.integers(1, 30), drawer_filter=FILTERS)
    def ask_earlier(self, seed: int, limit: int, drawer_filter: DrawerFilter) -> None:
        assert self.earlier_connection is not None
        self.compare(self.earlier_connection, seed, limit, drawer_filter)
        self.compare(self.earlier_connection, seed, limit, DrawerFilter())

    def compare(self, connection: Connection, seed: int, limit: int, drawer_filter: DrawerFilter) -> None:
        (query,) = unit_vectors(1, seed + 20_000)
        expected = plain_answer(connection, query, limit, drawer_filter)
        assert answer(self.exact, connection, query, limit, drawer_filter) == expected
        assert answer(self.both, connection, query, limit, drawer_filter) == expected

    def pick(self, some: list[int]) -> list[int]:
        return sorted({self.drawers[number % len(self.drawers)] for number in some})

    def teardown(self) -> None:
        try:
            self.earlier.close()
            assert differences(self.exact, self.database) == []
            advance_all(self.both, self.database)
            assert differences(self.both, self.database) == []
            assert self.both.statistics().failures == 0
        finally:
            self.stack.close()


class PalaceWithChroma(Palace):
    """The same with Chroma, which takes a process for each example and each reconnection."""

    mode = "chroma"


def of_examples(count: int) -> settings:
    return settings(
        max_examples=count * THOROUGHNESS,
        stateful_step_count=25,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


TestPalace = Palace.TestCase
TestPalace.settings = of_examples(20)
TestPalaceWithChroma = PalaceWithChroma.TestCase
TestPalaceWithChroma.settings = of_examples(4)


def test_an_earlier_reader_finds_what_came_and_went_between_two_searches() -> None:
    palace = Palace()
    try:
        palace.fill(advance=False)
        palace.ask(seed=1, limit=5, drawer_filter=DrawerFilter())
        palace.reindex(seed=303)
        palace.keep_a_snapshot()
        palace.reindex(seed=1901)
        palace.ask(seed=2, limit=5, drawer_filter=DrawerFilter())
        palace.ask_earlier(seed=3, limit=5, drawer_filter=DrawerFilter(wing="work"))
    finally:
        palace.teardown()
