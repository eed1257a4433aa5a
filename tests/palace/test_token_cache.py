"""Large palaces get the tokens of their passages in the background; small ones, which score without them, never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import DrawerChanges, NewDrawer
from mempalace_mcp.palace.token_cache import WINDOW, TokenCacheFiller
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.lexical import SMALL_TABLE
from mempalace_mcp.storage.transactions import Transaction
from tests.palace.support import opened, seq_of
from tests.storage.drawer_support import place, whole


def file(app: App, count: int) -> None:
    """File texts into the trash, where they await no vectors."""

    def work(tx: Transaction) -> None:
        drawers = app.stores.drawers
        new = [NewDrawer(place(), f"note {n} among {count}") for n in range(count)]
        drawers.delete(tx, [drawers.file(tx, each, whole(each.content)).drawer_id for each in new])

    app.database.write(work, Deadline())


def tokenized(app: App) -> set[int]:
    """The chunks whose tokens are kept."""
    with app.database.read() as connection:
        return {row[0] for row in connection.execute("SELECT chunk FROM passage_tokens")}


@contextmanager
def running(app: App) -> Iterator[TokenCacheFiller]:
    with closing(TokenCacheFiller(app.stores)) as filler:
        yield filler


def finish(filler: TokenCacheFiller) -> int:
    """At how many passages it looked until there was nothing left."""
    return sum(iter(filler.advance, 0))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A palace that has just become large, and has no tokens yet."""
    with opened(tmp_path_factory.mktemp("large"), started=False) as app:
        file(app, SMALL_TABLE)
        with running(app) as filler:
            assert finish(filler) == 0, "small as yet"
        assert tokenized(app) == set()
        file(app, 1)
        yield app


FULL = (SMALL_TABLE + 1) // WINDOW * WINDOW
"""Passages in full windows."""


@pytest.fixture
def untouched(large: App) -> App:
    large.database.write(lambda tx: tx.connection.execute("DELETE FROM passage_tokens").rowcount, Deadline())
    return large


def test_what_fills_windows_gets_its_tokens_and_nobody_hears_of_it(untouched: App) -> None:
    before = seq_of(untouched)
    with running(untouched) as filler:
        assert finish(filler) == FULL
        assert tokenized(untouched) == set(range(1, FULL + 1))
        assert finish(filler) == 0, "the rest waits for more"
    assert seq_of(untouched) == before
    with untouched.database.read() as connection:
        scores = untouched.stores.lexicon.scores(connection, "77", range(1, SMALL_TABLE + 1))
    assert [chunk for chunk, score in scores.items() if score] == [78]


def test_it_goes_on_where_another_process_ended(untouched: App) -> None:
    with running(untouched) as killed:
        for _ in range(3):
            killed.advance()
    assert len(tokenized(untouched)) == 3 * WINDOW
    with running(untouched) as one, running(untouched) as other:
        assert one.advance() == other.advance() == WINDOW, "side by side"
        assert finish(one) == finish(other) == FULL - WINDOW
    assert len(tokenized(untouched)) == FULL


def test_a_passage_indexed_anew_under_its_number_is_found_by_the_next_round(untouched: App) -> None:
    with running(untouched) as filler:
        finish(filler)
    with untouched.database.read() as connection:
        (drawer,) = connection.execute("SELECT d.drawer_id FROM drawers d JOIN chunks c ON c.drawer = d.id").fetchone()

    def reword(tx: Transaction) -> None:
        drawers = untouched.stores.drawers
        drawers.restore(tx, [drawer])
        drawers.update(tx, drawer, DrawerChanges(occurred_at=10), None)
        drawers.delete(tx, [drawer])

    untouched.database.write(reword, Deadline())
    assert len(tokenized(untouched)) == FULL - 1
    with running(untouched) as filler:
        finish(filler)
    assert len(tokenized(untouched)) == FULL


def test_the_indexer_sees_to_it_once_a_palace_is_large(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        file(app, SMALL_TABLE)
        app.indexer.start()
        assert app.indexer.wait_until_idle(30)
        assert tokenized(app) == set()
        file(app, 1)
        assert app.indexer.wait_until_idle(30)
        assert len(tokenized(app)) == FULL
