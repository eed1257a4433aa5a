"""Starting a daemon: detached, without this process's stdin, stdout and stderr, in a group and session of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading

from mempalace_mcp.process.address import LOG
from mempalace_mcp.process.seat import Seat

_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PRIVATE = 0o600
START_SECONDS = 75.0
"""For a daemon to say that it is ready, or why not: it may wait for a lock for a minute."""
_READ_BYTES = 65536


class Launch:
    """A daemon being born. Its stdout is a pipe on which it says one line: that it is ready (and where, if no
    file tells that), or why it cannot be."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._status = 0
        # Unless somebody waits for it, a daemon that ends stays a zombie for as long as this session lives.
        self._waits = threading.Thread(target=self._wait, name="waitpid", daemon=True)
        self._waits.start()

    def outcome(self) -> dict[str, object] | None:
        """What it has to say; None if it died without a word, or said none in its time."""
        said = b""
        try:
            while b"\n" not in said and self._speaks() and (data := os.read(self._pipe, _READ_BYTES)):
                said += data
        finally:
            os.close(self._pipe)
        try:
            outcome = json.loads(said)
        except ValueError:
            return None
        return outcome if isinstance(outcome, dict) else None

    def _speaks(self) -> bool:
        return sys.platform == "win32" or bool(select.select([self._pipe], [], [], START_SECONDS)[0])

    def was_killed(self) -> bool:
        """Did somebody end it from outside? To be asked once it is known to be dead."""
        self._waits.join()
        return sys.platform != "win32" and os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) in (9, 15)

    def _wait(self) -> None:
        if sys.platform != "win32":
            with contextlib.suppress(ChildProcessError):
                _, self._status = os.waitpid(self.pid, 0)


def launch(palace: str, seat: Seat | None = None) -> Launch:
    """Start a daemon for the palace that holds the seat, or without one a process for one session alone.

    Raises:
        OSError: no process can be started, or its log not be written.
    """
    options = ["--palace", palace]
    if seat is None:
        options += ["--private"]
    elif sys.platform != "win32":
        options += ["--seat", str(seat.descriptor)]
    # `-P`: the folder in which a client happens to start us must not lend its modules to the daemon
    isolation = [] if os.path.realpath(_PACKAGE_ROOT) == os.getcwd() else ["-P"]
    command = [sys.executable, *isolation, "-m", "mempalace_mcp", "daemon", "run", *options]
    log = _open_log(palace)
    try:
        if seat is not None:
            seat.hand_over()
        return _spawn(command, log)
    finally:
        os.close(log)


def _open_log(palace: str) -> int:
    """The log, if there can be one: it does not decide whether a palace is served."""
    try:
        return os.open(os.path.join(palace, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


if sys.platform == "win32":

    def _spawn(command: list[str], log: int) -> Launch:
        import subprocess

        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, creationflags=flags
        )
        assert child.stdout is not None
        return Launch(child.pid, os.dup(child.stdout.fileno()))

else:

    def _spawn(command: list[str], log: int) -> Launch:
        source, sink = os.pipe()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, sink, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        try:
            pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
        except BaseException:
            os.close(source)
            raise
        finally:
            os.close(sink)
        return Launch(pid, source)
