"""How a session finds the daemon of its palace, or starts one.

The daemon lock alone decides which process is the daemon. A bridge that takes it free starts a daemon and passes the
open file on, so the lock is never free in between. It is free the moment the daemon is dead.

A daemon is started detached: in a session of its own, without the stdin, stdout and stderr of this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Mapping

from mempalace_mcp import __version__
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.core.place import Place
from mempalace_mcp.daemon import ipc
from mempalace_mcp.daemon.ipc import (
    LOG_FILE,
    ClientHello,
    DaemonAddress,
    DaemonConnection,
    Refused,
    identity_of,
    is_newer,
    open_connection,
    settings_of,
)

_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PRIVATE = 0o600
START_SECONDS = 75.0
"""For a daemon to say that it is ready, or why not: it may wait for a lock for a minute."""
_READ_BYTES = 65536


class LaunchedDaemon:
    """A daemon that starts. Its stdout is a pipe for one line of JSON: it is ready (with its address, if no file has
    that), or an error."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._status = 0
        # A daemon that ends stays a zombie until its parent waits for it.
        self._reaper = threading.Thread(target=self._wait, name="waitpid", daemon=True)
        self._reaper.start()

    def outcome(self) -> dict[str, object] | None:
        """Wait for its line; None if it died without one, or wrote none within `START_SECONDS`."""
        line = b""
        try:
            while b"\n" not in line and self._is_readable() and (data := os.read(self._pipe, _READ_BYTES)):
                line += data
        finally:
            os.close(self._pipe)
        try:
            outcome = json.loads(line)
        except ValueError:
            return None
        return outcome if isinstance(outcome, dict) else None

    def _is_readable(self) -> bool:
        return bool(select.select([self._pipe], [], [], START_SECONDS)[0])

    def was_killed(self) -> bool:
        """Wait for its end; did a signal of another process end it?"""
        self._reaper.join()
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) in (9, 15)

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            _, self._status = os.waitpid(self.pid, 0)


def launch(palace: str, lock: FileLock | None = None, *, on_server: bool = False) -> LaunchedDaemon:
    """Start a daemon for the palace that holds the daemon lock, or without one a process for one session alone.

    `palace` is its directory. The address of a palace `on_server` is in the environment.

    Raises:
        OSError: no process can be started, or its log cannot be written.
    """
    options = ["--directory" if on_server else "--palace", palace]
    options += ["--private"] if lock is None else ["--seat", str(lock.share())]
    # `-P`: the folder in which a client happens to start us must not lend its modules to the daemon
    isolation = [] if os.path.realpath(_PACKAGE_ROOT) == os.getcwd() else ["-P"]
    command = [sys.executable, *isolation, "-m", "mempalace_mcp", "daemon", "run", *options]
    log = _open_log(palace)
    try:
        return _spawn(command, log)
    finally:
        os.close(log)


