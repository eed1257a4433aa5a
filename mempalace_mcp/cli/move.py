"""Copies a palace to another place and compares the two: `mempalace-mcp move SOURCE TARGET`."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.core.errors import Busy, ConfigurationError, PalaceError
from mempalace_mcp.daemon import control
from mempalace_mcp.runtime.moving import move_palace, verify_apart
from mempalace_mcp.storage.copying import CopyReport

SOURCE, TARGET = "SOURCE", "TARGET"
SHOWN = 16
"""Characters of a digest that a person is shown."""
_GOES_ON = "What is copied stays there. The same command goes on with it."


def move(source: str, target: str, as_json: bool) -> None:
    """Move, and print what has come of it. Ctrl-C keeps what is copied.

    Raises:
        Busy: a daemon serves one of the two.
        PalaceError: as `move_palace`.
    """
    own, other = _place(SOURCE, source), _place(TARGET, target)
    verify_apart(own, other)
    for name, settings in ((SOURCE, own), (TARGET, other)):
        _verify_at_rest(name, settings)
    started = time.monotonic()
    with Interrupts() as interrupts, _Steps(interrupts, enabled=not as_json) as steps:
        try:
            report = move_palace(own, other, steps.show)
        except KeyboardInterrupt:
            steps.close()
            click.echo(f"Stopped. {_GOES_ON}", err=True)
            raise SystemExit(INTERRUPTED) from None
        except PalaceError:
            if steps.begun:
                steps.close()
                click.echo(_GOES_ON, err=True)
            raise
    seconds = time.monotonic() - started
    click.echo(_as_json(own, other, report, seconds) if as_json else _as_text(own, other, report, seconds))


def _place(name: str, given: str) -> Settings:
    try:
        return load_settings(os.environ, given)
    except ConfigurationError as error:
        if error.argument != "--palace":
            raise
        message = error.message.replace("--palace", name, 1)
        raise ConfigurationError(message, argument=name, hint=f"Correct {name} and run the command again.") from error


def _verify_at_rest(name: str, settings: Settings) -> None:
    """Return if no daemon of this machine is at work there: what it writes later would be in one of the two alone.

    Raises:
        Busy: one is.
    """
    daemon = control.describe(settings.palace)
    if daemon is not None:
        place = settings.url_file or settings.shown
        raise Busy(
            f"process {daemon['pid']} serves {settings.shown}, {name}",
            argument=name,
            hint=f"End its sessions, then run: mempalace-mcp daemon stop --palace {place}",
        )


class _Steps(ExitStack):
    """A bar for each step of the copy."""

    def __init__(self, interrupts: Interrupts, *, enabled: bool) -> None:
        super().__init__()
        self._interrupts = interrupts
        self._enabled = enabled
        self._label = ""
        self._progress = Progress("", enabled=False)

    @property
    def begun(self) -> bool:
        """Has anything been done?"""
        return bool(self._label)

    def show(self, label: str, done: int, total: int) -> None:
        """Draw how far a step is.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        self._interrupts.check()
        if label != self._label:
            self.close()
            self._label, self._progress = label, self.enter_context(Progress(label, enabled=self._enabled))
        self._progress.show(done, total)


def _as_json(source: Settings, target: Settings, report: CopyReport, seconds: float) -> str:
    result = {"source": source.shown, "target": target.shown, "seconds": round(seconds, 3), **asdict(report)}
    return json.dumps(result, ensure_ascii=False)


def _as_text(source: Settings, target: Settings, report: CopyReport, seconds: float) -> str:
    rows = [(name, table.rows, table.digest[:SHOWN]) for name, table in report.tables.items() if table.rows]
    total = sum(table.rows for table in report.tables.values())
    variable = "PALACE_PATH" if target.url is None else "PALACE_URL"
    return (
        f"{output.table(('table', 'rows', 'sha256'), rows)}\n\n"
        f"{output.count(total, 'row')} of {source.shown} are in {target.shown}, and were compared one by one"
        f" ({output.duration(seconds)}).\n"
        f"The source is as it was, at change {report.seq:,}. What is written there from now on is not in the copy:\n"
        f"let every server and client use the copy from now on, by {variable} or --palace, and remove the source when"
        " you are sure."
    )
