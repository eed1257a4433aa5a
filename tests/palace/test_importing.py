"""Importing: idempotent, in step with its files, and never against what somebody did to the drawers since."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.runtime.app import App
from tests.palace.support import opened, seq_of

pytestmark = pytest.mark.usefixtures("each_store")

EXAMPLES = Path(__file__).parents[2] / "examples" / "texts"


def run(app: App, *paths: Path, **options: Any) -> dict[str, Any]:
    summary = ImportSummary()
    for step in app.palace.import_paths(list(paths), **options):
        summary.add(step)
    return summary.as_dict(complete=True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A copy of the sample texts that a test may change."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "texts"))


def test_a_second_run_adds_nothing(tmp_path: Path, texts: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        first = run(app, texts)
        before = seq_of(app)
        second = run(app, texts)
        assert first["filed"] > 10
        assert (second["filed"], second["updated"], second["removed"]) == (0, 0, 0)
        assert second["unchanged"] == first["filed"] + first["unchanged"]
        assert second["files"] == first["files"]
        assert seq_of(app) == before


def test_a_dry_run_counts_and_files_nothing(tmp_path: Path, texts: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        before = seq_of(app)
        trial = run(app, texts, dry_run=True)
        assert seq_of(app) == before
        assert run(app, texts)["filed"] == trial["filed"]


def test_a_changed_file_updates_its_drawer_and_keeps_its_history(tmp_path: Path, texts: Path) -> None:
    note = next((texts / "notes").glob("*.md"))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, texts)
        (before,) = app.palace.list_drawers(source_file=str(note.resolve())).items
        note.write_text(note.read_text(encoding="utf-8") + "\nOne line more: quokka.\n", encoding="utf-8")
        told = run(app, texts)
        assert (told["filed"], told["updated"]) == (0, 1)
        (after,) = app.palace.list_drawers(source_file=str(note.resolve())).items
        assert (after.drawer_id, after.version) == (before.drawer_id, before.version + 1)
        assert app.palace.search("quokka").hits[0].drawer.drawer_id == before.drawer_id


def test_a_moved_file_takes_its_drawers_along(tmp_path: Path, texts: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        first = run(app, texts)
        ids = {drawer.drawer_id for drawer in app.palace.list_drawers(limit=100).items}
        moved = texts.rename(tmp_path / "moved")
        trial = run(app, moved, dry_run=True)
        told = run(app, moved)
        assert (told["filed"], told["moved"], told["unchanged"]) == (0, first["filed"], first["unchanged"])
        assert (trial["filed"], trial["moved"]) == (0, first["filed"])
        drawers = app.palace.list_drawers(limit=100).items
        assert {drawer.drawer_id for drawer in drawers} == ids
        assert all(str(drawer.source_file).startswith(str(moved.resolve())) for drawer in drawers)
        again = run(app, moved)
        assert (again["filed"], again["moved"]) == (0, 0)


def test_a_copied_file_has_drawers_of_its_own(tmp_path: Path, texts: Path) -> None:
    note = next((texts / "notes").glob("*.md"))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, note)
        copy = Path(shutil.copy(note, tmp_path / "copy.md"))
        assert run(app, copy, note)["filed"] == 1
        note.unlink()
        copy.rename(tmp_path / "renamed.md")
        told = run(app, tmp_path / "renamed.md")
        assert (told["filed"], told["moved"]) == (0, 1)
        assert app.palace.list_drawers().total == 2


def test_a_growing_transcript_adds_only_what_is_new(tmp_path: Path, texts: Path) -> None:
    transcript = next((texts / "transcripts").rglob("*.jsonl"))
    lines = transcript.read_text(encoding="utf-8").splitlines(keepends=True)
    with opened(tmp_path / "palace", started=False) as app:
        transcript.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
        first = run(app, transcript)
        transcript.write_text("".join(lines), encoding="utf-8")
        second = run(app, transcript)
        assert first["filed"] > 0
        assert second["filed"] > 0
        assert second["updated"] <= 1
        assert second["removed"] == 0
        total = app.palace.list_drawers(source_file=str(transcript.resolve())).total
        assert total == first["filed"] + second["filed"]


def test_what_somebody_changed_or_deleted_stays_so(tmp_path: Path, texts: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        run(app, texts)
        changed, deleted = app.palace.list_drawers(limit=2).items
        app.palace.update_drawer(changed.drawer_id, content="corrected by hand")
        app.palace.delete_drawers(drawer_ids=[deleted.drawer_id])
        told = run(app, texts)
        assert (told["filed"], told["updated"], told["in_trash"]) == (0, 0, 1)
        assert app.palace.get_drawers([changed.drawer_id]).drawers[0].content == "corrected by hand"
        assert app.palace.get_drawers([deleted.drawer_id]).missing == [deleted.drawer_id]


@pytest.mark.parametrize("metadata", [{"import": "by hand"}, {"import": {"from": "me"}}, {"import": None}, {}])
def test_what_an_agent_filed_from_a_file_is_no_part_of_it(tmp_path: Path, metadata: dict[str, Any]) -> None:
    note = tmp_path / "note.md"
    note.write_text("What the file says.", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        filed = app.palace.add_drawer("w", "r", "What I think of it.", source_file=str(note), metadata=metadata)
        told = run(app, note)
        assert (told["filed"], told["removed"]) == (1, 0)
        assert app.palace.get_drawers([filed.drawer_id]).missing == []


def test_parts_gone_from_a_file_go_into_the_trash(tmp_path: Path) -> None:
    note = tmp_path / "long.md"
    sections = [
        f"# Section {number}\n\n" + f"Sentence {number} of the long note. " * 200 + "\n\n" for number in range(6)
    ]
    note.write_text("".join(sections), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        whole = run(app, note)
        assert whole["filed"] > 1
        note.write_text(sections[0], encoding="utf-8")
        told = run(app, note)
        assert told["removed"] >= whole["filed"] - 1
        assert app.palace.list_drawers(source_file=str(note.resolve())).total == 1


def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.md").write_text("A good note about herons.", encoding="utf-8")
    (folder / "binary.md").write_bytes(b"\x00\x01\x02" * 100)
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "empty.md").write_text("", encoding="utf-8")
    (folder / "broken.jsonl").write_text('{"type": "user", \nnot json at all\n', encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, folder, tmp_path / "missing.md")
        assert told["filed"] == 1
        assert sum(told["skipped"].values()) >= 4
        assert {Path(problem["path"]).name for problem in told["problems"]} >= {"binary.md", "latin.txt", "missing.md"}
        json.dumps(told)


def test_the_wing_can_be_chosen(tmp_path: Path, texts: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        run(app, texts, wing="Imported")
        assert {room.wing for room in app.palace.get_taxonomy().rooms} == {"Imported"}


def test_a_path_that_is_too_long_for_the_file_system_is_reported(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 300)
    with opened(tmp_path / "palace", started=False) as app:
        (step,) = app.palace.import_paths([path])
    assert len(step.problems) == 1
    assert step.path == str(path)
