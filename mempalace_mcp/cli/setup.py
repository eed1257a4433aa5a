"""`setup`: shows what it would change in the settings of clients, asks once, does it, and takes it back."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mempalace_mcp.cli import output
from mempalace_mcp.cli.importing import NOTHING_READ, ImportRequest, advice_of, file_texts, format_result
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts, Progress
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.daemon.hook_spool import noted
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.setup.address import keep_address, named_by_commands
from mempalace_mcp.setup.changes import TakenBack, make, take_back
from mempalace_mcp.setup.clients import CLIENTS, Launch, launch_of
from mempalace_mcp.setup.files import read_settings
from mempalace_mcp.setup.formats import SettingsFault, format_of, lookup
from mempalace_mcp.setup.histories import History
from mempalace_mcp.setup.journal import Journal
from mempalace_mcp.setup.machine import Machine
from mempalace_mcp.setup.plan import HOOK, SERVER, ClientPlan, Planner, State, Step, Wish, edited

UNCONFIRMED = 2
"""The exit code when nothing was changed because nobody has said yes."""

QUESTION = "what did we decide, and why?"
_NAMES = {client.id: client.name for client in CLIENTS}


@dataclass(slots=True)
class Report:
    """What a run has found and done; `as_dict` is what `--json` prints."""

    settings: Settings
    launch: Launch
    plans: Sequence[ClientPlan]
    histories: Sequence[History]
    applied: bool = False
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    tools: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    imported: dict[str, Any] | None = None
    found: dict[str, Any] | None = None
    advice: str | None = None

    @property
    def is_well(self) -> bool:
        """Has everything that was tried succeeded?"""
        faults = [
            step for plan in self.plans for step in (plan.server, plan.hooks) if step and step.state is State.FAULT
        ]
        return not faults and not self.errors

    def as_dict(self) -> dict[str, Any]:
        """The documented shape."""
        return {
            "palace": self.settings.shown,
            "command": list(self.launch),
            "applied": self.applied,
            "ok": self.is_well,
            "clients": [self._client(plan) for plan in self.plans],
            "histories": [_history_as_dict(history) for history in self.histories],
            "tools": self.tools,
            "imported": self.imported,
            "search": self.found,
            "advice": self.advice,
            "errors": self.errors,
        }

    def _client(self, plan: ClientPlan) -> dict[str, Any]:
        steps = [step for step in (plan.server, plan.hooks) if step is not None]
        return {
            "client": plan.client.id,
            "name": plan.name,
            "steps": [_step_as_dict(step) | self.results.get(id(step), {"result": None}) for step in steps],
        }


def run_setup(settings: Settings, wish: Wish, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Show the plan, ask, do it; returns the exit code.

    Raises:
        SettingsFault: the journal of earlier runs cannot be read.
        PalaceError: the palace cannot be used.
    """
    machine = Machine.this()
    journal = Journal(machine)
    planner = Planner(machine, named_by_commands(settings), tuple(journal.records()), journal.imports(), wish)
    report = Report(settings, planner.launch, planner.plan(), planner.histories())
    if not as_json:
        click.echo(_format_plan(report, machine))
    if not report.histories and not any(plan.steps for plan in report.plans):
        if report.plans and not as_json:
            click.echo("\nThere is nothing to do.")
        return _end(report, as_json, 0 if report.is_well and report.plans else 1)
    if dry_run:
        if not as_json:
            click.echo("\n".join(_differences(report)))
        return _end(report, as_json, 0)
    if not yes and not _is_confirmed(as_json):
        return _end(report, as_json, UNCONFIRMED)
    keep_address(settings)
    report.applied = True
    with journal.alone():
        _change(machine, journal, report, as_json)
    _probe(report, as_json)
    code = 0
    if report.histories:
        try:
            code = _import(journal, report, as_json)
        except PalaceError as error:  # what was connected stays connected, and is told
            report.errors.append({**error.as_dict(), "client": None, "file": settings.shown})
            if not as_json:
                click.echo(f"Import: {error.message}. {error.hint or ''}".rstrip(), err=True)
    return _end(report, as_json, code or (0 if report.is_well else 1))


