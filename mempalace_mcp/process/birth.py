"""The first moments of a daemon that a bridge has started: it takes its seat, and says that it is ready or why not."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.seat import Seat


def run(arguments: Sequence[str]) -> int:
    """Be the daemon of a palace, or a process for one session alone, until there is no reason to; the exit code."""
    options = _parser().parse_args(arguments)
    seat = None if options.private else _seat(options.palace, options.seat)
    if seat is None and not options.private:
        _say({"ready": False})  # somebody else has the seat
        return 0
    os.chdir(Path(os.sep).absolute())
    try:
        return _serve_or_say(options, seat)
    finally:
        if seat is not None:
            seat.close()


def _serve_or_say(options: argparse.Namespace, seat: Seat | None) -> int:
    """Serve; what stops that is told to whoever started this process before it is logged, for the disk may be full."""
    from mempalace_mcp.core.errors import PalaceError
    from mempalace_mcp.core.files import explain_os_error

    try:
        _serve(options.palace, seat)
    except PalaceError as error:
        _say({"error": error.as_dict()})
        with contextlib.suppress(OSError):
            print(f"mempalace-mcp daemon: {error.message}", file=sys.stderr)
        return 1
    except (OSError, ExceptionGroup) as error:
        if (cause := _only_cause(error)) is not None:
            path = cause.filename if isinstance(cause.filename, str) else options.palace
            _say({"error": explain_os_error(cause, Path(path)).as_dict()})
        raise
    return 0


def _only_cause(error: Exception) -> OSError | None:
    """The system's error behind it, if there is no other: a group of tasks wraps what stops one of them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, OSError) else None


def _serve(palace: str, seat: Seat | None) -> None:
    from mempalace_mcp.core.config import load_settings
    from mempalace_mcp.core.logs import configure_logging
    from mempalace_mcp.process.daemon import run_daemon
    from mempalace_mcp.process.log import Log
    from mempalace_mcp.runtime.app import open_app

    settings = load_settings(os.environ, palace)
    configure_logging(settings.log_level)
    log = Log(settings.palace / addresses.LOG)

    def ready(address: Address) -> None:
        _say({"ready": True} if seat else {"ready": True, "address": address.told})
        log.take_output()

    log.rotate()
    run_daemon(lambda: open_app(settings), seat, ready)


def _seat(palace: str, descriptor: int | None) -> Seat | None:
    file = os.path.join(palace, addresses.LOCK)
    seat = Seat.take(file) if descriptor is None else Seat.inherit(file, descriptor)
    if seat is not None:
        seat.sign()
    return seat


def _say(outcome: Mapping[str, Any]) -> None:
    """One line for whoever started this process; stdout is theirs until then."""
    with contextlib.suppress(OSError):  # they did not wait, and others will come
        os.write(1, json.dumps(outcome).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mempalace-mcp daemon run", allow_abbrev=False)
    parser.add_argument("--palace", required=True, help="directory of the palace")
    parser.add_argument("--seat", type=int, help="descriptor of the lock, which is held")
    parser.add_argument("--private", action="store_true", help="serve one session alone, and say here at which address")
    return parser
