"""`import`: file texts with a progress bar, embed them, and say what was done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.palace.importing import ImportSummary
from mempalace_mcp.runtime.app import App, open_app

NOTHING_READ = 1


def run_import(settings: Settings, paths: Sequence[Path], wing: str | None, dry_run: bool, as_json: bool) -> int:
    """File, embed, report; Ctrl-C keeps what is done. Returns the exit code."""
    summary = ImportSummary()
    complete = stopped = False
    with Interrupts() as interrupts, open_app(settings) as app:
        try:
            if not dry_run:
                app.start()
            file_texts(app, paths, wing, dry_run, summary, interrupts.check)
            complete = True
            if not dry_run:
                with Progress("embedding", enabled=not as_json) as progress:
                    app.wait_until_indexed(progress.show, interrupts.check)
        except KeyboardInterrupt:
            stopped = True
            click.echo("Stopped; what was filed is kept, the same command goes on from there.", err=True)
    told = summary.as_dict(complete=complete)
    click.echo(json.dumps(told, ensure_ascii=False) if as_json else report(told, dry_run))
    if stopped:
        return INTERRUPTED
    return NOTHING_READ if not told["files"] and told["skipped"] else 0


def import_quietly(settings: Settings, sources: Sequence[tuple[Path, str | None]]) -> dict[str, Any]:
    """File and embed everything without a word, each source in its wing; what the demonstration begins with."""
    summary = ImportSummary()
    with open_app(settings) as app:
        app.start()
        for path, wing in sources:
            file_texts(app, [path], wing, False, summary)
        app.wait_until_indexed()
    return summary.as_dict(complete=True)


def file_texts(
    app: App,
    paths: Sequence[Path],
    wing: str | None,
    dry_run: bool,
    summary: ImportSummary,
    check: Callable[[], None] = lambda: None,
) -> None:
    """File everything under the paths, adding up as it goes; `check` is called after each step, to stop it."""
    try:
        for step in app.palace.import_paths(paths, wing=wing, dry_run=dry_run):
            summary.add(step)
            check()
    except PalaceError:
        check()  # whoever has stopped waiting need not hear what it would have come to
        raise


def report(told: dict[str, Any], dry_run: bool) -> str:
    """The summary as a person reads it."""
    verb = "would be filed" if dry_run else "filed"
    counts = [f"{told['filed']:,} {verb}", f"{told['unchanged']:,} unchanged", f"{told['updated']:,} updated"]
    counts += [f"{told[key]:,} {words}" for key, words in _RARE if told[key]]
    lines = [f"{output.count(told['files'], 'file')} in {output.duration(told['seconds'])}: {', '.join(counts)}"]
    if told["elsewhere"]:
        places = ", ".join(f"{count:,} in {wing!r}" for wing, count in told["elsewhere"].items())
        lines.append(f"Already filed in another wing, and left there: {places}. Move them with update_drawer.")
    if told["skipped"]:
        lines.append("Skipped:")
        lines += [f"  {count:,} × {reason}" for reason, count in told["skipped"].items()]
        lines += [f"    {_problem(problem)}" for problem in told["problems"] if _is_notable(problem)]
    return "\n".join(lines)


_RARE = (
    ("moved", "moved with their file"),
    ("restored", "back in their file, taken out of the trash"),
    ("kept", "kept as somebody edited them, though their file tells something else"),
    ("folded", "filed twice before, now once and the copy in the trash"),
    ("removed", "gone from their note or with it, now in the trash"),
    ("missing", "kept though their note is not there, as its folder is empty or cannot be read"),
    ("in_trash", "deleted before and left so"),
)
_ORDINARY = ("hidden", "ignored by .gitignore", "not a kind of file that is read", "cache or dependencies")


def _is_notable(problem: dict[str, Any]) -> bool:
    return problem["reason"] not in _ORDINARY


def _problem(problem: dict[str, Any]) -> str:
    lines = f", lines {', '.join(map(str, problem['lines']))}" if problem["lines"] else ""
    return f"{problem['path']}{lines}: {problem['reason']}"
