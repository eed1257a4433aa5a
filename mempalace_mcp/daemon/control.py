"""Asking and stopping a daemon, and taking over from another one.

What people ask of a daemon: how it is, to stop, what it has logged.

How `serve` comes to the seat: a daemon that bridges have started makes room, another `serve` does not.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core.errors import Busy, ConfigurationError, Forbidden, NotFound
from mempalace_mcp.core.files import create_directory, explain_os_error
from mempalace_mcp.daemon import ipc as addresses
from mempalace_mcp.daemon.connector import DaemonLock
from mempalace_mcp.daemon.entry import Log
from mempalace_mcp.daemon.ipc import (
    STATUS,
    STOP,
    TAKE_OVER,
    ClientHello,
    DaemonAddress,
    Refused,
    identity_of,
    open_connection,
    peer_of,
)

STOP_SECONDS = 45.0
"""For a daemon to finish what is in flight and close the palace."""

_PAUSE_SECONDS = 0.02
_IF_SILENT = "Is it stopped? `mempalace-mcp daemon stop` ends it: what it has acknowledged is on the disk."


def describe(palace: Path) -> dict[str, Any] | None:
    """How the palace's daemon is; None if there is none.

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

    One that takes connections and says nothing is killed: what it has acknowledged is on the disk.

    Raises:
        Busy: it does not go, or what is at its address is something else.
        Forbidden: it is another user's.
    """
    address = DaemonAddress.read(str(palace / addresses.FILE))
    http = address.http if address else None
    try:
        answer = _ask(palace, STOP)
        stopped = answer and Stopped(int(answer["pid"]), http, killed=False)
    except Busy as trouble:
        pid = _kill(address) if address and _is_silence(trouble.__cause__) else 0
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
    """Kill the process that listens there; it, or 0 if nobody does, or the system does not say who: the address may be
    an old one, and its process number somebody else's by now."""
    try:
        with address.connect() as stream:
            pid = peer_of(stream, told=0)
        if pid > 0:
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except OSError:
        return 0
    return pid


def _is_silence(error: BaseException | None) -> bool:
    return isinstance(error, TimeoutError)


def logged(palace: Path) -> str:
    """All that the log and the files before it hold.

    Raises:
        NotFound: no daemon has been here.
    """
    files = Log(palace / addresses.LOG).files()
    if not files:
        raise NotFound(f"{palace} has no log", hint="No daemon has served this palace yet.")
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def request(purpose: str, palace: str) -> ClientHello:
    """The hello of a command.

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
    address = DaemonAddress.read(str(palace / addresses.FILE))
    if address is None or _is_free(palace):
        return None
    try:
        connection = open_connection(address, request(purpose, str(palace)))
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
    return connection.welcome


def _is_free(palace: Path) -> bool:
    """Has nobody the daemon's seat? Looking takes it for an instant, which others take for a start."""
    try:
        seat = DaemonLock.take(str(palace / addresses.LOCK)) if palace.is_dir() else None
    except OSError:
        return False
    if seat is not None:
        seat.close()
    return seat is not None or not palace.is_dir()


PATIENCE_SECONDS = 45.0
"""For a daemon to finish what is in flight and close the palace."""


def take_daemon_lock(palace: str) -> DaemonLock:
    """The seat of the palace's daemon, once it is free.

    The kernel keeps our place in the queue, so that none of the sessions that lose their daemon gets there before us.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
        Busy: whoever has the seat does not make room.
        StorageError: the palace's directory or its lock cannot be made.
    """
    create_directory(Path(palace))
    seat_file, waiting = os.path.join(palace, addresses.LOCK), Future[DaemonLock]()
    threading.Thread(target=wait_for_daemon_lock, args=(seat_file, waiting), name="seat", daemon=True).start()
    try:
        seat = _ask_until(waiting, palace)
    except OSError as error:
        raise explain_os_error(error, Path(seat_file)) from error
    finally:
        waiting.cancel()
    seat.sign()
    return seat


def _ask_until(waiting: Future[DaemonLock], palace: str) -> DaemonLock:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with suppress(TimeoutError):
            return waiting.result(_PAUSE_SECONDS)
        address = DaemonAddress.read(os.path.join(palace, addresses.FILE))
        if address is not None:
            _ask_holder(address, palace)
    raise Busy(
        f"the daemon of {palace} does not make room",
        hint="Stop it with `mempalace-mcp daemon stop`, then retry.",
    )


def refuse_if_served(palace: str) -> None:
    """Say where the palace is served over HTTP, if it is; no other daemon hears of the question.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
    """
    address = DaemonAddress.read(os.path.join(palace, addresses.FILE))
    if address is not None and address.http is not None:
        _ask_holder(address, palace)


def wait_for_daemon_lock(seat_file: str, waiting: Future[DaemonLock]) -> None:
    """Give the seat to whoever waits as soon as it is free; if nobody wants it any more, give it back."""
    try:
        seat = DaemonLock.wait(seat_file)
    except OSError as error:
        if waiting.set_running_or_notify_cancel():
            waiting.set_exception(error)
        return
    if waiting.set_running_or_notify_cancel():
        waiting.set_result(seat)
    else:
        seat.close()


def _ask_holder(address: DaemonAddress, palace: str) -> None:
    """Ask it to make room. A daemon that does says nothing else to us."""
    try:
        open_connection(address, request(TAKE_OVER, palace)).close()
    except Refused as refusal:
        if refusal.code == "serving":
            raise ConfigurationError(
                f"{palace} is served already, by process {address.pid} at {address.http}",
                hint="Use that one, or stop it first.",
            ) from refusal
    except (OSError, ValueError):
        return
