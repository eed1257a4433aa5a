"""Threads that do not end when they are told to."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from mempalace_mcp.core.limits import wait_for_end


def test_what_does_not_end_is_left_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="the slow one")
    assert wait_for_end(thread, 0)
    thread.start()
    assert not wait_for_end(thread, 0.01)
    assert "the slow one" in caplog.text
    end.set()
    assert wait_for_end(thread, 30)


def test_a_process_ends_with_what_hangs() -> None:
    code = (
        "import threading, sys\n"
        "from mempalace_mcp.core.limits import leave\n"
        "leave(3, 0.1)\n"
        "print('nothing hangs')\n"
        "threading.Thread(target=threading.Event().wait, name='hanging').start()\n"
        "leave(7, 0.1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (7, "nothing hangs\n")
    assert "hanging" in ended.stderr
