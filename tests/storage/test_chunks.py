"""Chunks on their way to vectors: nothing is lost, nothing is kept for what is gone."""

from __future__ import annotations

import pytest

from mempalace_mcp.core.model import DrawerFilter, ModelStamp, Priority
from mempalace_mcp.storage.drawers import PendingCounts
from tests.storage.drawer_support import EVERY, Cabinet, cabinet

pytestmark = pytest.mark.usefixtures("each_store")

MODEL = ModelStamp("minilm", "int8", 384)
VECTOR = b"\0" * 16
OTHER = bytes(len(VECTOR))


def pending(palace: Cabinet, limit: int = 100, priority: Priority | None = None) -> list[str]:
    return [chunk.text for chunk in palace.drawers.pending(palace.connection, limit, priority)]


def embed(palace: Cabinet, limit: int = 100) -> int:
    chunks = palace.drawers.pending(palace.connection, limit)
    return palace.write(lambda tx: palace.drawers.store_vectors(tx, [(chunk.chunk, VECTOR) for chunk in chunks]))


def test_interactive_chunks_come_ahead_of_bulk_each_in_the_order_of_filing() -> None:
    with cabinet() as palace:
        palace.file("bulk one", priority=Priority.BULK)
        palace.file("said one")
        palace.file("bulk two", priority=Priority.BULK)
        palace.file("said two")
        assert pending(palace) == ["said one", "said two", "bulk one", "bulk two"]
        assert pending(palace, 3) == ["said one", "said two", "bulk one"]
        assert pending(palace, 9, Priority.BULK) == ["bulk one", "bulk two"]
        assert pending(palace, 1, Priority.INTERACTIVE) == ["said one"]
        assert palace.drawers.pending_counts(palace.connection) == PendingCounts(2, 2)
        assert palace.drawers.pending_count(palace.connection) == 4


def test_the_text_of_a_chunk_is_counted_in_characters() -> None:
    with cabinet() as palace:
        palace.file("a\U0001f600e\u0301漢字!", size=2)
        assert pending(palace) == ["a\U0001f600", "e\u0301", "漢字", "!"]


def test_vectors_are_kept_once_and_only_for_chunks_that_exist() -> None:
    with cabinet() as palace:
        palace.file("one two", size=3)
        chunks = palace.drawers.pending(palace.connection, 10)
        rows = [(chunks[0].chunk, VECTOR), (chunks[0].chunk, OTHER), (10**9, VECTOR)]
        assert palace.write(lambda tx: palace.drawers.store_vectors(tx, rows)) == 1
        assert palace.row("SELECT chunk, embedding FROM vectors") == (chunks[0].chunk, VECTOR)
        seq = palace.seq()
        assert palace.write(lambda tx: palace.drawers.store_vectors(tx, rows)) == 0
        assert palace.seq() == seq
        assert pending(palace) == [chunk.text for chunk in chunks[1:]]


def test_a_vector_that_comes_after_its_chunk_was_replaced_is_dropped() -> None:
    with cabinet() as palace:
        filed = palace.file("old")
        (old,) = palace.drawers.pending(palace.connection, 10)
        palace.update(filed.drawer_id, content="new")
        assert palace.write(lambda tx: palace.drawers.store_vectors(tx, [(old.chunk, VECTOR)])) == 0
        assert pending(palace) == ["new"]
        assert palace.row("SELECT count(*) FROM vectors")[0] == 0


def test_what_is_in_the_trash_is_not_embedded_until_it_is_restored() -> None:
    with cabinet() as palace:
        embedded, waiting = palace.file_all(["embedded", "waiting"])
        embed(palace, 1)
        palace.delete(embedded, waiting)
        assert pending(palace) == []
        assert palace.row("SELECT count(*) FROM vectors")[0] == 1
        palace.restore(embedded, waiting)
        assert pending(palace) == ["waiting"]


def test_a_new_text_loses_its_vectors_and_a_move_keeps_them() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        embed(palace)
        palace.update(filed.drawer_id, room="Elsewhere", source_file="f", occurred_at=1)
        assert pending(palace) == []
        palace.update(filed.drawer_id, content="two")
        assert pending(palace) == ["two"]
        assert palace.row("SELECT count(*) FROM vectors")[0] == 0


def test_positions_of_vectors_only_grow() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        embed(palace)
        (first,) = palace.row("SELECT max(position) FROM vectors")
        palace.delete(filed.drawer_id)
        palace.purge()
        palace.file("two")
        embed(palace)
        assert palace.row("SELECT max(position) FROM vectors")[0] > first


def test_forgetting_vectors_makes_all_live_chunks_pending_and_clears_the_model() -> None:
    with cabinet() as palace:
        palace.file("one two", size=3)
        gone = palace.file("gone").drawer_id
        palace.write(lambda tx: palace.drawers.set_model_stamp(tx, ModelStamp("other", "none", 3)))
        palace.write(lambda tx: palace.drawers.set_model_stamp(tx, MODEL))
        assert palace.drawers.model_stamp(palace.connection) == MODEL
        embed(palace)
        palace.delete(gone)
        assert palace.write(palace.drawers.forget_vectors) == 3
        assert palace.drawers.model_stamp(palace.connection) is None
        assert palace.row("SELECT count(*) FROM vectors")[0] == 0
        assert pending(palace) == ["one", " tw", "o"]
        palace.restore(gone)
        assert "gone" in pending(palace)


def test_chunk_rows_join_chunks_with_the_truth() -> None:
    with cabinet() as palace:
        filed = palace.file("abcdef", size=3, wing="One", occurred_at=5)
        gone = palace.file("gone").drawer_id
        palace.delete(gone)
        rows = palace.drawers.chunk_rows(palace.connection, [2, 3, 99, 1], EVERY)
        assert [(row.chunk, row.drawer_id, row.start, row.stop, row.when_at) for row in rows] == [
            (2, filed.drawer_id, 3, 6, 5),
            (1, filed.drawer_id, 0, 3, 5),
        ]
        assert palace.drawers.chunk_rows(palace.connection, [1], DrawerFilter(wing="two")) == []
        assert len(palace.drawers.chunk_rows(palace.connection, [1], DrawerFilter(wing="one", since=5, before=6))) == 1
