"""Migrating in tests: a whole palace of our own, and what became of a source in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import read_zone
from mempalace_mcp.core.model import Drawer
from mempalace_mcp.palace.migration.items import Options
from mempalace_mcp.palace.migration.migrating import Checked, Migration
from mempalace_mcp.palace.migration.sources import recognize
from mempalace_mcp.runtime.app import App


def migrate(
    app: App, path: Path, *, dry_run: bool = False, wing: str | None = None, zone: str = "UTC", home: Path | None = None
) -> tuple[dict[str, Any], Checked]:
    """Migrate what is at the path; the report, and what reading back has found."""
    options = Options(wing, read_zone(zone), None, {}, home)
    migration = Migration(app.stores, recognize(path), path, options, dry_run=dry_run)
    for _ in migration.run():
        pass
    *_, checked = migration.check()
    assert not checked.wrong
    return migration.report.as_dict(), checked


def traces(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What can be seen of a folder: times, modes and contents of all in it."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def drawer(app: App, old_id: str) -> Drawer:
    """The drawer that was known under an id."""
    (found,) = app.palace.get_drawers([old_id]).drawers
    return found


def counts(report: dict[str, Any], outcome: str = "filed") -> tuple[int, ...]:
    """Drawers, diary entries, facts and tunnels of that outcome."""
    return tuple(report[kind][outcome] for kind in ("drawers", "diary_entries", "facts", "tunnels"))
