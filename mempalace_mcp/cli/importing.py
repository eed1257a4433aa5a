"""`import`: files texts with a progress bar, embeds them, and reports the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.palace.importers import Machine, Reader, histories

if TYPE_CHECKING:  # `setup` has nothing to do with a palace before somebody has agreed
    from mempalace_mcp.runtime.app import App

NOTHING_READ = 1
PLACES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import: files and folders, with `agents` also what agents keep on this machine, and how."""

    paths: Sequence[Path]
    agents: bool = False
    include_tools: bool = False
    turn_ended: bool = False
    keep_secrets: bool = False
    wing: str | None = None
    dry_run: bool = False


def run_import(settings: Settings, request: ImportRequest, as_json: bool) -> int:
    """File, embed and report; Ctrl-C keeps what is filed. Returns the exit code."""
    from mempalace_mcp.runtime.app import open_app

    summary = ImportSummary()
    found = list(histories(Machine.this())) if request.agents else []
    if request.agents and not as_json:
        click.echo(format_histories(found))
    paths = list(dict.fromkeys([*request.paths, *(place for _, place in found)]))
    dry_run = request.dry_run
    complete = stopped = False
    advice = None
    with Interrupts() as interrupts, open_app(settings) as app:
        try:
            if not dry_run:
                app.start()
            file_texts(app, replace(request, paths=paths), summary, interrupts.check)
            complete = True
            if not dry_run:
                with Progress("embedding", enabled=not as_json) as progress:
                    app.wait_until_indexed(progress.show, interrupts.check)
                advice = advice_of(app)
        except KeyboardInterrupt:
            stopped = True
            click.echo("Stopped. What was filed is kept; run the same command again to continue.", err=True)
    result = summary.as_dict(complete=complete)
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else format_result(result, dry_run))
    if advice is not None and not as_json:
        click.echo(f"Note: {advice}")
    if stopped:
        return INTERRUPTED
    return NOTHING_READ if not result["files"] and (result["skipped"] or not paths) else 0


def advice_of(app: App) -> str | None:
    """What speaks for another model, now that there are texts, and what to do; None if nothing does."""
    from mempalace_mcp.palace.model_advice import model_advice

    with app.database.read() as connection:
        return model_advice(connection, app.settings.model)


def import_quietly(settings: Settings, sources: Sequence[tuple[Path, str | None]]) -> dict[str, Any]:
    """File and embed everything without output, each path in its wing."""
    from mempalace_mcp.runtime.app import open_app

    summary = ImportSummary()
    with open_app(settings) as app:
        app.start()
        for path, wing in sources:
            file_texts(app, ImportRequest([path], wing=wing), summary)
        app.wait_until_indexed()
    return summary.as_dict(complete=True)


def file_texts(
    app: App, request: ImportRequest, summary: ImportSummary, check: Callable[[], None] = lambda: None
) -> None:
    """File everything under the paths and add it to the summary. `check` is called after each step and may raise."""
    steps = app.palace.import_paths(
        request.paths,
        wing=request.wing,
        dry_run=request.dry_run,
        include_tools=request.include_tools,
        turn_ended=request.turn_ended,
        keep_secrets=request.keep_secrets,
    )
    try:
        for step in steps:
            summary.add(step)
            check()
    except PalaceError:
        check()  # after Ctrl-C the refusal does not matter any more
        raise


def format_histories(found: Sequence[tuple[Reader, Path]]) -> str:
    """Where histories of agents were found."""
    if not found:
        return "No histories of agents were found on this machine."
    places: dict[str, list[Path]] = {}
    for reader, place in found:
        places.setdefault(reader.label, []).append(place)
    lines = [f"  {label}: {_shown(those)}" for label, those in places.items()]
    return "\n".join(["Found:", *lines])


def _shown(places: Sequence[Path]) -> str:
    """The places themselves if they are few, else how many there are, and the first of them."""
    if len(places) <= PLACES_SHOWN:
        return ", ".join(map(str, places))
    return f"{len(places):,} places, such as {places[0]}"


def format_result(result: dict[str, Any], dry_run: bool) -> str:
    """The summary of an import as text."""
    verb = "would be filed" if dry_run else "filed"
    counts = [f"{result['filed']:,} {verb}", f"{result['unchanged']:,} unchanged", f"{result['updated']:,} updated"]
    counts += [f"{result[key]:,} {words}" for key, words in _RARE if result[key]]
    lines = [f"{output.count(result['files'], 'file')} in {output.duration(result['seconds'])}: {', '.join(counts)}"]
    if result["elsewhere"]:
        places = ", ".join(f"{count:,} in {wing!r}" for wing, count in result["elsewhere"].items())
        lines.append(f"Already filed in another wing and left there: {places}. To move them, use `update_drawer`.")
    if result["skipped"]:
        lines.append("Skipped:")
        lines += [f"  {count:,} × {reason}" for reason, count in result["skipped"].items()]
        lines += [f"    {_problem(problem)}" for problem in result["problems"] if _is_notable(problem)]
    return "\n".join(lines)


_RARE = (
    ("moved", "moved with their file"),
    ("restored", "restored from the trash, since they are in their file again"),
    ("kept", "kept as edited, although their file differs"),
    ("folded", "filed twice before; the copy is in the trash now"),
    ("removed", "moved to the trash, since their note no longer has them or is gone"),
    ("missing", "kept although their note is gone, since its folder is empty or cannot be read"),
    ("in_trash", "deleted before, and left in the trash"),
    ("waiting", "going on: the last exchange is filed by a later import"),
    ("masked", "secrets masked"),
)
_ORDINARY = (
    "hidden",
    "ignored by .gitignore",
    "ignored by .palaceignore",
    "not a kind of file that is read",
    "cache or dependencies",
)


def _is_notable(problem: dict[str, Any]) -> bool:
    return problem["reason"] not in _ORDINARY


def _problem(problem: dict[str, Any]) -> str:
    lines = f", lines {', '.join(map(str, problem['lines']))}" if problem["lines"] else ""
    return f"{problem['path']}{lines}: {problem['reason']}"
