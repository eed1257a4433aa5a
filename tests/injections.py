"""What laboratories change in modules: each function gets the module right after it was imported.

At the top, nothing but the standard library is imported: a program in a laboratory loads no more than usual.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

FEW_ROWS = 60

Run = Callable[..., Any]
"""The function of a tool: its call, and the arguments by name."""


def deliberate_taxonomy(overview: ModuleType) -> None:
    """`get_taxonomy` sleeps for the wing `sleep 1.5`, lists what its process has imported for `modules`, and kills it
    for `die`."""

    def run(real: Run, call: Any, wing: str = "") -> Any:
        kind, _, seconds = wing.partition(" ")
        if kind == "sleep":
            time.sleep(float(seconds))
            return {"taxonomy": {}, "drawers": os.getpid()}
        if kind == "modules":
            return {"taxonomy": {"modules": dict.fromkeys(sys.modules, 1)}, "drawers": 0}
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(call, wing=wing)

    _wrap(overview, "get_taxonomy", run)


def patient_taxonomy(overview: ModuleType) -> None:
    """`get_taxonomy` of the wing `until x` says that it is half done and waits for a drawer in x; if it is told to stop
    before, it files one in the wing `x no more`."""

    def run(real: Run, call: Any, wing: str = "") -> Any:
        until, _, expected = wing.partition(" ")
        if until == "until":
            call.deadline.report(1, 2, "half")
            try:
                while not call.palace.get_taxonomy(wing=expected).drawers:
                    call.deadline.check("a drawer")
                    time.sleep(0.02)
            except Exception:
                call.palace.add_drawer(expected + " no more", "r", "x")
                raise
        return real(call, wing=wing)

    _wrap(overview, "get_taxonomy", run)


def deadly_diary(diary: ModuleType) -> None:
    """`diary_write` kills its process between commit and answer, once for each file in `topic`."""

    def run(real: Run, call: Any, topic: str, **entry: Any) -> Any:
        answer = real(call, topic=topic, **entry)
        if not os.path.exists(topic):  # noqa: PTH110 - as little as possible is imported here
            with open(topic, "x"):  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
        return answer

    _wrap(diary, "diary_write", run)


def stillborn_daemon(entry: ModuleType) -> None:
    """The daemon ends while it starts, without a word."""
    entry.run = lambda arguments: os._exit(3)  # type: ignore[attr-defined]


def loopback_socket(entry: ModuleType) -> None:
    """The daemon listens as on a system without sockets in the file system."""
    entry.listening = functools.partial(entry.listening, loopback=True)  # type: ignore[attr-defined]


def early_chroma(index: ModuleType) -> None:
    """Chroma begins with the first vector."""
    _chroma_from(index, 1)


def hasty_chroma(index: ModuleType) -> None:
    """Chroma begins with a few vectors."""
    _chroma_from(index, FEW_ROWS)


def careless_commits(connection: ModuleType) -> None:
    """Commits do not wait for the disk."""
    real = connection._connect
    connection._connect = lambda path, options, **pragmas: real(  # type: ignore[attr-defined]
        path, options, **pragmas | ({"synchronous": "NORMAL"} if "synchronous" in pragmas else {})
    )


def _chroma_from(index: ModuleType, rows: int) -> None:
    """The number of rows from which on there is Chroma."""
    initialize = index.VectorIndex.__init__
    assert "minimum_rows" in initialize.__kwdefaults__
    initialize.__kwdefaults__["minimum_rows"] = rows


def _wrap(module: ModuleType, name: str, run: Callable[..., Any]) -> None:
    """Give a tool another function, whose first argument is the real one."""
    tool = getattr(module, name)
    changed = functools.wraps(tool.run)(functools.partial(run, tool.run))
    setattr(module, name, replace(tool, run=changed))
