"""A machine of its own for each test: a home directory, a path with few programs, any system."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mempalace_mcp.setup.changes import TakenBack, make, take_back
from mempalace_mcp.setup.journal import Journal
from mempalace_mcp.setup.machine import Machine
from mempalace_mcp.setup.plan import ClientPlan, Planner, Wish


def machine(home: Path, system: str = "linux", **environment: str) -> Machine:
    """A machine with nothing on its path but this program."""
    programs = home.parent / "programs"
    programs.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    script(programs / "mempalace-mcp", f'exec {sys.executable} -m mempalace_mcp "$@"')
    return Machine(system, {"HOME": str(home), "USERPROFILE": str(home), "PATH": str(programs), **environment})


def script(file: Path, text: str) -> None:
    """A program of the shell."""
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


def write(file: Path, data: Any) -> Path:
    """A file with this text, or with this JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = data if isinstance(data, str) else json.dumps(data)
    file.write_bytes(text.encode())
    return file


def snapshot(home: Path) -> Mapping[str, object]:
    """Every file and folder below the home directory, with contents and modes."""
    found: dict[str, object] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
    return found


def planned(on: Machine, *clients: str, force: bool = False, palace: Path | None = None) -> list[ClientPlan]:
    """What would be done, as the command plans it."""
    usual = Path(os.path.realpath(on.home / ".mempalace-mcp" / "palace"))
    records = tuple(Journal(on).records())
    return Planner(on, palace or usual, records, wish=Wish(clients, imports=False, force=force)).plan()


def set_up(on: Machine, *clients: str, force: bool = False, palace: Path | None = None) -> list[str]:
    """Do it; how it was done."""
    plans = planned(on, *clients, force=force, palace=palace)
    return [make(on, step, Journal(on)) for plan in plans for step in plan.steps]


def undo(on: Machine) -> list[TakenBack]:
    """Take everything back."""
    journal = Journal(on)
    return [take_back(record, journal) for record in reversed(journal.records())]