def _is_confirmed(as_json: bool) -> bool:
    """Does the user say yes? Without a terminal nobody is asked."""
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo("Nothing was changed. To do it: mempalace-mcp setup --yes", err=True)
        return False
    if click.confirm("\nDo this?", default=True):
        return True
    click.echo("Nothing was changed.")
    return False


def _end(report: Report, as_json: bool, code: int) -> int:
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False))
    return code


def _change(machine: Machine, journal: Journal, report: Report, as_json: bool) -> None:
    """Make the changes. One that cannot be made does not keep the others from being made."""
    for plan in report.plans:
        for step in plan.steps:
            try:
                result, how = "done", make(machine, step, journal)
            except SettingsFault as fault:
                result, how = "failed", f"{step.file}: {fault.message}. {fault.hint or ''}".rstrip()
                report.errors.append({**fault.as_dict(), "client": plan.client.id, "file": str(step.file)})
            report.results[id(step)] = {"result": result, "how": how}
            if not as_json:
                click.echo(f"{plan.name}: {_WHAT[step.kind, step.state]}: {how}")

    if not as_json and any(each["result"] == "done" for each in report.results.values()):
        click.echo("Start a new session in each client: those that are running do not see the change.")


def _probe(report: Report, as_json: bool) -> None:
    """Start the server once by each of the commands that were written, as the clients will."""
    from mempalace_mcp.setup.probe import count_tools

    launches = {_written(plan) for plan in report.plans if plan.server.is_change}
    for launch in sorted(launch for launch in launches if launch):
        try:
            report.tools = count_tools(launch)
            told = f"{shlex.join(launch)}: {output.count(report.tools, 'tool')} answer"
        except PalaceError as error:
            report.errors.append({**error.as_dict(), "client": None, "file": launch[0]})
            told = f"{error.message}. {error.hint}"
        if not as_json:
            click.echo(told)


def _written(plan: ClientPlan) -> Launch:
    """The command in the settings of a client as they are now."""
    try:
        file = read_settings(plan.server.file)
        return launch_of(lookup(format_of(file.path).read(file.text), plan.client.path))
    except SettingsFault:
        return ()


def _import(journal: Journal, report: Report, as_json: bool) -> int:
    """File the histories, and search once over what was filed. Returns the exit code."""
    from mempalace_mcp.cli import searching

    summary, stopped = ImportSummary(), False
    try:
        stopped = _file(journal, report, summary, as_json)
    finally:
        report.imported = summary.as_dict(complete=not stopped)
    if not as_json:
        click.echo(format_result(report.imported, dry_run=False))
    if stopped:
        return INTERRUPTED
    if not report.imported["files"]:
        return NOTHING_READ
    found = searching.search(report.settings, QUESTION, "hybrid", True, limit=3)
    report.found = {"query": QUESTION, **json.loads(found)}
    if not as_json:
        shown = searching.format_search(report.found)
        click.echo(f"\nSearch: {QUESTION!r}\n{shown}\n\nAsk your own: mempalace-mcp search 'QUERY'")
        if report.advice is not None:
            click.echo(f"\nNote: {report.advice}")
    return 0


def _file(journal: Journal, report: Report, summary: ImportSummary, as_json: bool) -> bool:
    """File and embed the histories of all clients; was it interrupted?"""
    from mempalace_mcp.runtime.app import open_app

    total = sum(history.files for history in report.histories)
    with Interrupts() as interrupts, open_app(report.settings) as app:
        try:
            app.start()
            with Progress("importing", enabled=not as_json) as progress:

                def check() -> None:
                    progress.show(min(summary.steps, total), total)
                    interrupts.check()

                for history in report.histories:
                    file_texts(app, ImportRequest(history.paths), summary, check)
                    _note_import(journal, report.settings, history)
            with Progress("embedding", enabled=not as_json) as progress:
                app.wait_until_indexed(progress.show, interrupts.check)
            report.advice = advice_of(app)
        except KeyboardInterrupt:
            click.echo("Stopped. What was filed is kept; run setup again to continue.", err=True)
            return True
    return False


def _note_import(journal: Journal, settings: Settings, history: History) -> None:
    journal.note_import(
        history.agent,
        palace=str(named_by_commands(settings)),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        until=history.last.isoformat(),
        files=history.files,
    )


