"""The process behind the sessions: does it answer, how is it, has an earlier one left something?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.finding import Finding, Patient
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import Busy, Forbidden
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process import control
from mempalace_mcp.process.listening import abandoned, sweep
from mempalace_mcp.process.runtime_folder import runtime_folder
from mempalace_mcp.process.seat import Seat


def patient_of(settings: Settings) -> Patient:
    """The palace, and what its daemon says of itself."""
    try:
        return Patient(settings, control.describe(settings.palace), None)
    except (Busy, Forbidden) as error:
        return Patient(settings, None, error)


def examine_daemon(patient: Patient) -> Iterator[Finding]:
    """Its health, and what is left of those before it."""
    if patient.silence is not None:
        remedy = patient.silence.hint or "Kill that process; sessions start another and lose nothing."
        yield Finding("daemon_silent", patient.silence.message, remedy)
    if patient.daemon is not None:
        for reason in patient.daemon.get("health", {}).get("reasons", ()):
            message = f"process {patient.daemon['pid']} says: {reason['message']}"
            yield Finding(reason["code"], message, reason["remedy"])
    file = patient.directory / addresses.FILE
    if not patient.is_served and file.exists():
        message, remedy = f"{file} is of a process that is gone", "Nothing: the next one replaces it."
        yield Finding("stale_address", message, remedy, partial(_forget, file))
    folder = Path(runtime_folder(str(patient.directory)))
    if left := list(abandoned(folder)):
        message = f"{show.count(len(left), 'socket')} in {folder} are of processes that are gone"
        yield Finding("stale_sockets", message, "Nothing: the next daemon removes them.", partial(_sweep, folder))


def _forget(file: Path) -> str:
    seat = Seat.take(str(file.with_name(addresses.LOCK)))
    if seat is None:
        raise Busy("a daemon has just begun")
    try:
        addresses.forget(str(file))
    finally:
        seat.close()
    return f"removed {file}"


def _sweep(folder: Path) -> str:
    return f"removed {show.count(sweep(folder), 'socket')}"
