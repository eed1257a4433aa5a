"""A move to another model in the store: both logs, the switch, what is filed and deleted meanwhile, what is dropped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.storage import model_moves
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.model_moves import OtherVectors
from mempalace_mcp.storage.sqlite.connection import SqliteConnection
from mempalace_mcp.storage.vectors import log
from tests.storage.drawer_support import Cabinet, cabinet

pytestmark = pytest.mark.usefixtures("each_store")

OLD = ModelStamp("old", "float32", 2)
NEW = ModelStamp("new", "float32", 3)
THIRD = ModelStamp("third", "float32", 4)
SOME = ["one", "two", "three", "four", "five"]


def vector(stamp: ModelStamp, chunk: int) -> bytes:
    """A vector that tells its model and its chunk."""
    return np.array([chunk, *[stamp.dimension] * (stamp.dimension - 1)], "<f4").tobytes()


def embed_pending(palace: Cabinet, stamp: ModelStamp = OLD) -> None:
    chunks = palace.drawers.pending(palace.connection, 100)
    rows = [(each.chunk, vector(stamp, each.chunk)) for each in chunks]
    palace.write(lambda tx: palace.drawers.store_vectors(tx, rows))


def begin(palace: Cabinet, stamp: ModelStamp = NEW) -> bool:
    return palace.write(lambda tx: model_moves.begin_move(tx, stamp))


def step(palace: Cabinet, stamp: ModelStamp = NEW, limit: int = 100) -> list[int]:
    """Embed some of what is missing; which chunks."""
    chunks = model_moves.missing_chunks(palace.connection, 0, limit)
    rows = [(each.chunk, vector(stamp, each.chunk)) for each in chunks]
    palace.write(lambda tx: model_moves.store_other_vectors(tx, stamp, rows))
    return [each.chunk for each in chunks]


def switch(palace: Cabinet, stamp: ModelStamp = NEW) -> bool:
    return palace.write(lambda tx: model_moves.switch_model(tx, stamp))


def drop_all(palace: Cabinet) -> None:
    while palace.write(lambda tx: model_moves.drop_other_vectors(tx, 2)):
        pass


def held(palace: Cabinet) -> dict[int, bytes]:
    """The vectors that answer, by chunk."""
    return dict(palace.connection.execute("SELECT chunk, embedding FROM vectors"))


def expected(palace: Cabinet, stamp: ModelStamp) -> dict[int, bytes]:
    """What they should be: one for each chunk of a live drawer."""
    rows = palace.connection.execute(
        "SELECT c.id FROM chunks c JOIN drawers d ON d.id = c.drawer WHERE d.deleted_at IS NULL"
    )
    return {chunk: vector(stamp, chunk) for (chunk,) in rows}


@pytest.fixture
def palace() -> Iterator[Cabinet]:
    with cabinet() as made:
        made.file_all(SOME)
        embed_pending(made)
        made.write(lambda tx: made.drawers.set_model_stamp(tx, OLD))
        yield made


def test_the_old_vectors_answer_until_the_new_are_complete(palace: Cabinet) -> None:
    assert begin(palace)
    for done in range(len(SOME)):
        assert held(palace) == expected(palace, OLD)
        assert palace.drawers.model_stamp(palace.connection) == OLD
        assert model_moves.move_progress(palace.connection) == model_moves.MoveProgress(NEW, done, len(SOME))
        assert not switch(palace), "some are missing"
        assert len(step(palace, limit=1)) == 1
    assert switch(palace)
    assert held(palace) == expected(palace, NEW)
    assert palace.drawers.model_stamp(palace.connection) == NEW
    assert model_moves.move_progress(palace.connection) is None


def test_former_vectors_are_dropped_little_by_little(palace: Cabinet) -> None:
    begin(palace)
    step(palace)
    assert not palace.write(lambda tx: model_moves.drop_other_vectors(tx, 2)), "they are wanted"
    switch(palace)
    assert model_moves.other_vectors(palace.connection) == OtherVectors(OLD, wanted=False)
    assert [palace.write(lambda tx: model_moves.drop_other_vectors(tx, 2)) for _ in range(4)] == [2, 2, 1, 0]
    assert model_moves.other_vectors(palace.connection) is None
    assert palace.row("SELECT count(*) FROM other_vectors") == (0,)
    assert held(palace) == expected(palace, NEW)


def test_what_is_filed_meanwhile_is_found_by_both(palace: Cabinet) -> None:
    begin(palace)
    step(palace)
    palace.file("a text of now")
    assert step(palace) == [], "it is pending, and found by meaning when the present model has embedded it"
    embed_pending(palace)
    assert held(palace) == expected(palace, OLD)
    assert not switch(palace)
    assert len(step(palace)) == 1
    assert switch(palace)
    assert held(palace) == expected(palace, NEW)


def test_what_no_model_has_embedded_stays_pending(palace: Cabinet) -> None:
    begin(palace)
    step(palace)
    palace.file("a text of now")
    assert switch(palace)
    assert palace.drawers.pending_count(palace.connection) == 1
    embed_pending(palace, NEW)
    assert held(palace) == expected(palace, NEW)


def test_what_is_changed_deleted_purged_and_restored_meanwhile(palace: Cabinet) -> None:
    ids = [row[0] for row in palace.connection.execute("SELECT drawer_id FROM drawers ORDER BY id")]
    palace.delete(ids[0])
    begin(palace)
    step(palace)
    palace.update(ids[1], content="changed")
    palace.delete(ids[2], ids[3])
    palace.restore(ids[0], ids[3])
    embed_pending(palace)
    assert not switch(palace), "those that were changed and restored are missing"
    assert len(step(palace)) == 2
    assert switch(palace)
    assert held(palace).items() >= expected(palace, NEW).items()
    palace.restore(ids[2])
    assert held(palace) == expected(palace, NEW), "it had a vector when it was deleted"
    palace.delete(ids[4])
    palace.purge()
    assert palace.row("SELECT count(*) FROM other_vectors WHERE chunk NOT IN (SELECT id FROM chunks)") == (0,)


def test_a_drawer_that_was_in_the_trash_during_the_move_is_embedded_when_it_is_back(palace: Cabinet) -> None:
    drawer = palace.file("in the trash").drawer_id
    embed_pending(palace)
    palace.delete(drawer)
    begin(palace)
    step(palace)
    assert switch(palace)
    palace.restore(drawer)
    assert palace.drawers.pending_count(palace.connection) == 1
    embed_pending(palace, NEW)
    assert held(palace) == expected(palace, NEW)


def test_a_move_to_the_present_model_ends_another(palace: Cabinet) -> None:
    begin(palace)
    step(palace, limit=2)
    assert not begin(palace, OLD)
    assert model_moves.move_progress(palace.connection) is None
    assert palace.write(lambda tx: model_moves.store_other_vectors(tx, NEW, [(5, vector(NEW, 5))])) == 0
    assert not switch(palace)
    assert held(palace) == expected(palace, OLD)
    assert begin(palace), "and goes on if it is wanted again"
    assert len(step(palace)) == len(SOME) - 2
    assert switch(palace)


def test_a_move_to_a_third_model_begins_anew(palace: Cabinet) -> None:
    begin(palace)
    step(palace, limit=2)
    assert begin(palace, THIRD)
    assert not switch(palace, NEW)
    assert len(step(palace, THIRD)) == len(SOME)
    assert switch(palace, THIRD)
    assert held(palace) == expected(palace, THIRD)


def log_of(connection: Connection) -> str:
    """Which log of vectors the indexes follow."""
    if not isinstance(connection, SqliteConnection):
        return str(connection.execute("SELECT palace_id, moves FROM state").fetchone())
    with log.snapshot(connection) as snapshot:
        return snapshot.palace


@pytest.mark.parametrize("dropped", [True, False], ids=["all dropped", "nothing dropped"])
def test_there_and_back(palace: Cabinet, dropped: bool) -> None:
    seen: list[str] = []
    for stamp in (NEW, OLD, NEW):
        seen.append(log_of(palace.connection))
        assert begin(palace, stamp)
        assert len(step(palace, stamp)) == (len(SOME) if dropped or len(seen) == 1 else 0)
        assert switch(palace, stamp)
        if dropped:
            drop_all(palace)
        assert held(palace) == expected(palace, stamp)
    assert len(set(seen)) == len(seen), "indexes of an earlier log must not be taken for those of this one"


def test_a_palace_without_vectors_moves_at_once() -> None:
    with cabinet() as palace:
        palace.file("new")
        assert begin(palace)
        assert switch(palace)
        assert palace.drawers.model_stamp(palace.connection) == NEW
        assert model_moves.other_vectors(palace.connection) is None
        assert palace.drawers.pending_count(palace.connection) == 1
