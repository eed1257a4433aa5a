"""Everything the facade writes, asked for twice under one key: one effect, one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Conflict, InvalidArgument, NotFound, PalaceError
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.app import App
from tests.palace.support import opened
from tests.storage.receipt_support import keyed, receipts

THREADS = 16
OTHER = b"of another one  "

Write = Callable[[Palace, dict[str, str], Deadline], Any]

WRITES: dict[str, Write] = {
    "add_drawer": lambda palace, ids, deadline: palace.add_drawer("w", "r", "new text", deadline=deadline),
    "add_drawer that is there": lambda palace, ids, deadline: palace.add_drawer("w", "r", "one", deadline=deadline),
    "add_drawer like another": lambda palace, ids, deadline: palace.add_drawer("w", "r", "ONE", deadline=deadline),
    "update_drawer": lambda palace, ids, deadline: palace.update_drawer(
        ids["one"], content="changed", metadata={"Filed": {"n": [1, None, "ü"]}}, deadline=deadline
    ),
    "delete_drawers by id": lambda palace, ids, deadline: palace.delete_drawers(
        drawer_ids=[ids["one"], ids["two"], ids["gone"]], deadline=deadline
    ),
    "delete_drawers by filter": lambda palace, ids, deadline: palace.delete_drawers(
        wing="w", dry_run=False, deadline=deadline
    ),
    "restore_drawers": lambda palace, ids, deadline: palace.restore_drawers([ids["gone"]], deadline=deadline),
    "diary_write": lambda palace, ids, deadline: palace.diary_write("Scribe", "done", deadline=deadline),
    "checkpoint": lambda palace, ids, deadline: palace.checkpoint(
        [{"wing": "w", "room": "r", "content": text} for text in ("one", "of the checkpoint")],
        facts=[{"subject": "Ada", "predicate": "likes", "object": "tea"}],
        diary={"agent_name": "Scribe", "entry": "checked"},
        deadline=deadline,
    ),
    "kg_add": lambda palace, ids, deadline: palace.kg_add("Ada", "knows", "Bob", confidence=0.5, deadline=deadline),
    "kg_add that is there": lambda palace, ids, deadline: palace.kg_add("Ada", "is at", "Acme", deadline=deadline),
    "kg_invalidate": lambda palace, ids, deadline: palace.kg_invalidate("Ada", "is at", "Acme", deadline=deadline),
    "kg_supersede": lambda palace, ids, deadline: palace.kg_supersede(
        "Ada", "is at", "Acme", "Initech", deadline=deadline
    ),
}


def furnish(palace: Palace) -> dict[str, str]:
    """Two drawers, one in the trash, and a fact; the ids of the drawers."""
    ids = {text: palace.add_drawer("w", "r", text).drawer_id for text in ("one", "two", "gone")}
    palace.delete_drawers(drawer_ids=[ids["gone"]])
    palace.kg_add("Ada", "is at", "Acme")
    return ids


def dump(app: App) -> list[str]:
    """All that is stored, as SQL."""
    with app.database.read() as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("name", WRITES)
def test_twice_under_one_key_is_once(tmp_path: Path, name: str) -> None:
    with opened(tmp_path, started=False) as app:
        ids = furnish(app.palace)
        before = dump(app)
        first = WRITES[name](app.palace, ids, keyed("a"))
        after = dump(app)
        assert after != before
        assert WRITES[name](app.palace, ids, keyed("a")) == first
        assert dump(app) == after
        with pytest.raises(Conflict):
            WRITES[name](app.palace, ids, keyed("a", OTHER))
        assert dump(app) == after


@pytest.mark.parametrize("name", WRITES)
def test_a_new_process_answers_as_the_old_one(tmp_path: Path, name: str) -> None:
    with opened(tmp_path, started=False) as app:
        ids = furnish(app.palace)
        first = WRITES[name](app.palace, ids, keyed("a"))
        after = dump(app)
    with opened(tmp_path, started=False) as app:
        assert WRITES[name](app.palace, ids, keyed("a")) == first
        assert dump(app) == after


def test_sixteen_threads_write_one_entry(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app, ThreadPoolExecutor(THREADS) as threads:
        ready = threading.Barrier(THREADS)

        def write(_: int) -> str:
            ready.wait()
            return app.palace.diary_write("Scribe", "once", deadline=keyed("a")).drawer_id

        assert len(set(threads.map(write, range(THREADS)))) == 1
        assert app.palace.diary_read("Scribe").total == 1


def test_a_refusal_stays_one_when_it_would_succeed_by_now(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        refused: list[PalaceError] = []
        for _ in range(2):
            with pytest.raises(NotFound) as caught:
                app.palace.kg_invalidate("Ada", "is at", "Acme", deadline=keyed("a"))
            refused.append(caught.value)
            app.palace.kg_add("Ada", "is at", "Acme")
        assert refused[0].as_dict() == refused[1].as_dict()
        assert app.palace.kg_stats().current == 1
        app.palace.kg_invalidate("Ada", "is at", "Acme", deadline=keyed("b"))
        assert app.palace.kg_stats().current == 0


def test_a_refused_checkpoint_stores_its_refusal_alone(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        items = [{"wing": "w", "room": "r", "content": "kept only with the rest"}]
        facts = [{"subject": "Ada", "predicate": "said", "object": "so", "source_drawer_id": "d_" + "0" * 24}]
        for _ in range(2):
            with pytest.raises(InvalidArgument) as caught:
                app.palace.checkpoint(items, facts=facts, deadline=keyed("a"))
            assert caught.value.argument == "facts[0].source_drawer_id"
        assert app.palace.get_taxonomy().drawers == 0
        assert receipts(app.database) == [("tests", "a/0")]


def test_what_never_reaches_the_store_leaves_no_receipt(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        with pytest.raises(InvalidArgument):
            app.palace.add_drawer("w", "r", "  ", deadline=keyed("a"))
        app.palace.delete_drawers(wing="w", deadline=keyed("a"))
        assert receipts(app.database) == []
        assert app.palace.add_drawer("w", "r", "text", deadline=keyed("a")).created


def test_imports_need_no_receipt(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("A note.\n", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        assert [step.filed for step in app.palace.import_paths([tmp_path / "note.md"])] == [1]
        assert receipts(app.database) == []
