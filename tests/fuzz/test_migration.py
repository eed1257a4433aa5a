"""Whatever is damaged in another program's memory, it is migrated as far as it can be read, or refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.palace.migration.items import Options
from mempalace_mcp.palace.migration.migrating import Migration
from mempalace_mcp.palace.migration.sources import recognize
from mempalace_mcp.runtime.app import App
from tests.fuzz.support import SEEDS, damage, examples
from tests.palace.migration.peer import PeerPalace
from tests.palace.migration.test_sources import NOTE, entity, lines, memory_service, relation
from tests.palace.support import opened


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with opened(tmp_path_factory.mktemp("fuzzed") / "ours", started=False) as running:
        yield running


@pytest.fixture(scope="module")
def memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a memory of each kind."""
    folder = tmp_path_factory.mktemp("memories")
    peer = PeerPalace.make(folder / "palace")
    for number in range(5):
        peer.add_drawer(f"d{number}", f"text {number} " * (10 + 100 * number), hall="h")
    peer.add_entry("entry", "today " * 300, "ada", "2026-01-01T10:00:00")
    peer.add_fact("t", "Ada", "likes", "tea", valid_from="2026-01-01", extracted_at="2026-01-01 10:00:00")
    peer.queue(1, 0, "queued", "text", wing="w", room="r")
    ends = {"source": {"wing": "a", "room": "b"}, "target": {"wing": "c", "room": "d"}}
    (folder / "tunnels.json").write_text(json.dumps([{"id": "t1", **ends, "label": "lamp"}]))
    memory_service(folder / "sqlite_vec.db")
    lines(folder / "memory.jsonl", entity("Ada", "person", "tall"), relation("Ada", "likes", "tea"))
    (folder / "notes").mkdir()
    (folder / "notes" / "lamp.md").write_text(NOTE)
    return folder


@examples(40)
@given(SEEDS)
def test_damaged_memories_are_read_or_refused(tally: Counter[str], app: App, memories: Path, seed: int) -> None:
    dice = Random(seed)
    copy = memories.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(memories, copy)
    for file in [each for each in copy.rglob("*") if each.is_file()]:
        if dice.random() < 0.7:
            file.write_bytes(damage(dice, file.read_bytes(), dice.choice((1, 4, 40))))
    for path in (copy / "palace", copy / "sqlite_vec.db", copy / "memory.jsonl", copy / "notes"):
        try:
            migration = Migration(app.stores, recognize(path), path, Options(), dry_run=dice.random() < 0.5)
            for _ in migration.run():
                pass
            *_, checked = migration.check()
            assert not checked.wrong
            told = json.dumps(migration.report.as_dict(), ensure_ascii=False).encode()
            assert len(told) < 100_000
            tally["read"] += 1
        except PalaceError:
            tally["refused"] += 1
