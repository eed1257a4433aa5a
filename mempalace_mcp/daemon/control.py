"""What commands want from a daemon: its status, its log, its end, and its lock for `serve`.

A daemon that bridges have started leaves when a `serve` asks for the lock; another `serve` does not.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core import platform
from mempalace_mcp.core.errors import Busy, ConfigurationError, Forbidden, NotFound
from mempalace_mcp.core.files import create_directory
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon import ipc
from mempalace_mcp.daemon.entry import Log
from mempalace_mcp.daemon.ipc import (
    HANDOVER,
    STATUS,
    STOP,
    ClientHello,
    DaemonAddress,
    Refused,
    identity_of,
    open_connection,
)

STOP_SECONDS = 45.0
"""For a daemon to finish its calls and close the palace."""

_PAUSE_SECONDS = 0.02
_IF_SILENT = "Is it stopped? `mempalace-mcp daemon stop` ends it: what it has acknowledged is on the disk."


def describe(palace: Path) -> dict[str, Any] | None:
    """The status of the palace's daemon; None if there is none.

    Raises:
        Busy: there is one, and it does not answer.
        Forbidden: it is another user's.
    """
    return _ask(palace, STATUS)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon that was stopped: its process, its URL if it served HTTP, and whether it had to be killed."""

    pid: int
    http: str | None
    killed: bool


def stop(palace: Path) -> Stopped | None:
    """Stop the palace's daemon and wait until it has gone; None if there was none.

    A daemon that takes connections and does not answer is killed: what it has acknowledged is on the disk.

    Raises:
        Busy: it does not end, or something else answers at its address.
        Forbidden: it is another user's.
    """
    address = DaemonAddress.read(str(palace / ipc.ADDRESS_FILE))
    http = address.http if address else None
    try:
        answer = _ask(palace, STOP)
        stopped = answer and Stopped(int(answer["pid"]), http, killed=False)
    except Busy as error:
        pid = _kill(address) if address and _is_silence(error.__cause__) else 0
        if not pid:
            raise
        stopped = Stopped(pid, http, killed=True)
    if stopped:
        _wait_until_free(palace, stopped.pid)
    return stopped or None


def _wait_until_free(palace: Path, pid: int) -> None:
    end = time.monotonic() + STOP_SECONDS
    while not _is_free(palace):
        if time.monotonic() > end:
            raise Busy(f"process {pid} has not ended in {STOP_SECONDS:.0f} s", hint="Its log says what it waits for.")
        time.sleep(_PAUSE_SECONDS)


def _kill(address: DaemonAddress) -> int:
    """Kill the process that listens at the address; its number, or 0 if there is none or the system does not tell.

    The number in the address is not used: the file may be old, and the number another process's by now.
    """
    try:
        with address.connect() as stream:
            pid = platform.peer_process(stream) or 0
        if pid > 0:
            platform.kill(pid)
    except OSError:
        return 0
    return pid


def _is_silence(error: BaseException | None) -> bool:
    return isinstance(error, TimeoutError)


def logged(palace: Path) -> str:
    """The text of the log and the files before it.

    Raises:
        NotFound: no daemon has been here.
    """
    files = Log(palace / ipc.LOG_FILE).files()
    if not files:
        raise NotFound(f"{palace} has no log", hint="No daemon has served this palace yet.")
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def client_hello(purpose: str, palace: str) -> ClientHello:
    """How a command introduces itself.

    Raises:
        OSError: the palace is not there.
    """
    return ClientHello(
        version=__version__,
        palace=identity_of(palace),
        bridge=os.urandom(16).hex(),
        pid=os.getpid(),
        purpose=purpose,
    )


def _ask(palace: Path, purpose: str) -> dict[str, Any] | None:
    address = DaemonAddress.read(str(palace / ipc.ADDRESS_FILE))
    if address is None or _is_free(palace):
        return None
    try:
        connection = open_connection(address, client_hello(purpose, str(palace)))
    except PermissionError as error:
        raise Forbidden(
            f"the daemon, process {address.pid}, is another user's", hint="Ask as the user whose palace it is."
        ) from error
    except (OSError, ValueError, Refused) as error:
        if _is_free(palace):
            return None
        raise Busy(
            f"the daemon, process {address.pid}, does not answer: {error}",
            hint=_IF_SILENT if _is_silence(error) else None,
        ) from error
    connection.close()
    return connection.server_hello


def _is_free(palace: Path) -> bool:
    """Is the daemon lock free? Looking takes it for an instant, in which it looks as if a daemon started."""
    try:
        lock = FileLock.take(palace / ipc.LOCK_FILE) if palace.is_dir() else None
    except OSError:
        return False
    if lock is not None:
        lock.close()
    return lock is not None or not palace.is_dir()


HANDOVER_SECONDS = 45.0
"""For a daemon to finish its calls and close the palace."""


def take_daemon_lock(palace: str) -> FileLock:
    """Take the daemon lock of the palace, once its holder has left.

    This process stays in the kernel's queue for the lock all the time: no session that loses its daemon can be faster.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
        Busy: the holder does not leave.
        StorageError: the palace's directory or its lock cannot be made.
    """
    create_directory(Path(palace))
    lock = FileLock(os.path.join(palace, ipc.LOCK_FILE))
    end = time.monotonic() + HANDOVER_SECONDS
    try:
        while time.monotonic() < end:
            if lock.try_acquire(_PAUSE_SECONDS, keep_place=True):
                return lock
            address = DaemonAddress.read(os.path.join(palace, ipc.ADDRESS_FILE))
            if address is not None:
                _ask_to_leave(address, palace)
    except BaseException:
        lock.close()
        raise
    lock.close()
    raise Busy(
        f"the daemon of {palace} does not make room",
        hint="Stop it with `mempalace-mcp daemon stop`, then retry.",
    )


def refuse_if_served(palace: str) -> None:
    """Refuse if a process serves the palace over HTTP already. Other daemons are not asked.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
    """
    address = DaemonAddress.read(os.path.join(palace, ipc.ADDRESS_FILE))
    if address is not None and address.http is not None:
        _ask_to_leave(address, palace)


def _ask_to_leave(address: DaemonAddress, palace: str) -> None:
    """Ask the holder of the lock to leave. A daemon that does answers nothing else.

    Raises:
        ConfigurationError: it serves HTTP, and stays.
    """
    try:
        open_connection(address, client_hello(HANDOVER, palace)).close()
    except Refused as refusal:
        if refusal.code == "serving":
            raise ConfigurationError(
                f"{palace} is served already, by process {address.pid} at {address.http}",
                hint="Use that one, or stop it first.",
            ) from refusal
    except (OSError, ValueError):
        return
