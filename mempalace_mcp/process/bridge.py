"""What an MCP client starts: passes lines between the client and the daemon, and outlives daemons.

The main thread reads the client; another one owns the connection: it finds a daemon, tells it what the last one knew,
passes its answers on, and begins again when it dies. What is sent is in the journal until it is settled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from mempalace_mcp.process.client import Client, ClientGone
from mempalace_mcp.process.connection import Connection
from mempalace_mcp.process.connector import Connector, Unavailable, jittered
from mempalace_mcp.process.frames import AGAIN, ALONE, OWN_MESSAGE, SUSPECT, Frame
from mempalace_mcp.process.journal import Entry, Journal, parse
from mempalace_mcp.process.patience import TICK_SECONDS, Patience
from mempalace_mcp.process.progress import Progress
from mempalace_mcp.protocol.lines import Overlong

DRAIN_AT_END_SECONDS = 30.0
"""For what is in flight when the client has said its last word."""

DRAIN_AT_STOP_SECONDS = 3.0
"""For what is in flight when this process is told to stop."""

DEATHS_UNTIL_SUSPECT = 2
DEATHS_ALONE = 2
"""A request is refused when so many daemons died while it alone was under suspicion."""

OUTSTANDING = 32
"""Requests sent and not answered; below what a session of the daemon takes, so that it never stops reading."""

TROUBLE_SECONDS = 20.0
"""Daemons that die without settling anything are reported after that; before, they look like somebody's kills."""

_SHORT_LIFE_SECONDS = 2.0
_LONGEST_BACK_OFF = 5.0
_LIST_CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


class Stop(BaseException):
    """Raised in the main thread by a stop signal."""


