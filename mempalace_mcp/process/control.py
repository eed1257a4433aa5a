"""What people ask of a daemon: how it is, to stop, what it has logged."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core.errors import Busy, Forbidden, NotFound
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.connection import Refused, greet, peer_of
from mempalace_mcp.process.hello import STATUS, STOP, Hello, identity_of
from mempalace_mcp.process.log import Log
from mempalace_mcp.process.seat import Seat

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
    address = Address.read(str(palace / addresses.FILE))
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


def _kill(address: Address) -> int:
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


def request(purpose: str, palace: str) -> Hello:
    """The hello of a command.

    Raises:
        OSError: the palace is not there.
    """
    return Hello(
        version=__version__,
        palace=identity_of(palace),
        bridge=os.urandom(16).hex(),
        pid=os.getpid(),
        purpose=purpose,
    )


def _ask(palace: Path, purpose: str) -> dict[str, Any] | None:
    address = Address.read(str(palace / addresses.FILE))
    if address is None or _is_free(palace):
        return None
    try:
        connection = greet(address, request(purpose, str(palace)))
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
        seat = Seat.take(str(palace / addresses.LOCK)) if palace.is_dir() else None
    except OSError:
        return False
    if seat is not None:
        seat.close()
    return seat is not None or not palace.is_dir()
