"""How `serve` comes to the seat: a daemon that bridges have started makes room, another `serve` does not."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
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

    The kernel keeps our place in the queue, so that none of the sessions that lose their daemon gets there before us.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
        Busy: whoever has the seat does not make room.
        StorageError: the palace's directory or its lock cannot be made.
    """
    create_directory(Path(palace))
    seat_file, waiting = os.path.join(palace, addresses.LOCK), Future[Seat]()
    threading.Thread(target=wait_for_seat, args=(seat_file, waiting), name="seat", daemon=True).start()
    try:
        seat = _ask_until(waiting, palace)
    except OSError as error:
        raise explain_os_error(error, Path(seat_file)) from error
    finally:
        waiting.cancel()
    seat.sign()
    return seat


def _ask_until(waiting: Future[Seat], palace: str) -> Seat:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with suppress(TimeoutError):
            return waiting.result(_PAUSE_SECONDS)
        address = Address.read(os.path.join(palace, addresses.FILE))
        if address is not None:
            _ask(address, palace)
    raise Busy(
        f"the daemon of {palace} does not make room",
        hint="Stop it with `mempalace-mcp daemon stop`, then retry.",
    )


def refuse_if_served(palace: str) -> None:
    """Say where the palace is served over HTTP, if it is; no other daemon hears of the question.

    Raises:
        ConfigurationError: another process serves the palace over HTTP.
    """
    address = Address.read(os.path.join(palace, addresses.FILE))
    if address is not None and address.http is not None:
        _ask(address, palace)


def wait_for_seat(seat_file: str, waiting: Future[Seat]) -> None:
    """Give the seat to whoever waits as soon as it is free; if nobody wants it any more, give it back."""
    try:
        seat = Seat.wait(seat_file)
    except OSError as error:
        if waiting.set_running_or_notify_cancel():
            waiting.set_exception(error)
        return
    if waiting.set_running_or_notify_cancel():
        waiting.set_result(seat)
    else:
        seat.close()


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
