"""Finds the daemon of a palace, or becomes the one who starts it.

Nothing here decides who is the daemon but the lock on its seat: whoever takes it free starts one and passes it on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from mempalace_mcp import __version__
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.connection import Connection, Refused, greet
from mempalace_mcp.process.hello import Hello, identity_of, is_newer, settings_of
from mempalace_mcp.process.launching import START_SECONDS, Launch, launch
from mempalace_mcp.process.seat import Seat

UNREACHABLE_SECONDS = 5.0
"""The seat is taken, but nobody answers at the address: after that this session is served by a process of its own."""

DEFERENCE_SECONDS = 5.0
"""How long a bridge leaves the seat to the one for whom a daemon has made room."""

FAILED_STARTS = 3
"""Daemons in a row that died at their start without a reason, until that is reported."""

_NO_ROOM = ("storage_full", "storage_read_only")
"""What keeps a daemon from being found keeps no process from serving one session, as far as the palace can be read."""

_DATABASE = "palace.db"
"""Named as in `storage/database.py`, which a bridge does not import."""

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

    def connect(self, give_up: Callable[[], bool] = lambda: False) -> Connection:
        """A connection to the daemon; waits while one is starting.

        Raises:
            Unavailable: there is none and cannot be any.
        """
        began = time.monotonic()
        unreachable_since: float | None = None
        pause = _SHORTEST_PAUSE
        while not give_up():
            self._see_to_directory()
            address = Address.read(self._address_file)
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

    def _try(self, address: Address) -> Connection | None:
        """Connect to it, if it is there and takes us.

        Raises:
            Unavailable: it has no room.
        """
        try:
            connection = greet(address, self._hello())
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

    def _hello(self) -> Hello:
        profile, prefix, read_only = self._offer
        return Hello(
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
            seat = Seat.take(self._seat_file)
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

    def _await(self, launched: Launch) -> Address | None:
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
        return Address(**told) if isinstance(told, dict) else None

    def _serve_alone(self, reason: str) -> Connection:
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
