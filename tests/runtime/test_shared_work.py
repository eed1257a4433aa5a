"""Two servers of one palace in PostgreSQL, with the real model: they embed together, and one goes on for the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.core.model import NewDrawer, Priority, Span
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.storage.model_moves import begin_move, other_vectors
from mempalace_mcp.storage.transactions import Transaction
from tests.daemon.support import wait_for
from tests.postgres_server import fresh_schema, shared_address, text_of
from tests.storage.drawer_support import place

pytestmark = pytest.mark.long

PASSAGES = 400
SECONDS = 60.0


@pytest.fixture(scope="module", autouse=True)
def address() -> str:
    """Of the server, started before the first test looks at what it leaves behind."""
    return shared_address()


@pytest.fixture
def settings(address: str, tmp_path: Path) -> Iterator[Settings]:
    """Of one palace, for any number of servers."""
    with fresh_schema(address) as url:
        yield replace(load_settings({"PALACE_URL": text_of(url)}, None), palace=tmp_path)


@pytest.fixture
def servers(settings: Settings) -> Iterator[tuple[App, App]]:
    """Two that are not started."""
    with ExitStack() as stack:
        yield stack.enter_context(open_app(settings)), stack.enter_context(open_app(settings))


def file_passages(app: App, count: int, priority: Priority) -> None:
    def work(tx: Transaction) -> None:
        for number in range(count):
            text = f"note {number} about a subject of its own"
            app.stores.drawers.file(tx, NewDrawer(place(), text, priority=priority), [Span(0, len(text))])

    app.stores.writer.write(work, Deadline(SECONDS))


def pending(app: App) -> int:
    with app.database.read() as connection:
        return app.stores.drawers.pending_count(connection)


def test_servers_embed_an_import_together(servers: tuple[App, App]) -> None:
    one, two = servers
    file_passages(one, PASSAGES, Priority.BULK)
    for app in servers:
        app.start()
    for app in servers:
        wait_for(lambda: app.embedder.ready, "the model")  # noqa: B023
    wait_for(lambda: pending(one) == 0, "all vectors")
    shares = [app.indexer.statistics().embedded for app in servers]
    assert sum(shares) == PASSAGES
    assert min(shares) > 0
    assert two.palace.search("note 17").hits


def test_what_one_server_files_another_one_embeds(servers: tuple[App, App]) -> None:
    one, two = servers
    two.start()
    one.palace.add_drawer("w", "r", "the boiler is serviced every September")
    wait_for(lambda: two.indexer.statistics().embedded == 1, "the vector")
    assert pending(one) == 0


def test_one_server_goes_on_with_the_move_of_another(servers: tuple[App, App]) -> None:
    one, two = servers
    file_passages(one, 100, Priority.BULK)
    one.start()
    wait_for(lambda: pending(one) == 0, "all vectors")
    stamp = MODELS["multilingual"].stamp
    one.stores.writer.write(lambda tx: begin_move(tx, stamp), Deadline(SECONDS))
    one.indexer.wake()
    two.start()
    one.indexer.close()

    def has_moved() -> bool:
        with two.database.read() as connection:
            return other_vectors(connection) is None and two.stores.drawers.model_stamp(connection) == stamp

    wait_for(has_moved, "the other model")
    assert two.palace.search("note 17").hits
