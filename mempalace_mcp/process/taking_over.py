"""How `serve` comes to the seat: a daemon that bridges have started makes room, another `serve` does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mempalace_mcp.core.errors import Busy, ConfigurationError
from mempalace_mcp.core.files import create_directory, explain_os_error
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.connection import Refused, greet
from mempalace_mcp.process.control import request
from mempalace_mcp.process.hello import TAKE_OVER
from mempalace_mcp.process.seat import Seat

PATIENCE_SECONDS = 45.0
"""For a daemon to finish what is in flight and close the palace."""

_PAUSE_SECONDS = 0.02


def take_seat(palace: str) -> Seat:
    """The seat of the palace's daemon, once it is free.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
        Busy: whoever has the seat does not make room.
        StorageError: the palace's directory cannot be made.
    """
    create_directory(Path(palace))
    seat_file = os.path.join(palace, addresses.LOCK)
    end = time.monotonic() + PATIENCE_SECONDS
    while (seat := _take(seat_file)) is None:
        address = Address.read(os.path.join(palace, addresses.FILE))
        if address is not None:
            _ask(address, palace)
        if time.monotonic() > end:
            raise Busy(
                f"the daemon of {palace} does not make room",
                hint="Stop it with `mempalace-mcp daemon stop`, then retry.",
            )
        time.sleep(_PAUSE_SECONDS)
    seat.sign()
    return seat


def _take(seat_file: str) -> Seat | None:
    try:
        return Seat.take(seat_file)
    except OSError as error:
        raise explain_os_error(error, Path(seat_file)) from error


def _ask(address: Address, palace: str) -> None:
    """Ask it to make room. A daemon that does says nothing else to us."""
    try:
        greet(address, request(TAKE_OVER, palace)).close()
    except Refused as refusal:
        if refusal.code == "serving":
            raise ConfigurationError(
                f"{palace} is served already, by process {address.pid} at {address.http}",
                hint="Use that one, or stop it first.",
            ) from refusal
    except (OSError, ValueError):
        return
