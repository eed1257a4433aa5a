"""`restore FILE`: says what a backup holds and what it replaces, asks, and puts it in the place of the palace."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import Progress
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.daemon import control, ipc
from mempalace_mcp.storage.sqlite.restoring import FILE, Contents, describe, examine, replace_palace, staged

UNCONFIRMED = 1
"""The exit code when the user does not say yes."""


def restore(settings: Settings, file: Path, *, yes: bool, as_json: bool) -> int:
    """Restore, and print what came of it; the exit code.

    Raises:
        ConfigurationError: the palace is in PostgreSQL, or served over HTTP.
        Busy: other processes have the palace open, and do not end.
        PalaceError: the file cannot be restored, or the palace not be replaced; the palace is as it was.
    """
    if settings.url is not None:
        raise ConfigurationError(
            f"{settings.url} is restored by PostgreSQL's own program, not by this one",
            argument=FILE,
            hint=f"Run: {restore_line(settings.url, file)}",
        )
    control.refuse_if_served(str(settings.palace))
    held, replaced = examine(file), describe(settings.palace)
    daemon = control.describe(settings.palace)
    if not as_json:
        click.echo(_plan(settings, file, held, replaced, daemon))
    if not yes and not _is_confirmed(as_json):
        return UNCONFIRMED
    with Progress("copying", enabled=not as_json) as progress, staged(settings.palace, file, progress.show) as copy:
        kept = _replace(settings.palace, copy)
    click.echo((_as_json if as_json else _as_text)(settings, held, kept, daemon))
    return 0


def restore_line(url: PalaceUrl, file: Path) -> str:
    """The command that replaces a palace in PostgreSQL by what `pg_dump` has written."""
    options = ["--clean", "--if-exists", "--single-transaction"]
    return shlex.join(["pg_restore", *options, "-d", url.without_password, str(file)])


def _replace(palace: Path, copy: Path) -> Path | None:
    """Replace the palace while it has no daemon. Sessions wait for the lock, and start the next one."""
    with contextlib.closing(control.take_daemon_lock(str(palace))):
        ipc.forget(str(palace / ipc.ADDRESS_FILE))  # of a daemon that was killed: sessions would wait for it in vain
        return replace_palace(palace, copy, Deadline(COMMAND_SECONDS))


def _is_confirmed(as_json: bool) -> bool:
    """Does the user say yes? Without a terminal nobody is asked."""
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo("Nothing was changed. To restore without a question, give --yes.", err=True)
        return False
    if click.confirm("\nReplace the palace?", default=False):
        return True
    click.echo("Nothing was changed.")
    return False


def _plan(
    settings: Settings, file: Path, held: Contents, replaced: Contents | None, daemon: dict[str, Any] | None
) -> str:
    lines = [f"backup    {file}, verified", f"          {_described(held)}", f"palace    {settings.shown}"]
    lines.append(f"          {_described(replaced)}" if replaced else "          no palace that can be read")
    if daemon:
        lines.append(f"sessions  {len(daemon['sessions'])}, which go on with the restored palace")
    return "\n".join(lines)


def _described(contents: Contents) -> str:
    changed = format_instant(contents.changed_at // 1_000_000 * 1_000_000)
    drawers, facts = output.count(contents.drawers, "drawer"), output.count(contents.facts, "fact")
    return f"{drawers} and {facts}, last changed {changed}"


def _as_json(settings: Settings, held: Contents, kept: Path | None, daemon: dict[str, Any] | None) -> str:
    result = {
        **dataclasses.asdict(held),
        "changed_at": format_instant(held.changed_at),
        "palace": settings.shown,
        "former": kept and str(kept),
        "stopped": daemon and daemon["pid"],
        "sessions": len(daemon["sessions"]) if daemon else 0,
    }
    return json.dumps(result, ensure_ascii=False)


def _as_text(settings: Settings, held: Contents, kept: Path | None, daemon: dict[str, Any] | None) -> str:
    lines = [f"{settings.shown} holds the backup now: {_described(held)}."]
    if daemon:
        sessions = output.count(len(daemon["sessions"]), "session")
        lines.append(f"The daemon, process {daemon['pid']}, has left; its {sessions} will start another one.")
    if kept:
        line = shlex.join(["mempalace-mcp", "restore", str(kept), "--palace", str(settings.palace)])
        lines.append(f"The former palace is {kept}. Remove it when you are sure. To go back to it: {line}")
    return "\n".join(lines)
