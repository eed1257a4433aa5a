"""`export`, and the reading back of its files by `import`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.palace.exchange.files import exports_in
from mempalace_mcp.palace.exchange.reading import Restoration, Restored
from mempalace_mcp.palace.exchange.writing import export_palace
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.databases import open_database

INCOMPLETE = 1
_OUTCOMES = {
    "added": "new",
    "unchanged": "here already",
    "updated": "updated",
    "kept": "newer here, the other is a version",
    "no_drawer": "without their drawer",
}


def export(settings: Settings, destination: Path, wings: Sequence[str], as_json: bool) -> str:
    """Write the palace, or some of its wings, and say what was written. Ctrl-C leaves what was there.

    Raises:
        PalaceError: as `export_palace`.
    """
    started = time.monotonic()
    with (
        Interrupts() as interrupts,
        contextlib.closing(open_database(settings, readers=1)) as database,
        Progress("exporting", enabled=not as_json) as progress,
    ):

        def step(done: int, total: int) -> None:
            interrupts.check()
            progress.show(done, total)

        exported = export_palace(database, destination, wings, step)
    seconds = time.monotonic() - started
    if as_json:
        result = {"path": str(exported.path), "bytes": exported.bytes, "records": dict(exported.records)}
        return json.dumps({**result, "seconds": round(seconds, 3)}, ensure_ascii=False)
    rows = [(kind, count) for kind, count in exported.records.items() if count]
    told = f"Exported to {exported.path}: {output.size(exported.bytes)} ({output.duration(seconds)})."
    return f"{output.table(('records', 'count'), rows)}\n\n{told} To read it back: mempalace-mcp import PATH."


def find_exports(paths: Sequence[Path], options: Sequence[str]) -> list[Path]:
    """The exports among paths that are to be imported; none if there are none.

    Raises:
        InvalidArgument: other files are among them, or options that have no meaning for exports.
    """
    found = {path: exports_in(path) for path in paths}
    if not any(found.values()):
        return []
    for path, exports in found.items():
        if not exports:
            raise InvalidArgument(
                f"{path} is no export of a palace, and others of the paths are",
                argument="PATHS",
                hint="Import exports by a command of their own.",
            )
        if len(exports) > 1:
            raise InvalidArgument(
                f"{path} holds several exports: {', '.join(each.name for each in exports)}",
                argument="PATHS",
                hint="Name the file.",
            )
    if options:
        name = f"--{options[0].replace('_', '-')}"
        raise InvalidArgument(
            f"{name} has no meaning for an export: it is read as it was written",
            argument=name,
            hint="Leave it out. `export --wing` writes some wings only.",
        )
    return [exports[0] for exports in found.values()]


def run_restore(settings: Settings, exports: Sequence[Path], as_json: bool) -> int:
    """Read exports back, report, and embed; Ctrl-C keeps what has come. Returns the exit code."""
    reports: list[Restored] = []
    failure: PalaceError | None = None
    stopped = False
    with Interrupts() as interrupts, open_app(settings) as app:
        try:
            for path in exports:
                restoration = Restoration(app.stores, path)
                reports.append(restoration.report)
                _read(restoration, interrupts, as_json)
            app.start()
            _embed(app, interrupts, as_json)
        except KeyboardInterrupt:
            stopped = True
        except PalaceError as error:
            failure = error
    results = [report.as_dict() for report in reports]
    refused = None if failure is None else failure.as_dict()
    if as_json:
        click.echo(json.dumps({"exports": results, "error": refused}, ensure_ascii=False))
    else:
        click.echo("\n".join(map(_as_text, results)))
        if failure is not None:
            click.echo(f"Error: {failure.message}\n  {failure.hint or ''}", err=True)
    if stopped or failure is not None:
        click.echo("What has come is kept; run the same command again to continue.", err=True)
    if stopped:
        return INTERRUPTED
    return 0 if failure is None and all(report.complete for report in reports) else INCOMPLETE


def _read(restoration: Restoration, interrupts: Interrupts, as_json: bool) -> None:
    with Progress("reading", enabled=not as_json) as progress:
        for report in restoration.run():
            progress.show(report.lines, sum(report.expected.values()) + 1)
            interrupts.check()


def _embed(app: App, interrupts: Interrupts, as_json: bool) -> None:
    """Until everything is found by meaning. By words it is already."""
    with Progress("embedding", enabled=not as_json) as progress:
        app.wait_until_indexed(progress.show, interrupts.check)


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['path']}: {output.count(result['lines'], 'line')}"]
    for kind, counts in result["records"].items():
        told = [f"{count:,} {_OUTCOMES[outcome]}" for outcome, count in counts.items() if count]
        lines.append(f"  {kind}: {', '.join(told)}")
    if result["missing"]:
        lines.append(f"The file ends too early: {output.count(result['missing'], 'line')} of it are missing.")
    if result["rejected"]:
        lines.append(f"Not taken: {output.count(result['rejected'], 'line')}")
        lines += [f"  line {each['line']:,}: {output.harmless(each['reason'])}" for each in result["rejected_lines"]]
    return "\n".join(lines)
