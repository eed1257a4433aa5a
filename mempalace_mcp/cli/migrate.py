"""`migrate`: brings another program's memory into the palace, reads it back, and reports; or lists what there is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.palace.migration.items import Options
from mempalace_mcp.palace.migration.migrating import OUTCOMES, Checked, Migration
from mempalace_mcp.palace.migration.sources import find_memories, recognize
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.databases import is_there

WRONG = 1
WINGS_SHOWN = 20
_NAMES = {
    "drawers": ("drawer",),
    "diary_entries": ("diary entry", "diary entries"),
    "facts": ("fact",),
    "tunnels": ("tunnel",),
    "tunnel_labels": ("label of a tunnel", "labels of tunnels"),
}
_OUTCOMES = {
    "filed": "new",
    "updated": "updated, since they have changed there",
    "unchanged": "here already",
    "kept": "kept as edited here, although they have changed there",
    "in_trash": "deleted here before, and left so",
}


def options_of(settings: Settings, environment: Mapping[str, str], wing: str | None) -> Options:
    """How memories are read for a palace."""
    try:
        home = Path.home()
    except RuntimeError:  # this account has none
        home = None
    return Options(wing, settings.zone, settings.palace, environment, home)


def list_memories(settings: Settings, as_json: bool) -> str:
    """The memories in their usual places, with the command that migrates each. Nothing is read or written."""
    found = list(find_memories(options_of(settings, os.environ, None)))
    if as_json:
        return json.dumps(
            {"found": [{"kind": each.source.name, "path": str(each.path)} for each in found]}, ensure_ascii=False
        )
    if not found:
        return "No memory of another program is in its usual place. Name one: mempalace-mcp migrate SOURCE --dry-run"
    rows = [(each.source.title, str(each.path)) for each in found]
    return (
        f"{output.table(('found', 'at'), rows)}\n"
        "To see what would come: mempalace-mcp migrate SOURCE --dry-run. Then leave out --dry-run."
    )


def run_migration(settings: Settings, path: Path, wing: str | None, dry_run: bool, as_json: bool) -> int:
    """Migrate, read back, report, embed; Ctrl-C keeps what has come. Returns the exit code."""
    source = recognize(path)
    checked: Checked | None = None
    failure: PalaceError | KeyboardInterrupt | None = None
    with Interrupts() as interrupts, _palace_of(settings, dry_run) as app:
        options = options_of(settings, os.environ, wing)
        migration = Migration(app.stores, source, path, options, dry_run=dry_run)
        try:
            checked = _bring(migration, interrupts, dry_run, as_json)
        except (PalaceError, KeyboardInterrupt) as error:
            failure = error
        result = {
            "source": source.name,
            "path": str(path),
            "dry_run": dry_run,
            "complete": failure is None,
            **migration.report.as_dict(),
            "checked": None if checked is None else _checked(checked),
            "error": failure.as_dict() if isinstance(failure, PalaceError) else None,
        }
        click.echo(json.dumps(result, ensure_ascii=False) if as_json else format_report(source.title, result))
        if failure is None and not dry_run:
            _embed(app, interrupts, as_json)
    if isinstance(failure, KeyboardInterrupt):
        click.echo("Stopped. What has come is kept; run the same command again to continue.", err=True)
        return INTERRUPTED
    if failure is not None:
        return _explain(failure, as_json)
    return WRONG if checked is not None and checked.wrong else 0


@contextmanager
def _palace_of(settings: Settings, dry_run: bool) -> Iterator[App]:
    """The palace. A dry run makes none where there is none: it is compared with an empty one."""
    with ExitStack() as stack:
        if dry_run and not is_there(settings):
            empty = stack.enter_context(TemporaryDirectory(prefix="mempalace-empty-"))
            settings = replace(settings, palace=Path(empty), url=None)
        yield stack.enter_context(open_app(settings))


def _bring(migration: Migration, interrupts: Interrupts, dry_run: bool, as_json: bool) -> Checked | None:
    """Go through the memory; unless it is a dry run, read back what has come."""
    checked: Checked | None = None
    with Progress("reading" if dry_run else "migrating", enabled=not as_json) as progress:
        for report in migration.run():
            progress.show(report.items, None)
            interrupts.check()
    for checked in () if dry_run else migration.check():  # noqa: B007 - the last one is the whole
        interrupts.check()
    return checked


def _embed(app: App, interrupts: Interrupts, as_json: bool) -> None:
    """Until everything is found by meaning. By words it is already, so stopping this loses nothing."""
    app.start()
    try:
        with Progress("embedding", enabled=not as_json) as progress:
            app.wait_until_indexed(progress.show, interrupts.check)
    except KeyboardInterrupt:
        click.echo("Stopped. The rest is embedded when the palace is used.", err=True)


def _explain(failure: PalaceError, as_json: bool) -> int:
    """Say what has ended the migration; JSON has said so already."""
    if not as_json:
        click.echo(f"Error: {failure.message}\n  {failure.hint or ''}\n  What has come is kept.", err=True)
    return WRONG


def _checked(checked: Checked) -> dict[str, Any]:
    return {
        "same": checked.same,
        "edited": checked.edited,
        "deleted": checked.deleted,
        "wrong": list(checked.wrong),
    }


def format_report(title: str, result: dict[str, Any]) -> str:
    """The report as text."""
    verb = "would come" if result["dry_run"] else "migrated"
    lines = [f"{title}, {result['path']}: {verb} in {output.duration(result['seconds'])}"]
    for kind in _NAMES:
        counts = result[kind]
        outcomes = [f"{counts[each]:,} {_OUTCOMES[each]}" for each in OUTCOMES if counts[each]]
        if outcomes:
            lines.append(f"  {output.count(counts['read'], *_NAMES[kind])}: {', '.join(outcomes)}")
    if len(lines) == 1:
        lines.append("  nothing: it holds no drawers, entries or facts")
    if result["pieces_joined"]:
        lines.append(f"  {result['pieces_joined']:,} pieces were joined to their drawers")
    if result["wings"]:
        lines.append(
            f"  wings: {', '.join(f'{name} ({count:,})' for name, count in list(result['wings'].items())[:20])}"
        )
    lines += _reasons("Not needed:", result["not_needed"])
    lines += _reasons("Left out:", result["left_out"])
    lines += [f"    {output.harmless(each['what'])}: {output.harmless(each['reason'])}" for each in result["examples"]]
    if result["checked"] is not None:
        lines.append(_format_check(result["checked"]))
    return "\n".join(lines)


def _reasons(heading: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"  {count:,} × {output.harmless(reason)}" for reason, count in counts.items()]
    return [heading, *rows] if rows else []


def _format_check(checked: dict[str, Any]) -> str:
    told = f"Read back: {output.count(checked['same'], 'drawer')} byte for byte as there"
    if checked["edited"]:
        told += f", {checked['edited']:,} edited here since"
    if checked["deleted"]:
        told += f", {checked['deleted']:,} deleted here since"
    if not checked["wrong"]:
        return f"{told}."
    return f"{told}, and {len(checked['wrong']):,} that differ: {', '.join(checked['wrong'][:10])}"