def run_undo(clients: Sequence[str], *, dry_run: bool, as_json: bool) -> int:
    """Take back what earlier runs have changed, the latest first; returns the exit code.

    Raises:
        SettingsFault: the journal cannot be read or written.
    """
    journal = Journal(Machine.this())
    with journal.alone():
        wanted = [record for record in reversed(journal.records()) if not clients or record.client in clients]
        undone = [TakenBack(record, "planned") if dry_run else take_back(record, journal) for record in wanted]
    if as_json:
        changes = [
            {"client": each.record.client, "kind": each.record.kind, "file": each.record.file}
            | {"outcome": each.outcome, "note": each.note}
            for each in undone
        ]
        click.echo(json.dumps({"changes": changes, "ok": all(each.outcome != "left" for each in undone)}))
    else:
        click.echo("\n".join(map(_format_undone, undone)) or "There is nothing to take back.")
    return 1 if any(each.outcome == "left" for each in undone) else 0


_OUTCOMES = {
    "planned": "would be taken back",
    "restored": "as it was before",
    "removed": "our entry removed, what others changed since stays",
    "gone": "nothing of ours is there any more",
    "left": "left as it is",
}


def _format_undone(undone: TakenBack) -> str:
    reason = f": {undone.note}" if undone.note else ""
    name = _NAMES.get(undone.record.client, undone.record.client)
    return f"{name}: {undone.record.kind} in {_short(undone.record.file)}: {_OUTCOMES[undone.outcome]}{reason}"


def run_status(settings: Settings, clients: tuple[str, ...], as_json: bool) -> int:
    """Show for each client whether it is connected, has hooks, and what was imported of it; returns the exit code.

    Raises:
        SettingsFault: the journal cannot be read.
    """
    machine = Machine.this()
    journal = Journal(machine)
    planner = Planner(machine, named_by_commands(settings), tuple(journal.records()), wish=Wish(clients=clients))
    known, heard, found = journal.imports(), noted(str(settings.palace)), planner.histories()
    rows = [_status_of(plan, known, heard, found) for plan in planner.plan()]
    if as_json:
        shown = {"palace": settings.shown, "command": list(planner.launch), "clients": rows}
        click.echo(json.dumps(shown, ensure_ascii=False))
        return 0
    cells = [_status_cells(row) for row in rows]
    headings = ("client", "server", "hooks", "last hook", "imported")
    click.echo(output.table(headings, cells) if cells else _NO_CLIENT)
    for row in rows:
        for step in (row["server"], row["hooks"]):
            if step and step["note"]:
                click.echo(f"{row['name']}: {_short(step['file'])}: {step['note']}")
    return 0


_CONNECTED = {
    State.ADD: ("no", "no"),
    State.UPDATE: ("by another command", "of another command, or not all"),
    State.THERE: ("connected", "there"),
    State.OTHER: ("another one of this name", ""),
    State.PLUGIN: ("by a plugin", "by a plugin"),
    State.FAULT: ("unreadable", "unreadable"),
}


def _status_of(
    plan: ClientPlan,
    known: Mapping[str, dict[str, Any]],
    heard: Sequence[Mapping[str, Any]],
    found: Sequence[History],
) -> dict[str, Any]:
    client = plan.client.id
    hooks = None if plan.hooks is None else _step_as_dict(plan.hooks)
    if hooks and plan.hooks and plan.hooks.is_change:
        hooks["note"] = ""  # it says what to do once they are added
    histories = [history for history in found if history.is_of(client)]
    imported = next((known[history.agent] for history in histories if history.agent in known), None)
    last = next((entry for entry in reversed(heard) if entry.get("client") == client), None)
    return {
        "client": client,
        "name": plan.name,
        "connected": plan.server.state in (State.THERE, State.PLUGIN),
        "server": _step_as_dict(plan.server),
        "hooks": hooks,
        "last_hook": last,
        "imported": imported,
        "histories": [_history_as_dict(history) for history in histories],
    }


def _status_cells(row: dict[str, Any]) -> tuple[str, ...]:
    there = sum(each["files"] for each in row["histories"])
    imported = f"none of {output.count(there, 'file')}" if there else "–"
    if row["imported"]:
        imported = f"{output.count(row['imported']['files'], 'file')} on {row['imported']['at'][:10]}"
    hooks = _CONNECTED[row["hooks"]["state"]][1] if row["hooks"] else "–"
    return row["name"], _CONNECTED[row["server"]["state"]][0], hooks, _last_hook(row["last_hook"]), imported


