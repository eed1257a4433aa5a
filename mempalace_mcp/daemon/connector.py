"""How a session finds the daemon of a palace, or starts one.

The daemon's seat: who holds the lock on it is the one daemon of a palace, from birth to death.

Whoever wins the seat for a new daemon gives it the open file, so that the seat is never free in between, and is free
the moment the daemon is dead.

Starting a daemon: detached, without this process's stdin, stdout and stderr, in a group and session of its own.

Finds the daemon of a palace, or becomes the one who starts it.

Nothing here decides who is the daemon but the lock on its seat: whoever takes it free starts one and passes it on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping

from mempalace_mcp import __version__
from mempalace_mcp.core import flock
from mempalace_mcp.daemon import ipc as addresses
from mempalace_mcp.daemon.ipc import (
    LOG,
    ClientHello,
    DaemonAddress,
    DaemonConnection,
    Refused,
    identity_of,
    is_newer,
    open_connection,
    settings_of,
)


class DaemonLock:
    """The lock, held."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: str) -> DaemonLock | None:
        """Take the seat if it is free.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        while True:
            descriptor = flock.open_lock(path)
            try:
                if not flock.try_lock(descriptor):
                    os.close(descriptor)
                    return None
            except BaseException:
                os.close(descriptor)
                raise
            if flock.is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def wait(cls, path: str) -> DaemonLock:
        """Take the seat as soon as it is free.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        while True:
            descriptor = flock.open_lock(path)
            try:
                flock.lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if flock.is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def inherit(cls, path: str, descriptor: int) -> DaemonLock:
        """Take over the seat from the process that started this one; children of this one do not get it."""
        os.set_inheritable(descriptor, False)
        return cls(path, descriptor)

    def sign(self) -> None:
        """Note this process as the holder."""
        flock.sign(self.descriptor, os.getpid())

    def is_current(self) -> bool:
        """Is the locked file still the one that others find?"""
        return flock.is_at(self.descriptor, self.path)

    def hand_over(self) -> None:
        """Let the next child have it, where locks pass on to children."""
        if sys.platform != "win32":
            os.set_inheritable(self.descriptor, True)

    def close(self) -> None:
        """Let go of it; a child that has it keeps it."""
        os.close(self.descriptor)


_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PRIVATE = 0o600
START_SECONDS = 75.0
"""For a daemon to say that it is ready, or why not: it may wait for a lock for a minute."""
_READ_BYTES = 65536


class LaunchedDaemon:
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


def launch(palace: str, seat: DaemonLock | None = None) -> LaunchedDaemon:
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

    def _spawn(command: list[str], log: int) -> LaunchedDaemon:
        import subprocess

        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, creationflags=flags
        )
        assert child.stdout is not None
        return LaunchedDaemon(child.pid, os.dup(child.stdout.fileno()))

else:

    def _spawn(command: list[str], log: int) -> LaunchedDaemon:
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
        return LaunchedDaemon(pid, source)


UNREACHABLE_SECONDS = 5.0
"""The seat is taken, but nobody answers at the address: after that this session is served by a process of its own."""

DEFERENCE_SECONDS = 5.0
"""How long a bridge leaves the seat to the one for whom a daemon has made room."""

FAILED_STARTS = 3
"""Daemons in a row that died at their start without a reason, until that is reported."""

_NO_ROOM = ("storage_full", "storage_read_only")
"""What keeps a daemon from being found keeps no process from serving one session, as far as the palace can be read."""

_DATABASE = "palace.db"
"""Named as in `storage/sqlite/database.py`, which a bridge does not import."""

_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


class Unavailable(Exception):
    """Raised when there is no daemon and none can be started; `error` tells it in the shape of every refusal."""

    def __init__(self, error: Mapping[str, object]) -> None:
        super().__init__(str(error.get("message")))
        self.error = dict(error)


