"""Notes follow their files: what goes out of a note, or with it, goes into the trash, and comes back with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.runtime.app import App
from tests.palace.earlier import said, write
from tests.palace.support import opened
from tests.palace.test_importing import run

pytestmark = pytest.mark.usefixtures("each_store")

SECTIONS = [f"# Part {number}\n\n" + f"Sentence {number} of the note. " * 300 + "\n\n" for number in range(5)]


def plant(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


def contents(app: App) -> set[str]:
    return {drawer.content for drawer in app.palace.list_drawers(limit=100).items}


def told(app: App, *paths: Path, **options: Any) -> dict[str, int]:
    counts = run(app, *paths, **options)
    return {name: count for name, count in counts.items() if count and name in NAMES}


NAMES = ("filed", "updated", "moved", "restored", "kept", "removed", "missing", "in_trash")


def test_a_note_that_is_gone_from_its_folder_goes_into_the_trash_and_comes_back(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        ids = {drawer.drawer_id for drawer in app.palace.list_drawers(limit=100).items}
        (folder / "two.md").unlink()
        assert told(app, folder, dry_run=True) == {"removed": 1}
        assert contents(app) == {"The first.", "The second."}
        assert told(app, folder) == {"removed": 1}
        assert told(app, folder) == {}
        assert contents(app) == {"The first."}
        plant(folder, two="The second.")
        assert told(app, folder) == {"restored": 1}
        assert told(app, folder) == {}
        assert {drawer.drawer_id for drawer in app.palace.list_drawers(limit=100).items} == ids


def test_a_note_that_comes_back_changed_is_restored_and_updated(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (folder / "two.md").unlink()
        run(app, folder)
        plant(folder, two="The second, again.")
        assert told(app, folder) == {"restored": 1, "updated": 1}
        assert contents(app) == {"The first.", "The second, again."}


def test_a_part_that_comes_back_is_restored_and_one_that_somebody_deleted_is_not(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", long="".join(SECTIONS))
    with opened(tmp_path / "palace", started=False) as app:
        assert told(app, folder) == {"filed": 5}
        plant(folder, long="".join(SECTIONS[:4]))
        assert told(app, folder) == {"removed": 1}
        (zero,) = (each for each in app.palace.list_drawers(limit=100).items if "Part 0" in each.content)
        app.palace.delete_drawers(drawer_ids=[zero.drawer_id])
        plant(folder, long="".join(SECTIONS))
        assert told(app, folder) == {"restored": 1, "in_trash": 1}
        assert len(contents(app)) == 4


def test_a_note_that_somebody_deleted_stays_so_when_its_file_is_moved(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", long="".join(SECTIONS))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        gone = [each.drawer_id for each in app.palace.list_drawers(limit=100).items if "first" in each.content]
        gone += [each.drawer_id for each in app.palace.list_drawers(limit=100).items if "Sentence 3" in each.content]
        app.palace.delete_drawers(drawer_ids=gone)
        (folder / "one.md").rename(folder / "two.md")
        assert told(app, folder) == {"in_trash": 2}
        (folder / "copy.md").write_text("The first.", encoding="utf-8")
        assert told(app, folder) == {"filed": 1, "in_trash": 2}, "a copy is another note"
        folder.rename(tmp_path / "renamed")
        for expected in ({"moved": 5, "in_trash": 2}, {"in_trash": 2}):
            assert told(app, tmp_path / "renamed") == expected
        app.writer.write(lambda tx: app.stores.drawers.purge(tx, tx.stamp.instant, 100), Deadline())
        (tmp_path / "renamed").rename(tmp_path / "again")
        assert told(app, tmp_path / "again") == {"moved": 5, "in_trash": 2}, "what was purged does not come back either"


def test_what_somebody_deleted_is_not_counted_among_what_is_there(tmp_path: Path) -> None:
    note = plant(tmp_path / "vault", long="".join(SECTIONS)) / "long.md"
    path = write(tmp_path / "s.jsonl", [each for number in range(10, 60, 10) for each in said(number)])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, note, path)
        listed = app.palace.list_drawers(limit=100).items
        gone = [each.drawer_id for each in listed if "Sentence 1" in each.content or "Pier 20" in each.content]
        app.palace.delete_drawers(drawer_ids=gone)
        for is_touched in (False, True, False):
            if is_touched:
                os.utime(note, (1, 1))
                os.utime(path, (1, 1))
            counts = run(app, note, path)
            assert (counts["unchanged"], counts["in_trash"]) == (8, 2)


@pytest.mark.parametrize("state", ["empty", "missing", "unreadable", "empty inside"])
def test_a_folder_that_is_out_of_reach_removes_nothing(tmp_path: Path, state: str) -> None:
    root = plant(tmp_path / "disk", top="At the top.")
    plant(root / "mount", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, root)
        before = contents(app)
        given = root
        if state == "empty inside":
            shutil.rmtree(root / "mount")
            (root / "mount").mkdir()
            expected = {"missing": 2}
        else:
            shutil.rmtree(root)
            expected = {"missing": 3}
        if state == "empty":
            root.mkdir()
        elif state == "unreadable":
            root.write_text("a file now", encoding="utf-8")
            expected = {}
        elif state == "missing":
            expected = {}
        if state == "unreadable":
            run(app, given)
        else:
            assert told(app, given) == expected
        assert before <= contents(app)


def test_other_folders_and_single_files_tell_nothing_of_a_note(tmp_path: Path) -> None:
    one, other = plant(tmp_path / "vault", a="A.", b="B."), plant(tmp_path / "vault2", c="C.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, one, other)
        (one / "b.md").unlink()
        assert told(app, one / "a.md", other) == {}
        assert contents(app) == {"A.", "B.", "C."}


def test_a_folder_that_was_removed_whole_from_a_living_one_takes_its_notes_along(tmp_path: Path) -> None:
    root = plant(tmp_path / "vault", top="At the top.")
    plant(root / "old" / "deep", one="The first.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, root)
        shutil.rmtree(root / "old")
        assert told(app, root) == {"removed": 1}
        assert contents(app) == {"At the top."}


def test_a_note_that_is_still_there_but_left_out_now_stays(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (folder / ".gitignore").write_text("two.md\n", encoding="utf-8")
        assert told(app, folder) == {}
        assert contents(app) == {"The first.", "The second."}


def test_a_renamed_note_is_moved_and_not_removed(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (folder / "two.md").rename(folder / "three.md")
        assert told(app, folder, dry_run=True) == {"moved": 1}
        assert told(app, folder) == {"moved": 1}
        assert told(app, folder) == {}
        plant(folder, three="The third.")
        assert told(app, folder) == {"updated": 1}


def test_what_somebody_edited_stays_and_is_told_of_until_it_is_settled(tmp_path: Path) -> None:
    folder = plant(tmp_path / "vault", one="The first.", two="The second.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (drawer,) = app.palace.list_drawers(source_file=str(folder / "one.md")).items
        app.palace.update_drawer(drawer.drawer_id, content="The first, corrected.")
        assert told(app, folder) == {}
        plant(folder, one="The first of all.")
        assert told(app, folder) == told(app, folder) == {"kept": 1}
        assert "The first, corrected." in contents(app)
        (folder / "one.md").unlink()
        assert told(app, folder) == {"kept": 1}
        assert "The first, corrected." in contents(app)


@pytest.mark.parametrize(
    "changes",
    [{"metadata": {"mine": 1}}, {"metadata": {}}, {"source_file": "ticket 7"}, {"wing": "other"}, {"room": "other"}],
)
def test_whatever_somebody_sets_a_drawer_stays_the_notes(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = plant(tmp_path / "vault", one="The first.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (drawer,) = app.palace.list_drawers().items
        app.palace.update_drawer(drawer.drawer_id, **changes)
        plant(folder, one="The first, and more.")
        assert told(app, folder) == {"updated": 1}
        (after,) = app.palace.list_drawers().items
        assert (after.drawer_id, after.content) == (drawer.drawer_id, "The first, and more.")
        for name, value in changes.items():
            assert getattr(after, name) == value


@pytest.mark.parametrize("state", ["NULL", "'1' || ltrim(state, '0123456789')"])
def test_a_date_that_is_found_later_is_added(tmp_path: Path, state: str) -> None:
    folder = plant(tmp_path / "vault", one="---\ndate: 2026-05-08\n---\nThe first.")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        with app.database.read() as connection:
            assert connection.execute("SELECT count(*) FROM import_files WHERE state IS NOT NULL").fetchone() == (1,)
        app.writer.write(lambda tx: tx.connection.execute("UPDATE drawers SET occurred_at = NULL"), Deadline())
        app.writer.write(lambda tx: tx.connection.execute(f"UPDATE import_files SET state = {state}"), Deadline())
        assert told(app, folder) == {"updated": 1}
        (drawer,) = app.palace.list_drawers().items
        assert drawer.occurred_at == clock.parse("2026-05-08", "")
