"""Ctrl-C during a command that takes long."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mempalace_mcp.cli.commands import reported
from mempalace_mcp.cli.importing import ImportRequest, file_texts
from mempalace_mcp.cli.output import INTERRUPTED, Interrupts
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.runtime.app import open_app

TWICE = """
import signal
from mempalace_mcp.cli.output import Interrupts
with Interrupts() as interrupts:
    signal.raise_signal(signal.SIGINT)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        print("not at once")
"""


def test_the_first_one_waits_until_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_second_one_ends_the_process_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (INTERRUPTED, b"")


def test_what_runs_in_the_background_of_a_shell_goes_on() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_counts_also_when_the_step_that_it_waited_for_fails(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("something", encoding="utf-8")
    with Interrupts() as interrupts, open_app(load_settings({}, str(tmp_path / "palace"))) as app:
        with pytest.raises(InvalidArgument):
            file_texts(app, ImportRequest([note], wing="too long " * 100), ImportSummary(), interrupts.check)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            file_texts(app, ImportRequest([note], wing="too long " * 100), ImportSummary(), interrupts.check)


def test_a_command_that_is_interrupted_says_so_by_its_exit_code() -> None:
    with pytest.raises(SystemExit) as ended, reported(False):
        raise KeyboardInterrupt
    assert ended.value.code == INTERRUPTED
