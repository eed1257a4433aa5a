"""The composition: what a whole process reports of itself, and how its faults show."""

from __future__ import annotations

import json
from pathlib import Path

from mempalace_mcp.runtime.context import AppContext
from tests.health import troubles
from tests.palace.support import opened


def test_the_status_tells_sizes_index_and_process(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.palace.add_drawer("w", "r", "a text to be counted")
        app.palace.kg_add("a", "is", "b")
        assert app.indexer.wait_until_idle(30)
        told = app.status()
        json.dumps(told)
    assert not troubles(told)
    assert told["palace"]["path"] == str(tmp_path)
    assert (told["palace"]["drawers"], told["palace"]["facts"], told["palace"]["pending"]) == (1, 1, 0)
    assert told["palace"]["model"].startswith("all-MiniLM-L6-v2")
    assert told["process"]["running_executions"] == 0


def test_health_names_every_component(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        components = app.health.snapshot().components
    assert {"database", "disk", "writer", "executor", "embedder", "indexer", "index"} <= components.keys()
    assert None not in components.values()


def test_reconnecting_reports_before_and_after_and_keeps_everything(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        drawer_id = app.palace.add_drawer("w", "r", "still there").drawer_id
        told = AppContext(app).reconnect()
        json.dumps(told)
        assert told["after"]["database"]["reopened"] == told["before"]["database"]["reopened"] + 1
        assert app.palace.get_drawers([drawer_id]).missing == []
        assert app.palace.search("still there").hits[0].drawer.drawer_id == drawer_id


def test_a_restart_finds_what_was_pending(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.add_drawer("w", "r", "filed while nobody embedded")
    with opened(tmp_path) as app:
        assert app.indexer.wait_until_idle(30)
        assert app.status()["palace"]["pending"] == 0
        assert app.indexer.statistics().embedded == 1


def test_the_trash_is_emptied_when_its_time_has_come(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        drawer_id = app.palace.add_drawer("w", "r", "thrown away").drawer_id
        app.palace.delete_drawers(drawer_ids=[drawer_id])
    with opened(tmp_path, PALACE_TRASH_DAYS="0") as app:
        assert app.indexer.wait_until_idle(30)
        assert app.palace.restore_drawers([drawer_id]).missing == [drawer_id]
        assert app.indexer.statistics().purged == 1


def test_two_processes_worth_of_apps_share_one_palace(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        for number in range(10):
            writer, reader = (one, other) if number % 2 else (other, one)
            drawer_id = writer.palace.add_drawer("w", "r", f"note {number} about herons at the lake").drawer_id
            assert reader.palace.get_drawers([drawer_id]).missing == []
            assert drawer_id in [hit.drawer.drawer_id for hit in reader.palace.search("water birds", limit=20).hits]
            writer.palace.kg_add("heron", "seen", f"day {number}")
            assert reader.palace.kg_query("heron").total == number + 1


def test_the_status_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.indexer.start()
        app.indexer.close()
        told = app.status()
    (reason,) = told["reasons"]
    assert told["status"] == "degraded"
    assert reason.startswith("indexer_dead: the thread that computes vectors has ended. Restart")