class Bridge:
    """One session."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._client = Client(on_room=self._go_on, on_gone=_end)
        self._journal = Journal()
        self._progress = Progress()
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._cautious = False
        self._version: str | None = None
        self._dismissed = False
        self._trouble_since: float | None = None

    def run(self) -> int:
        """Serve until the client closes stdin or a stop signal comes; returns the exit code."""
        seconds = DRAIN_AT_END_SECONDS
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            threading.Thread(target=self._guarded, args=(self._serve,), name="daemon", daemon=True).start()
            for line in self._client.lines():
                self._take(line)
            self._journal.wait_while_it_empties(seconds)
        except ClientGone:
            return 0
        except Stop:
            seconds = DRAIN_AT_STOP_SECONDS
            with contextlib.suppress(Stop):
                self._journal.wait_until_empty(seconds)
        with contextlib.suppress(Stop):
            self._client.drain(seconds)
        return 0

    def _take(self, line: bytes | Overlong) -> None:
        """Pass one line of the client on, now or when there is a daemon."""
        if isinstance(line, Overlong):
            from mempalace_mcp.process.refusals import refuse_overlong

            self._client.write(refuse_overlong(line))
            return
        self._journal.add(line)  # may wait for room, which only whoever has nothing to wait for can make
        self._go_on()

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Run in a thread of its own. Without it the client would wait for ever; without a client it is needless."""
        try:
            work(*arguments)
        except ClientGone:
            _end()
        except BaseException:  # noqa: BLE001 - a mistake of ours: the client shall see the end of its server, not wait
            sys.excepthook(*sys.exc_info())
            os._exit(70)

    def _serve(self) -> None:
        while True:
            if self._dismissed:
                self._journal.wait_until_needed()
                self._dismissed = False
            try:
                connection = self._connector.connect()
            except Unavailable as trouble:
                self._refuse_all(trouble)
                self._journal.wait_until_needed()
                continue
            self._converse(connection)

    def _converse(self, connection: Connection) -> None:
        """Serve through one daemon until it is gone."""
        began = time.monotonic()
        graceful = False
        self._resume(connection)
        patience = Patience(connection)
        for frame in connection.frames(TICK_SECONDS, lambda: patience.wait(owed=not self._journal.is_empty)):
            patience.heard()
            graceful = self._receive(frame) or graceful
            self._client.wait_for_reading()
        connection.close()
        with self._sending:
            self._connection = None
            if graceful:
                self._journal.unsent()
            else:
                self._journal.lost()
        if not graceful:
            self._back_off(time.monotonic() - began)

    def _resume(self, connection: Connection) -> None:
        """Tell a new daemon all that it must know, then what is in flight."""
        with self._sending:
            entries = self._journal.in_flight()
            self._refuse_proven(entries)
            self._cautious = any(entry.deaths >= DEATHS_UNTIL_SUSPECT for entry in entries)
            self._connection = connection
            connection.on_room = self._go_on
            for entry in self._journal.replay():
                self._journal.note_sent(entry)
                self._send_entry(connection, entry)
            self._send()
        if self._version not in (None, connection.version) and self._journal.greeted:
            self._client.write(_LIST_CHANGED)
        self._version = connection.version

    def _send(self) -> None:
        """Send what may be sent, in order. Requests under suspicion go one at a time, others wait for them.

        A client that does not read its answers is not given more of them: what it asks for waits in the journal.
        """
        connection = self._connection
        limit = 1 if self._cautious else OUTSTANDING
        while connection is not None and connection.has_room:
            may_ask = self._journal.outstanding < limit and self._client.has_room
            entry = self._journal.send_next(ask=may_ask)
            if entry is None:
                return
            self._send_entry(connection, entry)

    def _send_entry(self, connection: Connection, entry: Entry) -> None:
        mark = SUSPECT if entry.deaths >= DEATHS_UNTIL_SUSPECT else AGAIN if entry.again else ""
        with contextlib.suppress(OSError):  # the daemon is gone, which whoever receives will see
            connection.send(Frame(entry.sequence, entry.line, mark))

    def _receive(self, frame: Frame) -> bool:
        """Take what the daemon says; True if it takes its leave."""
        if frame.sequence == OWN_MESSAGE:
            if frame.mark:
                return self._take_notice(parse(frame.line))
            if self._progress.is_news(frame.line):
                self._client.write(frame.line)
            return False
        if frame.mark == ALONE:
            suspect = self._journal.find(frame.sequence)
            if suspect is not None:
                suspect.alone = True
            return False
        entry = self._journal.settle(frame.sequence, frame.line)
        if entry is not None and frame.line and not entry.own:
            self._client.write(frame.line)
        self._trouble_since = None
        self._go_on()
        return False

    def _go_on(self) -> None:
        """There may be something to send, or room for what waits. Nobody waits here for client or daemon."""
        with self._sending:
            if self._cautious:
                self._cautious = any(entry.deaths >= DEATHS_UNTIL_SUSPECT for entry in self._journal.in_flight())
            self._send()

    def _take_notice(self, notice: object) -> bool:
        leave = notice.get("goodbye") if isinstance(notice, dict) else None
        if leave == "stopped":
            self._dismissed = True
        elif leave == "retiring":
            self._connector.defer()
        return leave is not None

    def _refuse_proven(self, entries: list[Entry]) -> None:
        """Answer the requests that have shown to be the death of daemons."""
        for entry in entries:
            if entry.deaths_alone >= DEATHS_ALONE:
                from mempalace_mcp.process.refusals import deadly

                self._journal.settle(entry.sequence)  # for good: no daemon is told it again
                self._refuse(entry, deadly())

    def _refuse_all(self, trouble: Unavailable) -> None:
        for entry in self._journal.in_flight():
            self._client.wait_for_reading()
            self._refuse(entry, trouble.error)

    def _refuse(self, entry: Entry, error: dict[str, object]) -> None:
        from mempalace_mcp.process.refusals import refuse

        self._journal.refuse(entry.sequence)
        answer = refuse(entry.line, error)
        if answer is not None and not entry.own and not entry.cancelled:
            self._client.write(answer)

    def _back_off(self, lived: float) -> None:
        """Daemons that die as soon as they are born are not started as fast as possible, and are reported."""
        if lived > _SHORT_LIFE_SECONDS:
            self._trouble_since = None
            return
        now = time.monotonic()
        if self._trouble_since is None:
            self._trouble_since = now
            return
        lasted = now - self._trouble_since
        if lasted > TROUBLE_SECONDS:
            from mempalace_mcp.process.refusals import crash_loop

            self._trouble_since = None
            self._refuse_all(Unavailable(crash_loop(self._connector.palace)))
        time.sleep(jittered(min(_LONGEST_BACK_OFF, 0.1 + lasted / 4)))


def _end() -> None:
    """Nobody reads what this process says."""
    os._exit(0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stop
