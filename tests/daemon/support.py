"""Bridges and daemons as real processes on a real palace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from mempalace_mcp.core.locks import FileLock
from tests.laboratory import PACKAGE
from tests.palace.support import opened
from tests.server.clients import PATIENCE, StdioClient, call, end

PROGRAM = (sys.executable, "-m", "mempalace_mcp")


@contextmanager
def bridge(
    palace: Path,
    *options: str,
    package: Path = PACKAGE.parent,
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
    own_group: bool = False,
    through: Sequence[str] = (),
) -> Iterator[StdioClient]:
    """A session as an MCP client starts it, or another program for it (`through`); it ends with the block, the daemon
    does not."""
    process = subprocess.Popen(
        [*through, *PROGRAM, "--palace", str(palace), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=package,
        env={**os.environ, **(environment or {})},
        start_new_session=own_group,
    )
    try:
        yield StdioClient(process)
    finally:
        end(process)


def made(palace: Path, texts: Sequence[str] = (), facts: Sequence[tuple[str, str, str]] = ()) -> Path:
    """Make a palace with these drawers and facts, in this process as a daemon does in its own; nobody serves it."""
    previous = os.umask(0o077)  # as the program does
    try:
        with opened(palace, started=False) as app:
            for text in texts:
                app.palace.add_drawer("w", "r", text)
            for fact in facts:
                app.palace.kg_add(*fact)
    finally:
        os.umask(previous)
    return palace


@contextmanager
def served(palace: Path, package: Path = PACKAGE.parent) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """`serve` on a free port, and what it announces."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--palace", str(palace), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        cwd=package,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        end(process)


def use(client: StdioClient, number: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed; its structured content. Messages of the server's own are passed over."""
    client.send(call(number, tool, **arguments))
    answer = answer_to(client, number)
    assert not answer["result"]["isError"], answer
    content: dict[str, Any] = answer["result"]["structuredContent"]
    return content


def answer_to(client: StdioClient, number: Any) -> dict[str, Any]:
    """The next message, which must be the answer to that id; notifications are passed over."""
    while "method" in (message := client.receive()):
        pass
    assert message["id"] == number, message
    assert "result" in message, message
    return message


def daemon_pid(client: StdioClient, number: Any = "pid") -> int:
    """The process that serves the session."""
    pid: int = use(client, number, "status")["daemon"]["pid"]
    return pid


def address(palace: Path) -> dict[str, Any]:
    """The file that tells where the daemon is."""
    told: dict[str, Any] = json.loads((palace / "daemon.json").read_text())
    return told


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something outside this process has happened."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"in vain: {what}"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Is the process gone, or only waiting to be reaped?"""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    """SIGKILL; returns when it has struck."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: has_ended(pid), f"the end of {pid}")


def processes_of(palace: Path) -> list[psutil.Process]:
    """Every process that names the palace in its command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(palace) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes_of(palace: Path) -> None:
    """Leave nothing of a palace running: a daemon just born has no command line yet, but it has the daemon lock."""
    while (found := processes_of(palace)) or _is_taken(palace):
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, PATIENCE)


def _is_taken(palace: Path) -> bool:
    if not palace.is_dir():
        return False
    lock = FileLock.take(str(palace / "daemon.lock"))
    if lock is not None:
        lock.close()
    return lock is None