def _open_log(palace: str) -> int:
    """The log, or nothing where there can be none: a palace is served without a log, too."""
    try:
        return os.open(os.path.join(palace, LOG_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


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
"""The daemon lock is held, but its holder does not answer: then this session gets a process of its own."""

DEFERENCE_SECONDS = 5.0
"""How long a bridge leaves the lock to the process for which a daemon has left."""

FAILED_STARTS = 3
"""Daemons in a row that died while starting, without an error, until that is reported."""

_NO_ROOM = ("storage_full", "storage_read_only")
"""Errors with which a daemon cannot start, but a process for one session can: it needs only to read the palace."""

_DATABASE = "palace.db"
"""Named as in `storage/sqlite/database.py`, which a bridge does not import."""

_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


class Unavailable(Exception):
    """Raised when there is no daemon and none can be started; `error` has the fields of a `PalaceError`."""

    def __init__(self, error: Mapping[str, object]) -> None:
        super().__init__(str(error.get("message")))
        self.error = dict(error)


class Connector:
    """Connects one session to its daemon, as often as needed."""

    def __init__(
        self, place: Place, environment: Mapping[str, str], profile: str, prefix: str, read_only: bool
    ) -> None:
        palace = self.palace = place.directory
        self._on_server = place.url is not None
        self._address_file = os.path.join(palace, ipc.ADDRESS_FILE)
        self._lock_file = os.path.join(palace, ipc.LOCK_FILE)
        self._bridge = os.urandom(16).hex()
        self._settings = settings_of(environment)
        self._tools = (profile, prefix, read_only)
        self._was_connected = False
        self._defers_until = 0.0
        self._failed_starts = 0

    def connect(self) -> DaemonConnection:
        """A connection to the daemon; waits while one is starting.

        Raises:
            Unavailable: there is none and cannot be any.
        """
        began = time.monotonic()
        unreachable_since: float | None = None
        pause = _SHORTEST_PAUSE
        while True:
            self._ensure_directory()
            address = DaemonAddress.read(self._address_file)
            if address is not None:
                connection = self._try(address)
                if connection is not None:
                    return connection
            try:
                if self._start_if_free():
                    unreachable_since = None
                    continue
            except Unavailable as reason:
                if reason.error.get("code") not in _NO_ROOM or self._is_only_lock_forbidden():
                    raise
                return self._serve_alone(str(reason.error["message"]))
            now = time.monotonic()
            unreachable_since = None if address is None else unreachable_since or now
            if unreachable_since is not None and now - unreachable_since > UNREACHABLE_SECONDS:
                return self._serve_alone("its daemon does not answer")
            if now - began > START_SECONDS + UNREACHABLE_SECONDS:
                raise self._unavailable("the daemon of the palace has not become ready")
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def defer(self) -> None:
        """Leave the daemon lock to another process for a while."""
        self._defers_until = time.monotonic() + DEFERENCE_SECONDS

    def _is_only_lock_forbidden(self) -> bool:
        """Is the lock the only file that this user may not write?

        A person can mend that, so it is reported instead of being worked around.
        """
        database = os.path.join(self.palace, _DATABASE)
        if not os.path.exists(self._lock_file) or os.access(self._lock_file, os.W_OK):
            return False
        return not os.path.exists(database) or os.access(database, os.W_OK)

    def _ensure_directory(self) -> None:
        if os.path.isdir(self.palace):
            return
        if self._was_connected and not self._on_server:
            raise self._missing()
        from pathlib import Path

        from mempalace_mcp.core.errors import PalaceError
        from mempalace_mcp.core.files import create_directory

        try:
            create_directory(Path(self.palace))
        except PalaceError as error:
            raise Unavailable(error.as_dict()) from error

    def _try(self, address: DaemonAddress) -> DaemonConnection | None:
        """Connect to the daemon; None if it is gone or refuses for a reason that passes.

        Raises:
            Unavailable: it has no room.
        """
        try:
            connection = open_connection(address, self._client_hello())
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

    def _client_hello(self) -> ClientHello:
        profile, prefix, read_only = self._tools
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

    def _start_if_free(self) -> bool:
        """Start a daemon if the lock is free; True if there is one now, or if the caller should try again at once."""
        if time.monotonic() < self._defers_until:
            return False
        try:
            lock = FileLock.take(self._lock_file)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._os_refusal(error, self._lock_file) from error
        if lock is None:
            return False
        try:
            ipc.forget(self._address_file)
            launched = launch(self.palace, lock, on_server=self._on_server)
        except PermissionError as error:
            raise self._os_refusal(error, self.palace) from error
        except OSError as error:
            raise self._unavailable(f"no daemon can be started: {error}") from error
        finally:
            lock.close()
        self._await(launched)
        return True

    def _await(self, launched: LaunchedDaemon) -> DaemonAddress | None:
        """Wait until the daemon is ready; its address, if no file has that.

        Raises:
            Unavailable: it reports an error, or has died too often while starting.
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
        fields = outcome.get("address")
        return DaemonAddress(**fields) if isinstance(fields, dict) else None

    def _serve_alone(self, reason: str) -> DaemonConnection:
        """Start a process for this session alone, which shares the palace with other processes."""
        try:
            address = self._await(launch(self.palace, on_server=self._on_server))
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

    def _os_refusal(self, error: OSError, path: str) -> Unavailable:
        """The system's refusal, which does not pass by itself."""
        from pathlib import Path

        from mempalace_mcp.core.files import explain_os_error

        named = error.filename if isinstance(error.filename, str) else path
        return Unavailable(self._with_log(explain_os_error(error, Path(named)).as_dict()))

    def _unavailable(self, message: str) -> Unavailable:
        from mempalace_mcp.core.errors import Busy

        return Unavailable(self._with_log(Busy(message, hint="Try again.").as_dict()))

    def _with_log(self, error: Mapping[str, object]) -> dict[str, object]:
        log = os.path.join(self.palace, ipc.LOG_FILE)
        return {**error, "hint": f"{error.get('hint') or ''} The daemon's log is {log}.".strip()}


def jittered(seconds: float) -> float:
    """Between half of it and all of it, so that many bridges do not act at once."""
    return seconds * (0.5 + int.from_bytes(os.urandom(2), "big") / 131072)