def _last_hook(entry: Mapping[str, Any] | None) -> str:
    """When a hook was last heard of; what came of it is told by `hook status`."""
    if entry is None:
        return "–"
    when = datetime.fromtimestamp(float(entry.get("time", 0)), UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M}{' (failed: see hook status)' if 'error' in entry else ''}"


_NO_CLIENT = "No client was found on this machine. Name one with --client, for example --client claude-code."


def _format_plan(report: Report, machine: Machine) -> str:
    """The plan as a table of clients, changes and files, with what is worth knowing below it."""
    rows: list[tuple[str, str, str]] = []
    notes: list[str] = []
    for plan in report.plans:
        cells = list(_cells(plan))
        rows += [(plan.name if not number else "", *cell) for number, cell in enumerate(cells)]
        steps = [step for step in (plan.server, plan.hooks) if step is not None and step.note]
        notes += [f"{plan.name}: {_short(step.file)}: {step.note}" for step in steps]
        if plan.client.note and plan.server.is_change:
            notes.append(f"{plan.name}: {plan.client.note}")
    rows += [(history.label, _import_of(history), _short(history.folder)) for history in report.histories]
    if not rows:
        return _NO_CLIENT
    if _is_passing(report.launch):
        notes.append(f"{report.launch[0]} may vanish: install the program first, with `uv tool install mempalace-mcp`.")
    return "\n".join([output.table(("client", "change", "file"), rows), *(["", *notes] if notes else [])])


def _is_passing(launch: Launch) -> bool:
    """Does the program lie where uv keeps what it may clear away at any time?"""
    return {"uv", "archive-v0"} <= set(Path(launch[0]).parts) or "environments-v2" in Path(launch[0]).parts


def _cells(plan: ClientPlan) -> Iterator[tuple[str, str]]:
    for step in (plan.server, plan.hooks):
        if step is not None:
            yield _what(step), _short(step.file)


def _import_of(history: History) -> str:
    days = f"{history.first:%Y-%m-%d} to {history.last:%Y-%m-%d}"
    return f"import {output.count(history.files, 'file')}, {output.size(history.size)}, {days}"


_WHAT = {
    (SERVER, State.ADD): "add the server",
    (SERVER, State.UPDATE): "update the server",
    (SERVER, State.THERE): "connected already",
    (SERVER, State.OTHER): "none: another server of this name",
    (SERVER, State.PLUGIN): "none: a plugin is connected",
    (SERVER, State.FAULT): "none: cannot be read or changed",
    (HOOK, State.ADD): "add hooks",
    (HOOK, State.UPDATE): "update the hooks",
    (HOOK, State.THERE): "hooks there already",
    (HOOK, State.PLUGIN): "none: left to the plugin",
    (HOOK, State.FAULT): "no hooks: cannot be read or changed",
}


def _what(step: Step) -> str:
    by = f" by {Path(step.command[0]).name}" if step.command and step.is_change else ""
    return _WHAT[step.kind, step.state] + by


def _short(file: str | Path) -> str:
    """The path with `~` for the home directory."""
    home = str(Machine.this().home)
    text = str(file)
    return f"~{text[len(home) :]}" if text.startswith(home + os.sep) else text


def _differences(report: Report) -> Iterator[str]:
    """What would change, command by command and line by line."""
    for plan in report.plans:
        for step in plan.steps:
            if step.command:
                yield f"\n$ {shlex.join(step.command)}"
                continue
            text = read_settings(step.file).text
            changed, _ = edited(step.file, text, step)
            lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), str(step.file), str(step.file), n=1)
            yield from ("", *(line.rstrip("\n") for line in lines))


def _step_as_dict(step: Step) -> dict[str, Any]:
    plain = {"kind": step.kind, "state": step.state.value, "file": str(step.file), "note": step.note}
    return {**plain, "command": list(step.command)}


def _history_as_dict(history: History) -> dict[str, Any]:
    times = {"first": history.first.isoformat(timespec="seconds"), "last": history.last.isoformat(timespec="seconds")}
    plain = {"agent": history.agent, "path": str(history.folder), "files": history.files, "bytes": history.size}
    return {**plain, **times}
