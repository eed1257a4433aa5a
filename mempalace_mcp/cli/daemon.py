"""`daemon status|stop|logs`: for people who look after the process behind their sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mempalace_mcp.cli import show
from mempalace_mcp.process import control


def status(palace: Path, as_json: bool) -> str:
    """Process, version, uptime and sessions of the palace's daemon."""
    told = control.describe(palace)
    if as_json:
        return json.dumps({"running": told is not None, **(told or {})})
    return "No daemon is running." if told is None else _described(told)


def stop(palace: Path, as_json: bool) -> str:
    """Stop it, if there is one."""
    stopped = control.stop(palace)
    if as_json:
        return json.dumps({"stopped": stopped and stopped.pid})
    if stopped is None:
        return "No daemon is running."
    told = (
        f"Killed process {stopped.pid}, which did not answer." if stopped.killed else f"Stopped process {stopped.pid}."
    )
    if stopped.http:
        return f"{told} It served {stopped.http}: `mempalace-mcp serve` starts that again."
    return f"{told} Sessions start it again when they need it."


def logs(palace: Path, as_json: bool) -> str:
    """What it has logged."""
    text = control.logged(palace)
    return json.dumps({"log": text}, ensure_ascii=False) if as_json else text


def _health(told: dict[str, Any]) -> str:
    """Its status with the reasons. A daemon of an older version does not tell."""
    health = told.get("health", {"status": "unknown", "reasons": []})
    return "\n          ".join([health["status"], *(reason["message"] for reason in health["reasons"])])


def _described(told: dict[str, Any]) -> str:
    lines = [
        f"process   {told['pid']}, version {told['version']}",
        f"palace    {told['palace']}",
        f"running   for {show.duration(told['uptime_seconds'])}",
        f"http      {told['http'] or 'no'}",
        f"health    {_health(told)}",
        f"sessions  {len(told['sessions'])}",
    ]
    rows = [
        (each["pid"], each["version"], each["tools"], "yes" if each["read_only"] else "no") for each in told["sessions"]
    ]
    table = show.table(("process", "version", "tools", "read-only"), rows)
    return "\n".join(lines) + (f"\n\n{table}" if rows else "")
