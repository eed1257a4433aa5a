"""A setup that is killed at any moment leaves settings that are whole, and can be taken back."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mempalace_mcp.setup.journal import FILE
from mempalace_mcp.setup.machine import Machine
from tests.setup.support import machine, planned, set_up, snapshot, undo, write

pytestmark = pytest.mark.long

KILLED = 9


def set_up_until(on: Machine, last: int, *clients: str) -> bool:
    """Set up in a child that ends without a word at its `last` file operation; False if there were fewer."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def on_event(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event.split(".")[0] in ("open", "os") and any(str(on.home) in str(each) for each in arguments):
                count += 1
                if count == last:
                    os._exit(KILLED)

        sys.addaudithook(on_event)
        set_up(on, *clients)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED


def settings_of(home: Path) -> Mapping[str, object]:
    """All but the folder of the journal."""
    return {name: what for name, what in snapshot(home).items() if not name.startswith(".mempalace")}


@pytest.mark.parametrize(
    ("client", "is_there"),
    [("cursor", True), ("gemini", False), ("opencode", True)],
    ids=["cursor-there", "gemini-new", "opencode-there"],
)
def test_whatever_was_done_is_taken_back(client: str, is_there: bool, tmp_path: Path) -> None:
    for last in itertools.count(1):
        on = machine(tmp_path / f"home{last}")
        if is_there:
            for step in (planned(on, client)[0].server, planned(on, client)[0].hooks):
                assert step is not None
                if step.file.suffix == ".json":
                    write(step.file, '{"hooks": {}, /* mine */ "mcpServers": {}}')
        before = snapshot(on.home)
        was_killed = set_up_until(on, last, client)
        undo(on)
        assert settings_of(on.home) == before, last
        assert not (on.home / FILE).exists()
        if not was_killed:
            break
    assert last > 10


def test_a_killed_setup_is_completed_by_the_next_one(tmp_path: Path) -> None:
    for last in range(1, 200, 7):
        on = machine(tmp_path / f"home{last}")
        was_killed = set_up_until(on, last, "cursor")
        set_up(on, "cursor")
        assert not planned(on, "cursor")[0].steps
        undo(on)
        assert settings_of(on.home) == {}
        if not was_killed:
            return
    raise AssertionError("the last one was killed too")