class Connector:
    """One session's way to its daemon, again and again."""

    def __init__(self, palace: str, environment: Mapping[str, str], profile: str, prefix: str, read_only: bool) -> None:
        self.palace = palace
        self._address_file = os.path.join(palace, addresses.FILE)
        self._seat_file = os.path.join(palace, addresses.LOCK)
        self._bridge = os.urandom(16).hex()
        self._settings = settings_of(environment)
        self._offer = (profile, prefix, read_only)
        self._was_connected = False
        self._defers_until = 0.0
        self._failed_starts = 0

    def connect(self, give_up: Callable[[], bool] = lambda: False) -> DaemonConnection:
        """A connection to the daemon; waits while one is starting.

        Raises:
            Unavailable: there is none and cannot be any.
        """
        began = time.monotonic()
        unreachable_since: float | None = None
        pause = _SHORTEST_PAUSE
        while not give_up():
            self._see_to_directory()
            address = DaemonAddress.read(self._address_file)
            if address is not None:
                connection = self._try(address)
                if connection is not None:
                    return connection
            try:
                if self._start_if_nobody_does():
                    unreachable_since = None
                    continue
            except Unavailable as trouble:
                if trouble.error.get("code") not in _NO_ROOM or self._is_locked_out():
                    raise
                return self._serve_alone(str(trouble.error["message"]))
            now = time.monotonic()
            unreachable_since = None if address is None else unreachable_since or now
            if unreachable_since is not None and now - unreachable_since > UNREACHABLE_SECONDS:
                return self._serve_alone("its daemon does not answer")
            if now - began > START_SECONDS + UNREACHABLE_SECONDS:
                raise self._unavailable("the daemon of the palace has not become ready")
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)
        raise self._unavailable("this session is over")

    def defer(self) -> None:
        """Leave the seat to another process for a while."""
        self._defers_until = time.monotonic() + DEFERENCE_SECONDS

    def _is_locked_out(self) -> bool:
        """Is it the lock alone that this user may not write? A person can mend that, and would not hear of it from
        sessions that are served all the same."""
        database = os.path.join(self.palace, _DATABASE)
        if not os.path.exists(self._seat_file) or os.access(self._seat_file, os.W_OK):
            return False
        return not os.path.exists(database) or os.access(database, os.W_OK)

    def _see_to_directory(self) -> None:
        if os.path.isdir(self.palace):
            return
        if self._was_connected:
            raise self._missing()
        from pathlib import Path

        from mempalace_mcp.core.errors import PalaceError
        from mempalace_mcp.core.files import create_directory

        try:
            create_directory(Path(self.palace))
        except PalaceError as error:
            raise Unavailable(error.as_dict()) from error

    def _try(self, address: DaemonAddress) -> DaemonConnection | None:
        """Connect to it, if it is there and takes us.

        Raises:
            Unavailable: it has no room.
        """
        try:
            connection = open_connection(address, self._hello())
        except Refused as refusal:
            if refusal.code == "full":
                raise self._unavailable("the daemon has as many sessions as it can serve") from refusal
            if refusal.code == "retiring" and not is_newer(__version__, address.version):
                self.defer()
            return None
        except (OSError, ValueError):
            return None
        self._was_connected = True
        self._failed_starts = 0
        return connection

    def _hello(self) -> ClientHello:
        profile, prefix, read_only = self._offer
        return ClientHello(
            version=__version__,
            palace=identity_of(self.palace),
            bridge=self._bridge,
            pid=os.getpid(),
            profile=profile,
            prefix=prefix,
            read_only=read_only,
            settings=self._settings,
        )

    def _start_if_nobody_does(self) -> bool:
        """Start a daemon if the seat is free; True if there is one now, or should be tried for at once."""
        if time.monotonic() < self._defers_until:
            return False
        try:
            seat = DaemonLock.take(self._seat_file)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._refused(error, self._seat_file) from error
        if seat is None:
            return False
        try:
            addresses.forget(self._address_file)
            launched = launch(self.palace, seat)
        except PermissionError as error:
            raise self._refused(error, self.palace) from error
        except OSError as error:
            raise self._unavailable(f"no daemon can be started: {error}") from error
        finally:
            seat.close()
        self._await(launched)
        return True

    def _await(self, launched: LaunchedDaemon) -> DaemonAddress | None:
        """Wait for the daemon's word; its address, if no file tells that.

        Raises:
            Unavailable: it says that it cannot start, or has failed at it too often.
        """
        outcome = launched.outcome()
        if outcome is None:
            if launched.was_killed():
                return None
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                self._failed_starts = 0
                raise self._unavailable(f"the daemon of the palace ended {FAILED_STARTS} times while starting")
            time.sleep(jittered(0.2 * 2**self._failed_starts))
            return None
        error = outcome.get("error")
        if isinstance(error, dict):
            raise Unavailable(self._with_log(error))
        told = outcome.get("address")
        return DaemonAddress(**told) if isinstance(told, dict) else None

    def _serve_alone(self, reason: str) -> DaemonConnection:
        """Start a process for this session alone, which shares the palace with whoever else has it."""
        try:
            address = self._await(launch(self.palace))
        except OSError as error:
            raise self._unavailable(f"no process can be started: {error}") from error
        connection = None if address is None else self._try(address)
        if connection is None:
            raise self._unavailable("the session's own process does not answer")
        os.write(2, f"mempalace-mcp: {reason}; this session is served by a process of its own\n".encode())
        return connection

    def _missing(self) -> Unavailable:
        from mempalace_mcp.core.errors import PalaceMissing

        gone = PalaceMissing(
            f"{self.palace} is not there any more", hint="Put it back, or start a new session for an empty palace."
        )
        return Unavailable(gone.as_dict())

    def _refused(self, error: OSError, path: str) -> Unavailable:
        """What the system does not let this user do does not get better by trying again."""
        from pathlib import Path

        from mempalace_mcp.core.files import explain_os_error

        named = error.filename if isinstance(error.filename, str) else path
        return Unavailable(self._with_log(explain_os_error(error, Path(named)).as_dict()))

    def _unavailable(self, message: str) -> Unavailable:
        from mempalace_mcp.core.errors import Busy

        return Unavailable(self._with_log(Busy(message, hint="Try again.").as_dict()))

    def _with_log(self, error: Mapping[str, object]) -> dict[str, object]:
        log = os.path.join(self.palace, addresses.LOG)
        return {**error, "hint": f"{error.get('hint') or ''} The daemon's log is {log}.".strip()}


def jittered(seconds: float) -> float:
    """Between half of it and all of it, so that many bridges do not act at once."""
    return seconds * (0.5 + int.from_bytes(os.urandom(2), "big") / 131072)
