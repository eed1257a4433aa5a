"""`hook status`: what hooks have announced, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mempalace_mcp.daemon.hook_spool import COUNTS, Spool, noted

SHOWN = 20
_SHOWN_COUNTS = (*COUNTS, "characters")


def hook_status(palace: Path, as_json: bool) -> str:
    """The latest events, as text or JSON, and whether some wait for a daemon."""
    entries, waiting = noted(str(palace)), Spool(str(palace)).count()
    if as_json:
        return json.dumps({"waiting": waiting, "events": entries[-SHOWN:]})
    if not entries and not waiting:
        return "No hook has announced anything yet. `mempalace-mcp setup` connects clients and their hooks."
    lines = [_line(entry) for entry in entries[-SHOWN:]]
    if waiting:
        lines.append(
            f"{waiting} wait: for the end of a turn, or for a daemon, which the next session of a client starts."
        )
    return "\n".join(lines)


def _line(entry: Mapping[str, Any]) -> str:
    about = Path(str(entry.get("cwd") or entry.get("transcript") or "").replace("\0", "")).name
    counts = ", ".join(f"{entry[name]} {name}" for name in _SHOWN_COUNTS if name in entry)
    reasons = entry.get("skipped")
    skipped = ", ".join(f"{reason}: {count}" for reason, count in reasons.items()) if isinstance(reasons, dict) else ""
    outcome = (
        f"error: {entry['error']}" if "error" in entry else "; ".join(filter(None, (counts, skipped))) or "no text"
    )
    shown = (_when(entry), str(entry.get("client", "")), str(entry.get("event", "")), about, outcome)
    # names of folders and sessions come from others, and go to a terminal
    return "  ".join("".join(each if each.isprintable() else " " for each in part) for part in shown if part)


def _when(entry: Mapping[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(float(entry["time"]), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return "?"
