"""Commands that look after the daemon of a palace: status, stop, logs. They import nothing of what a daemon runs.

Each returns the text to print: JSON with `as_json`, otherwise text for people.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mempalace_mcp.cli import output
from mempalace_mcp.daemon import control


def status(palace: Path, as_json: bool) -> str:
    """Process, version, uptime, health and sessions of the palace's daemon."""
    daemon = control.describe(palace)
    if as_json:
        return json.dumps({"running": daemon is not None, **(daemon or {})})
    return "No daemon is running." if daemon is None else _format_daemon(daemon)


def _format_daemon(daemon: dict[str, Any]) -> str:
    health = daemon.get("health", {"status": "unknown", "reasons": []})  # older versions send none
    lines = [
        f"process   {daemon['pid']}, version {daemon['version']}",
        f"palace    {daemon['palace']}",
        f"running   for {output.duration(daemon['uptime_seconds'])}",
        f"http      {daemon['http'] or 'no'}",
        f"health    {health['status']}",
        *(f"          {reason['message']}" for reason in health["reasons"]),
        f"sessions  {len(daemon['sessions'])}",
    ]
    rows = [
        (session["pid"], session["version"], session["tools"], "yes" if session["read_only"] else "no")
        for session in daemon["sessions"]
    ]
    table = output.table(("process", "version", "tools", "read-only"), rows)
    return "\n".join(lines) + (f"\n\n{table}" if rows else "")


def stop(palace: Path, as_json: bool) -> str:
    """Stop the palace's daemon, if there is one."""
    stopped = control.stop(palace)
    if as_json:
        return json.dumps({"stopped": stopped and stopped.pid})
    if stopped is None:
        return "No daemon is running."
    done = (
        f"Killed process {stopped.pid}, which did not answer." if stopped.killed else f"Stopped process {stopped.pid}."
    )
    if stopped.http:
        return f"{done} It served {stopped.http}. To start it again, run `mempalace-mcp serve`."
    return f"{done} Sessions start it again when they need it."


def logs(palace: Path, as_json: bool) -> str:
    """The log of the palace's daemon."""
    text = control.logged(palace)
    return json.dumps({"log": text}, ensure_ascii=False) if as_json else text
