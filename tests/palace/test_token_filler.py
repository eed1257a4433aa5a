"""Chunks that an earlier version has embedded get token vectors, while everything else goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import MINILM, MULTILINGUAL
from mempalace_mcp.core.model import Priority, SearchMode
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.palace.model_mover import ModelMover
from mempalace_mcp.palace.token_filler import BATCH, TokenFiller
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.model_moves import begin_move
from mempalace_mcp.storage.token_vectors import backlog_end, count_faults, forget_token_vectors, token_vectors_of
from tests.palace.support import opened, seq_of

pytestmark = pytest.mark.usefixtures("each_store")

SECONDS = 30.0
NOTES = [
    f"On day {day} the {what} was seen from the pier."
    for day in range(12)
    for what in ("heron", "ferry", "lighthouse keeper", "harbour master")
]


def kept(app: App) -> dict[int, bytes]:
    """The token vectors of all chunks."""
    with app.database.read() as connection:
        chunks = [row[0] for row in connection.execute("SELECT id FROM chunks")]
        return token_vectors_of(connection, chunks)


def forget(app: App) -> None:
    """Leave the palace as the step of the schema leaves one of an earlier version."""
    app.database.write(forget_token_vectors, Deadline())


def left(app: App) -> int | None:
    with app.database.read() as connection:
        return TokenFiller(app.stores, app.chunk_embedder).left(connection)


def ids(app: App, query: str) -> set[str]:
    return {hit.drawer.drawer_id for hit in app.palace.search(query, limit=len(NOTES) + 1).hits}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A palace with notes, and a filler that only the test uses."""
    with opened(tmp_path, started=False) as app:
        app.embedder.start()
        assert app.embedder.wait(SECONDS)
        for note in NOTES:
            app.palace.add_drawer("Harbour", "log", note)
        embed(app)
        yield app


def embed(app: App) -> None:
    """Give all chunks that wait their vectors, as the indexer does."""
    while app.chunk_embedder.embed_pending(len(NOTES), Priority.INTERACTIVE, Deadline()):
        pass


def test_what_is_filed_has_token_vectors_as_soon_as_its_vector(app: App) -> None:
    made = kept(app)
    assert len(made) == len(NOTES)
    assert all(made.values())
    assert left(app) == 0
    assert TokenFiller(app.stores, app.chunk_embedder).advance() == 0


def test_step_by_step_all_of_them_are_made_the_latest_first(app: App) -> None:
    before, seq = kept(app), seq_of(app)
    forget(app)
    assert left(app) == len(NOTES)
    filler = TokenFiller(app.stores, app.chunk_embedder)
    assert filler.advance() == BATCH
    assert list(kept(app)) == sorted(before)[-BATCH:]
    assert left(app) == len(NOTES) - BATCH
    assert filler.advance() == len(NOTES) - BATCH
    assert (filler.advance(), left(app)) == (0, 0)
    assert kept(app) == before
    assert seq_of(app) == seq, "no content has changed"


def test_another_process_goes_on_where_the_first_has_ended(app: App) -> None:
    before = kept(app)
    forget(app)
    TokenFiller(app.stores, app.chunk_embedder).advance()
    other = TokenFiller(app.stores, app.chunk_embedder)
    with app.database.read() as connection:
        assert other.left(connection) == len(NOTES) - BATCH
    assert sum(iter(other.advance, 0)) == len(NOTES) - BATCH
    assert kept(app) == before


def test_search_works_while_they_are_made(app: App) -> None:
    everything = ids(app, "Who was seen from the pier?")
    assert len(everything) == len(NOTES)
    forget(app)
    filler = TokenFiller(app.stores, app.chunk_embedder)
    while True:
        for mode in SearchMode:
            result = app.palace.search("day 7 heron", limit=1, mode=mode)
            assert result.hits[0].drawer.content == "On day 7 the heron was seen from the pier."
            assert result.degraded is None
        assert ids(app, "Who was seen from the pier?") == everything
        if not filler.advance():
            break


def test_what_is_filed_and_changed_meanwhile_has_them_too(app: App) -> None:
    forget(app)
    filler = TokenFiller(app.stores, app.chunk_embedder)
    filler.advance()
    drawers = app.palace.search("day 0 ferry", limit=3).hits
    app.palace.update_drawer(drawers[0].drawer.drawer_id, content="It was a tug, and no ferry.")
    app.palace.delete_drawers(drawer_ids=[drawers[1].drawer.drawer_id])
    app.palace.add_drawer("Harbour", "log", "A new note about the tug.")
    embed(app)
    assert sum(iter(filler.advance, 0)) >= 1
    app.palace.restore_drawers([drawers[1].drawer.drawer_id])
    embed(app)
    assert len(kept(app)) == len(NOTES) + 1
    with app.database.read() as connection:
        assert count_faults(connection) == 0
        assert backlog_end(connection) == 0


def move(app: App, model: str) -> None:
    """Move the palace to another model, as the indexer does it."""
    app.database.write(lambda tx: begin_move(tx, MODELS[model].stamp), Deadline())
    mover = ModelMover(app.stores)
    while mover.advance():
        pass
    mover.close()
    assert app.embedder.get().stamp == MODELS[model].stamp


def test_a_model_that_gives_none_has_them_dropped_and_a_move_back_makes_them(app: App) -> None:
    before = kept(app)
    filler = TokenFiller(app.stores, app.chunk_embedder)
    assert filler.drop() == 0
    move(app, MULTILINGUAL)
    assert left(app) == filler.advance() == 0
    assert filler.drop() == len(NOTES)
    assert (kept(app), filler.drop()) == ({}, 0)
    app.palace.add_drawer("Harbour", "log", "Eine neue Notiz.")
    embed(app)
    assert kept(app) == {}
    move(app, MINILM)
    assert left(app) == len(NOTES) + 1
    assert sum(iter(filler.advance, 0)) == len(NOTES) + 1
    assert {chunk: tokens for chunk, tokens in kept(app).items() if chunk in before} == before
    assert filler.drop() == 0


def test_those_that_are_not_dropped_yet_serve_after_a_move_back(app: App) -> None:
    before = kept(app)
    move(app, MULTILINGUAL)
    move(app, MINILM)
    assert kept(app) == before
    TokenFiller(app.stores, app.chunk_embedder).advance()
    assert (kept(app), left(app)) == (before, 0)


def test_the_indexer_makes_them_when_it_is_idle_and_tells_how_many_are_left(app: App) -> None:
    before = kept(app)
    forget(app)
    app.indexer.start()
    assert app.indexer.wait_until_idle(SECONDS), "nobody waits for them"
    until = time.monotonic() + SECONDS
    while kept(app) != before and time.monotonic() < until:
        time.sleep(0.05)
    assert kept(app) == before
    app.indexer.wake()
    while app.indexer.statistics().pending_tokens != 0 and time.monotonic() < until:
        time.sleep(0.05)
    statistics = app.indexer.statistics()
    assert (statistics.pending_tokens, statistics.failures) == (0, 0)


def test_a_step_that_fails_is_done_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(app)
    forget(app)
    filler = TokenFiller(app.stores, app.chunk_embedder)

    def refuse(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr("mempalace_mcp.palace.token_filler.shorten_backlog", refuse)
        with pytest.raises(OSError, match="the disk is gone"):
            filler.advance()
    assert kept(app) == {}
    assert sum(iter(filler.advance, 0)) == len(NOTES)
    assert kept(app) == before
