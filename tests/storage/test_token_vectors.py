"""Token vectors in the palace: they come and go with the vectors of their chunks, and what is missing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core.model import TOKEN_BYTES
from mempalace_mcp.storage.sqlite.connection import open_writer
from mempalace_mcp.storage.sqlite.migrations import load_migrations, migrate
from mempalace_mcp.storage.token_vectors import (
    backlog_end,
    backlog_size,
    count_faults,
    forget_token_vectors,
    latest_in_backlog,
    mend_token_vectors,
    shorten_backlog,
    store_token_vectors,
    token_vectors_of,
)
from tests.storage.drawer_support import Cabinet, cabinet
from tests.storage.support import ignore_references

pytestmark = pytest.mark.usefixtures("each_store")

VECTOR = b"\0" * 16


def tokens(number: int) -> bytes:
    """As many tokens as the number says."""
    return bytes([number % 256]) * TOKEN_BYTES * number


def embed(palace: Cabinet, *, with_tokens: bool = True) -> list[int]:
    """Embed all that is pending; returns the chunks."""
    chunks = [chunk.chunk for chunk in palace.drawers.pending(palace.connection, 100)]
    rows = [(chunk, VECTOR) for chunk in chunks]
    packed = [(chunk, tokens(chunk)) for chunk in chunks] if with_tokens else []
    palace.write(lambda tx: palace.drawers.store_vectors(tx, rows, packed))
    return chunks


def kept(palace: Cabinet) -> dict[int, bytes]:
    return token_vectors_of(palace.connection, range(100))


def end_backlog_at(palace: Cabinet, chunk: int) -> None:
    palace.connection.execute("UPDATE token_backlog SET last = ?", (chunk,))


def test_they_are_stored_with_the_vectors_and_read_for_some_chunks() -> None:
    with cabinet() as palace:
        palace.file("abcdef", size=2)
        chunks = embed(palace)
        assert kept(palace) == {chunk: tokens(chunk) for chunk in chunks}
        assert token_vectors_of(palace.connection, [chunks[1], 99]) == {chunks[1]: tokens(chunks[1])}
        assert token_vectors_of(palace.connection, []) == {}
        assert backlog_end(palace.connection) == backlog_size(palace.connection) == 0


def test_a_text_without_telling_tokens_has_an_empty_row() -> None:
    with cabinet() as palace:
        palace.file("?!")
        ((chunk, _),) = [(chunk.chunk, chunk.text) for chunk in palace.drawers.pending(palace.connection, 1)]
        palace.write(lambda tx: palace.drawers.store_vectors(tx, [(chunk, VECTOR)], [(chunk, b"")]))
        assert kept(palace) == {chunk: b""}
        assert count_faults(palace.connection) == 0


def test_they_are_stored_once_and_for_chunks_with_a_vector_only() -> None:
    with cabinet() as palace:
        palace.file("abcd", size=2)
        first, second = embed(palace, with_tokens=False)
        rows = [(first, tokens(1)), (first, tokens(2)), (second + 1, tokens(3))]
        palace.file("pending")
        assert palace.write(lambda tx: store_token_vectors(tx, rows)) == 1
        assert kept(palace) == {first: tokens(1)}


def test_to_store_them_alone_draws_no_stamp() -> None:
    with cabinet() as palace:
        palace.file("one")
        (chunk,) = embed(palace, with_tokens=False)
        seq = palace.seq()
        palace.write(lambda tx: store_token_vectors(tx, [(chunk, tokens(1))]))
        assert palace.seq() == seq


def test_a_new_text_loses_them_and_a_move_keeps_them() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        (old,) = embed(palace)
        palace.update(filed.drawer_id, room="Elsewhere", source_file="f", occurred_at=1)
        assert list(kept(palace)) == [old]
        palace.update(filed.drawer_id, content="two")
        assert kept(palace) == {}
        (new,) = embed(palace)
        assert list(kept(palace)) == [new] != [old]


def test_the_trash_keeps_them_and_a_purge_does_not() -> None:
    with cabinet() as palace:
        back, gone = palace.file_all(["back", "gone"])
        embed(palace)
        before = kept(palace)
        palace.delete(back, gone)
        palace.restore(back)
        assert kept(palace) == before
        assert palace.drawers.pending(palace.connection, 10) == []
        palace.purge()
        assert list(kept(palace)) == [min(before)]
        assert count_faults(palace.connection) == 0


def test_they_are_forgotten_with_the_vectors() -> None:
    with cabinet() as palace:
        palace.file("abcd", size=2)
        embed(palace)
        end_backlog_at(palace, 1)
        assert palace.write(palace.drawers.forget_vectors) == 2
        assert kept(palace) == {}
        assert backlog_end(palace.connection) == 0, "what gets a vector anew gets both"


def test_when_they_alone_are_forgotten_all_chunks_with_a_vector_are_the_backlog() -> None:
    with cabinet() as palace:
        palace.file("abcdef", size=2)
        chunks = embed(palace)
        palace.file("pending")
        palace.write(forget_token_vectors)
        assert kept(palace) == {}
        assert backlog_end(palace.connection) == chunks[-1]
        assert backlog_size(palace.connection) == 3


def test_the_latest_of_the_backlog_come_first_those_that_have_none() -> None:
    with cabinet() as palace:
        palace.file("a\U0001f600cdefgh", size=2)
        chunks = embed(palace, with_tokens=False)
        trashed = palace.file("in the trash").drawer_id
        chunks += embed(palace, with_tokens=False)
        palace.delete(trashed)
        palace.file("pending")
        end_backlog_at(palace, chunks[-1])
        palace.write(lambda tx: store_token_vectors(tx, [(chunks[2], tokens(1))]))
        found = latest_in_backlog(palace.connection, 3)
        assert [(each.chunk, each.text) for each in found] == [
            (chunks[4], "in the trash"),
            (chunks[3], "gh"),
            (chunks[1], "cd"),
        ]
        palace.write(lambda tx: shorten_backlog(tx, chunks[-1], found[-1].chunk - 1))
        assert [each.text for each in latest_in_backlog(palace.connection, 3)] == ["a\U0001f600"]


def test_a_backlog_that_another_process_has_changed_is_not_shortened() -> None:
    with cabinet() as palace:
        end_backlog_at(palace, 7)
        palace.write(lambda tx: shorten_backlog(tx, 6, 0))
        assert backlog_end(palace.connection) == 7


@pytest.mark.parametrize("damage", [b"x", bytes(TOKEN_BYTES + 1), bytes(10 * TOKEN_BYTES - 1)])
def test_a_row_of_a_wrong_size_counts_as_missing_and_is_mended(damage: bytes) -> None:
    with cabinet() as palace:
        palace.file("abcdef", size=2)
        chunks = embed(palace)
        palace.connection.execute("UPDATE token_vectors SET packed = ? WHERE chunk = ?", (damage, chunks[1]))
        assert list(kept(palace)) == [chunks[0], chunks[2]]
        assert count_faults(palace.connection) == 1
        assert palace.write(mend_token_vectors) == 1
        assert count_faults(palace.connection) == 0
        assert [each.chunk for each in latest_in_backlog(palace.connection, 9)] == [chunks[1]]


def test_rows_of_no_chunk_with_a_vector_are_dropped() -> None:
    with cabinet() as palace:
        palace.file("abcd", size=2)
        chunks = embed(palace)
        ignore_references(palace.connection)
        palace.connection.execute("INSERT INTO token_vectors (chunk, packed) VALUES (77, ?)", (tokens(1),))
        palace.connection.execute("DELETE FROM vectors WHERE chunk = ?", (chunks[0],))
        assert count_faults(palace.connection) == 2
        assert palace.write(mend_token_vectors) == 2
        assert list(kept(palace)) == [chunks[1]]
        assert backlog_end(palace.connection) == 0


def test_mending_leaves_a_backlog_that_is_longer() -> None:
    with cabinet() as palace:
        palace.file("abcd", size=2)
        embed(palace)
        end_backlog_at(palace, 99)
        palace.write(mend_token_vectors)
        assert backlog_end(palace.connection) == 99


def test_a_palace_of_an_earlier_version_has_all_its_vectors_in_the_backlog(tmp_path: Path) -> None:
    (tmp_path / "file.db").touch()
    connection = open_writer(tmp_path / "file.db")
    steps = load_migrations()
    before = next(number for number, step in enumerate(steps) if step.name.endswith("_token_vectors.sql"))
    migrate(connection, steps[:before])
    connection.execute("INSERT INTO wings VALUES (1, 'w', 'W')")
    connection.execute("INSERT INTO rooms (id, wing, key, name) VALUES (1, 1, 'r', 'R')")
    connection.execute(
        "INSERT INTO drawers (id, drawer_id, wing, room, created_at, updated_at, seq, content_hash, normalized_hash,"
        " content) VALUES (1, 'drawer', 1, 1, 1, 1, 1, x'00', x'00', 'abcdef')"
    )
    connection.execute("INSERT INTO chunks (id, drawer, ordinal, start, stop) VALUES (4, 1, 0, 0, 3), (9, 1, 1, 3, 6)")
    connection.execute("INSERT INTO vectors (chunk, embedding) VALUES (9, x'00'), (4, x'00')")
    migrate(connection, steps)
    assert (backlog_end(connection), backlog_size(connection)) == (9, 2)
    assert [(each.chunk, each.text) for each in latest_in_backlog(connection, 9)] == [(9, "def"), (4, "abc")]
    connection.close()
