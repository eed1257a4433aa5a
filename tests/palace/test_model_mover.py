"""A palace moves to another model while it is searched and written, with the real models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import ModelMismatch
from mempalace_mcp.core.model import DrawerFilter, ModelStamp, Priority, SearchMode
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.palace.candidate_pool import CandidatePools
from mempalace_mcp.palace.model_mover import ModelMover
from mempalace_mcp.palace.prepared_query import QueryPreparation
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.model_moves import begin_move, move_progress, other_vectors
from tests.daemon.support import wait_for
from tests.palace.support import opened

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]

MINILM, MULTILINGUAL = MODELS["minilm"], MODELS["multilingual"]
SECONDS = 50.0

NOTES = (
    ("allergy", "Our daughter must not eat peanuts; the kindergarten has the emergency pen."),
    ("boiler", "Die Heizung wird jedes Jahr im September gewartet, zuletzt von Firma Krüger."),
    ("backup", "Резервная копия базы снимается каждую ночь в половине третьего."),
    ("rent", "Le loyer augmente de quarante euros à partir de janvier."),
    ("tea", "祖母は朝に緑茶を一杯だけ飲みます。"),
)
ACROSS = (
    ("Welche Allergie hat unser Kind?", "allergy"),
    ("when is the heating serviced", "boiler"),
    ("at what time is the database copied", "backup"),
    ("家賃はいくら上がりますか", "rent"),
    ("Что бабушка пьёт утром?", "tea"),
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path) as running:
        file_notes(running)
        yield running


def file_notes(app: App) -> None:
    for room, content in NOTES:
        app.palace.add_drawer("home", room, content)
    assert app.indexer.wait_until_idle(SECONDS)


def begin(app: App, stamp: ModelStamp = MULTILINGUAL.stamp) -> bool:
    begun = app.stores.writer.write(lambda tx: begin_move(tx, stamp), Deadline(SECONDS))
    app.indexer.wake()
    return begun


def move(app: App, stamp: ModelStamp = MULTILINGUAL.stamp) -> None:
    assert begin(app, stamp)
    assert app.indexer.wait_until_idle(SECONDS)
    assert stamp_of(app) == stamp


def stamp_of(app: App) -> ModelStamp | None:
    with app.database.read() as connection:
        return app.stores.drawers.model_stamp(connection)


def room_of(app: App, question: str) -> str:
    result = app.palace.search(question, mode=SearchMode.SEMANTIC, limit=1)
    assert result.degraded is None
    return result.hits[0].drawer.room


def test_a_moved_palace_is_found_across_languages(app: App) -> None:
    assert sum(room_of(app, question) == room for question, room in ACROSS) < len(ACROSS)
    move(app)
    assert [room_of(app, question) for question, _ in ACROSS] == [room for _, room in ACROSS]
    with app.database.read() as connection:
        assert other_vectors(connection) is None, "nothing is left of the former model"
        assert app.index.verify(connection) == []
    move(app, MINILM.stamp)
    assert room_of(app, "what must our daughter not eat") == "allergy"


def test_every_search_meanwhile_goes_by_meaning(app: App) -> None:
    """Through the whole move and the switch, in four threads; what is filed meanwhile is found at once."""
    for number in range(150):
        app.palace.add_drawer("work", "log", f"Build {number} of the harbour service took {number * 7} seconds.")
    assert app.indexer.wait_until_idle(SECONDS)
    moved = threading.Event()
    failures: list[object] = []
    searches: list[str] = []

    def search() -> None:
        while not moved.is_set():
            try:
                searches.append(room_of(app, "what must our daughter not eat"))
            except Exception as error:  # noqa: BLE001 - of any kind: the test shows it
                failures.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert begin(app)
        for number in range(5):
            app.palace.add_drawer("home", f"new {number}", f"The spare key number {number} lies below a stone.")
            assert room_of(app, f"where is spare key number {number}?").startswith("new")
        assert app.indexer.wait_until_idle(SECONDS)
        assert stamp_of(app) == MULTILINGUAL.stamp
    finally:
        moved.set()
        for thread in threads:
            thread.join(SECONDS)
    assert failures == []
    assert set(searches) == {"allergy"}
    assert room_of(app, "wo liegt der Ersatzschlüssel?").startswith("new")


def test_another_process_follows_the_palace(app: App, tmp_path: Path) -> None:
    with opened(tmp_path) as other:
        assert room_of(other, "what must our daughter not eat") == "allergy"
        move(app)
        assert other.indexer.wait_until_idle(SECONDS)
        assert other.embedder.wait(SECONDS)
        assert other.embedder.get().stamp == MULTILINGUAL.stamp
        assert room_of(other, "Welche Allergie hat unser Kind?") == "allergy"
        other.palace.add_drawer("home", "bicycle", "The bicycle stands in the cellar.")
        assert room_of(other, "wo steht das Fahrrad?") == "bicycle"
        assert room_of(app, "wo steht das Fahrrad?") == "bicycle"


def test_the_model_of_the_palace_decides_not_the_setting(app: App, tmp_path: Path) -> None:
    move(app)
    app.close()
    with opened(tmp_path, PALACE_MODEL="minilm") as again:
        assert again.embedder.get().stamp == MULTILINGUAL.stamp
        assert room_of(again, "Welche Allergie hat unser Kind?") == "allergy"


def test_the_setting_chooses_the_model_of_a_new_palace(tmp_path: Path) -> None:
    with opened(tmp_path, PALACE_MODEL="multilingual") as app:
        file_notes(app)
        assert stamp_of(app) == MULTILINGUAL.stamp
        assert [room_of(app, question) for question, _ in ACROSS] == [room for _, room in ACROSS]


def test_a_move_goes_on_where_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        file_notes(app)
        for number in range(70):
            app.palace.add_drawer("work", "log", f"Build {number}.")
        assert app.indexer.wait_until_idle(SECONDS)
    with opened(tmp_path, started=False) as app:  # without its indexer
        begin(app)
        with closing(ModelMover(app.stores)) as mover:
            assert mover.advance() == 32
        with app.database.read() as connection:
            progress = move_progress(connection)
        assert progress is not None
        assert (progress.done, progress.total) == (32, 75)
        assert stamp_of(app) == MINILM.stamp
    with opened(tmp_path) as app:
        assert app.indexer.wait_until_idle(SECONDS)
        assert stamp_of(app) == MULTILINGUAL.stamp
        assert room_of(app, "Welche Allergie hat unser Kind?") == "allergy"


def test_an_ended_move_frees_the_other_model(app: App) -> None:
    with closing(ModelMover(app.stores)) as mover:
        app.indexer.close()
        begin(app)
        assert mover.advance() == len(NOTES)
        assert not begin(app, MINILM.stamp)
        assert mover.advance() == len(NOTES), "they are dropped"
        assert mover.advance() == 0
        with app.database.read() as connection:
            assert other_vectors(connection) is None
    assert stamp_of(app) == MINILM.stamp
    assert room_of(app, "what must our daughter not eat") == "allergy"


def test_a_palace_of_an_unknown_model_is_moved_to_a_known_one(app: App) -> None:
    """Its old vectors cannot answer, so words do until the move is done."""
    unknown = ModelStamp("sent-by-a-later-version", "float64", MINILM.stamp.dimension)
    app.stores.writer.write(lambda tx: app.stores.drawers.set_model_stamp(tx, unknown), Deadline(SECONDS))
    result = app.palace.search("peanuts")
    assert result.degraded is not None
    assert "sent-by-a-later-version" in result.degraded
    assert "mempalace-mcp reindex --model" in result.degraded
    with pytest.raises(ModelMismatch):
        app.palace.search("peanuts", mode=SearchMode.SEMANTIC)
    app.palace.add_drawer("home", "late", "The neighbours feed the cat in July.")
    move(app)
    assert room_of(app, "Wer füttert die Katze?") == "late"
    assert room_of(app, "Welche Allergie hat unser Kind?") == "allergy"


def test_vectors_that_are_made_anew_are_of_the_same_model(app: App, tmp_path: Path) -> None:
    move(app)
    app.close()
    with opened(tmp_path, started=False) as other:
        other.chunk_embedder.forget_vectors(Deadline(SECONDS))
    with opened(tmp_path) as again:
        assert again.indexer.wait_until_idle(SECONDS)
        assert stamp_of(again) == MULTILINGUAL.stamp
        assert room_of(again, "Welche Allergie hat unser Kind?") == "allergy"


def test_a_model_that_cannot_be_loaded_leaves_the_present_one_at_work(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, MULTILINGUAL.name, replace(MULTILINGUAL, directory=tmp_path / "nowhere"))
    assert begin(app)
    wait_for(lambda: app.indexer.statistics().failures > 0, "a failure that is told")
    assert "the palace cannot move" in str(app.indexer.statistics().last_error)
    failures = app.indexer.statistics().failures
    for _ in range(20):
        assert room_of(app, "what must our daughter not eat") == "allergy"
    assert app.indexer.statistics().failures <= failures + 2, "it pauses between attempts"
    monkeypatch.undo()
    app.indexer.wake()
    assert app.indexer.wait_until_idle(SECONDS)
    assert stamp_of(app) == MULTILINGUAL.stamp


def test_vectors_are_those_of_the_model(app: App) -> None:
    move(app)
    with app.database.read() as connection:
        rows = connection.execute(
            "SELECT d.content, v.embedding FROM vectors v JOIN chunks c ON c.id = v.chunk"
            " JOIN drawers d ON d.id = c.drawer"
        ).fetchall()
    embedder = app.embedder.get()
    stored = np.array([np.frombuffer(blob, "<f4") for _, blob in rows])
    assert np.array_equal(stored, embedder.embed([content for content, _ in rows]))


def test_a_search_of_before_the_switch_compares_no_vectors_of_two_models(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.embedder.start()
        assert app.embedder.wait(SECONDS)
        for room, content in NOTES:
            app.palace.add_drawer("home", room, content)
        app.chunk_embedder.embed_pending(len(NOTES), Priority.INTERACTIVE, Deadline())
        app.palace.add_drawer("home", "new", "The spare key lies below a stone.")
        prepared = QueryPreparation(app.stores).prepare(
            "where is the key", SearchMode.HYBRID, DrawerFilter(), app.stores.calendar
        )
        with app.database.read() as connection:
            app.embedder.offer(MULTILINGUAL.load())
            app.embedder.follow(MULTILINGUAL.stamp)
            pool = CandidatePools(app.stores, app.chunk_embedder).gather(connection, prepared, 50)
        cosines = [each.cosine for each in pool.candidates]
        assert (len(cosines), cosines.count(None)) == (len(NOTES) + 1, 1)
