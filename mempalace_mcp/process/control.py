"""What people ask of a daemon: how it is, to stop, what it has logged."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core.errors import Busy, NotFound
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.connection import Refused, greet
from mempalace_mcp.process.hello import STATUS, STOP, Hello, identity_of
from mempalace_mcp.process.log import Log
from mempalace_mcp.process.seat import Seat

STOP_SECONDS = 45.0
"""For a daemon to finish what is in flight and close the palace."""

_PAUSE_SECONDS = 0.02


def describe(palace: Path) -> dict[str, Any] | None:
    """How the palace's daemon is; None if there is none.

    Raises:
        Busy: there is one, and it does not answer.
    """
    return _ask(palace, STATUS)


def stop(palace: Path) -> int | None:
    """Stop the palace's daemon and wait until it has gone; its process, or None if there was none.

    Raises:
        Busy: it does not go.
    """
    answer = _ask(palace, STOP)
    if answer is None:
        return None
    end = time.monotonic() + STOP_SECONDS
    while not _is_free(palace):
        if time.monotonic() > end:
            raise Busy(f"process {answer['pid']} has not ended in {STOP_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)
    return int(answer["pid"])


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
    except (OSError, ValueError, Refused) as error:
        if _is_free(palace):
            return None
        raise Busy(f"the daemon, process {address.pid}, does not answer: {error}") from error
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
