"""What an MCP client starts: passes lines between the client and the daemon, and outlives daemons.

The MCP client's side of a bridge: lines from stdin, whole lines to stdout, and nothing else there.

How long a bridge waits for a daemon that owes it an answer and says nothing, before it takes it for dead.

A daemon that is stopped or hangs keeps its seat, and with it every session of the palace. It answers a question about
its life from its event loop, however long its calls take; when it does not answer that either, its end is no loss:
what it has acknowledged is on the disk, and receipts keep the next one from doing anything twice.

Progress never goes back: a request sent again reports from its beginning, and the client must not see that.

What an MCP client starts: passes lines between the client and the daemon, and outlives daemons.

The main thread reads the client; another one owns the connection: it finds a daemon, tells it what the last one knew,
passes its answers on, and begins again when it dies. What is sent is in the journal until it is settled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from mempalace_mcp.core import platform
from mempalace_mcp.daemon.connector import Connector, Unavailable, jittered
from mempalace_mcp.daemon.ipc import (
    OWN_MESSAGE,
    REDELIVERED,
    RUN_ALONE,
    RUNNING_ALONE,
    DaemonConnection,
    Frame,
    WriteBuffer,
)
from mempalace_mcp.daemon.pending import PendingRequest, PendingRequests, parse
from mempalace_mcp.server.lines import LineSplitter, Overlong

_READ_BYTES = 65536

ROOM_BYTES = 8 * 1024 * 1024
"""While the client leaves more than that unread, nothing more is asked for it."""

LONGEST_QUEUE_BYTES = 2 * ROOM_BYTES
"""While it leaves more than that unread, nothing more is made ready for it."""


class ClientGone(Exception):
    """Raised when nobody reads stdout any more."""


class Client:
    """Read by one thread, written by any."""

    def __init__(
        self,
        source: int = 0,
        sink: int = 1,
        on_room: Callable[[], None] = lambda: None,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._out = WriteBuffer(sink, lambda data: os.write(sink, data), ROOM_BYTES, on_room, on_gone)

    @property
    def has_room(self) -> bool:
        """Does it read what it asks for?"""
        return self._out.has_room

    def lines(self) -> Iterator[bytes | Overlong]:
        """What the client says, until it closes its side; a last word without a newline counts."""
        splitter = LineSplitter()
        while data := self._read():
            yield from splitter.feed(data)
        yield from splitter.finish()

    def write(self, line: bytes) -> None:
        """Write one line whole; returns without waiting until it is read.

        Raises:
            ClientGone: nobody reads.
        """
        try:
            self._out.put(line + b"\n")
        except OSError as error:
            raise ClientGone from error

    def wait_for_reading(self) -> None:
        """Wait while it leaves too much unread."""
        self._out.wait_below(LONGEST_QUEUE_BYTES)

    def drain(self, seconds: float) -> None:
        """Wait until it has read everything, or nothing for so long."""
        self._out.drain(seconds)

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._source, _READ_BYTES)
            except BlockingIOError:
                select.select([self._source], [], [])
            except OSError:
                return b""


TICK_SECONDS = 2.0
ASK_AFTER = 5
END_AFTER = 15
"""Ticks of silence. They are counted, not measured: while this process or the machine sleeps, there are none."""


class LivenessCheck:
    """With one daemon."""

    def __init__(self, connection: DaemonConnection) -> None:
        self._connection = connection
        self._silence = 0

    def heard(self) -> None:
        """The daemon has said something."""
        self._silence = 0

    def wait(self, *, owed: bool) -> None:
        """A tick has passed in silence; `owed` tells whether the daemon should have said something some day."""
        self._silence = self._silence + 1 if owed else 0
        if self._silence == ASK_AFTER:
            self._connection.ask_for_life()
        elif self._silence == END_AFTER:
            self._end()

    def _end(self) -> None:
        """Free the seat; a process that somebody has started to serve HTTP is theirs, and only left, as is one that is
        hidden from this one: to `kill`, process 0 is the killer with all of its group."""
        pid = self._connection.pid
        note = f"mempalace-mcp: process {pid}, which serves the palace, does not answer; this session goes on without\n"
        with contextlib.suppress(OSError):
            os.write(2, note.encode())
        if pid > 0 and self._connection.welcome.get("http") is None:
            with contextlib.suppress(OSError):
                platform.kill(pid)
        self._connection.close()


_METHOD = "notifications/progress"
_MAX_TOKENS = 256


class ProgressFilter:
    """The last value of each token, of the latest ones."""

    def __init__(self) -> None:
        self._last: dict[object, float] = {}

    def is_news(self, line: bytes) -> bool:
        """Is the daemon's message to be passed on? True for everything but progress not above the last."""
        if _METHOD.encode() not in line:
            return True
        message = parse(line)
        parameters = message.get("params")
        if message.get("method") != _METHOD or not isinstance(parameters, dict):
            return True
        token, value = parameters.get("progressToken"), parameters.get("progress")
        if not isinstance(token, (str, int)) or not isinstance(value, (int, float)):
            return True
        last = self._last.pop((type(token), token), None)
        self._last[type(token), token] = value if last is None else max(last, value)
        if len(self._last) > _MAX_TOKENS:
            del self._last[next(iter(self._last))]
        return last is None or value > last


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
        self._journal = PendingRequests()
        self._progress = ProgressFilter()
        self._sending = threading.Lock()
        self._connection: DaemonConnection | None = None
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
            from mempalace_mcp.daemon.refusals import refuse_overlong

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

    def _converse(self, connection: DaemonConnection) -> None:
        """Serve through one daemon until it is gone."""
        began = time.monotonic()
        graceful = False
        self._resume(connection)
        patience = LivenessCheck(connection)
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

    def _resume(self, connection: DaemonConnection) -> None:
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

    def _send_entry(self, connection: DaemonConnection, entry: PendingRequest) -> None:
        mark = RUN_ALONE if entry.deaths >= DEATHS_UNTIL_SUSPECT else REDELIVERED if entry.again else ""
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
        if frame.mark == RUNNING_ALONE:
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

    def _refuse_proven(self, entries: list[PendingRequest]) -> None:
        """Answer the requests that have shown to be the death of daemons."""
        for entry in entries:
            if entry.deaths_alone >= DEATHS_ALONE:
                from mempalace_mcp.daemon.refusals import poison_message

                self._journal.settle(entry.sequence)  # for good: no daemon is told it again
                self._refuse(entry, poison_message())

    def _refuse_all(self, trouble: Unavailable) -> None:
        for entry in self._journal.in_flight():
            self._client.wait_for_reading()
            self._refuse(entry, trouble.error)

    def _refuse(self, entry: PendingRequest, error: dict[str, object]) -> None:
        from mempalace_mcp.daemon.refusals import refuse

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
            from mempalace_mcp.daemon.refusals import crash_loop

            self._trouble_since = None
            self._refuse_all(Unavailable(crash_loop(self._connector.palace)))
        time.sleep(jittered(min(_LONGEST_BACK_OFF, 0.1 + lasted / 4)))


def _end() -> None:
    """Nobody reads what this process says."""
    os._exit(0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stop
