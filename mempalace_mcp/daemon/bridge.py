"""What an MCP client starts: passes messages between the client and the daemon, and outlives daemons.

The main thread reads the client. Another thread owns the connection: it finds a daemon, replays the session's state,
passes answers on, and begins again when the daemon is gone. A message stays pending until a daemon settles it.

Poison messages: a message that was unsettled when two daemons died is suspected of it. Suspected messages run one at a
time, in quarantine. One that is alone when two more daemons die is refused for good.

Every session pays for this module, so it imports little.
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
    CONTROL,
    OWN_MESSAGE,
    REDELIVERED,
    RUN_ALONE,
    RUNNING_ALONE,
    DaemonConnection,
    Frame,
)
from mempalace_mcp.daemon.pending import PendingRequest, PendingRequests, parse
from mempalace_mcp.daemon.write_buffer import WriteBuffer
from mempalace_mcp.server.lines import LineSplitter, Overlong

_READ_BYTES = 65536

ROOM_BYTES = 8 * 1024 * 1024
"""While the client leaves more than that unread, no more of its requests are sent."""

LONGEST_QUEUE_BYTES = 2 * ROOM_BYTES
"""While it leaves more than that unread, nothing more is received from the daemon."""


class ClientGone(Exception):
    """Raised when the client has closed stdout."""


class Client:
    """The MCP client: lines from stdin, read by one thread, and whole lines to stdout, written by any.

    `on_room` is called when the client has read on after leaving much unread, `on_gone` when it has closed stdout.
    """

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
        """Does the client keep up with its answers?"""
        return self._out.has_room

    def lines(self) -> Iterator[bytes | Overlong]:
        """The lines of the client until it closes stdin; the last one may lack its newline."""
        splitter = LineSplitter()
        while data := self._read():
            yield from splitter.feed(data)
        yield from splitter.finish()

    def write(self, line: bytes) -> None:
        """Write one whole line; returns without waiting for the client to read it.

        Raises:
            ClientGone: it has closed stdout.
        """
        try:
            self._out.put(line + b"\n")
        except OSError as error:
            raise ClientGone from error

    def wait_for_reading(self) -> None:
        """Wait while the client leaves too much unread."""
        self._out.wait_below(LONGEST_QUEUE_BYTES)

    def drain(self, seconds: float) -> None:
        """Wait until the client has read everything, or nothing for so many seconds."""
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
    """Takes a daemon that owes something and is silent for dead.

    A daemon that is stopped or hangs keeps its lock, and with it all sessions of the palace. It answers a ping from its
    event loop, however long its calls take. Killing it loses nothing: acknowledged writes are on the disk, and
    idempotency records keep the next daemon from repeating any.
    """

    def __init__(self, connection: DaemonConnection) -> None:
        self._connection = connection
        self._silence = 0

    def reset(self) -> None:
        """The daemon has sent something."""
        self._silence = 0

    def tick(self, *, owed: bool) -> None:
        """A tick has passed in silence; `owed`: some message is unsettled."""
        self._silence = self._silence + 1 if owed else 0
        if self._silence == ASK_AFTER:
            self._connection.ping()
        elif self._silence == END_AFTER:
            self._end_daemon()

    def _end_daemon(self) -> None:
        """Kill the daemon, which frees its lock, and leave it.

        A person has started a process that serves HTTP, so that one is only left.
        """
        pid = self._connection.pid
        note = f"mempalace-mcp: process {pid}, which serves the palace, does not answer; this session goes on without\n"
        with contextlib.suppress(OSError):
            os.write(2, note.encode())
        # Process 0 is hidden from this one; killing 0 would kill this process with all of its group.
        if pid > 0 and self._connection.server_hello.get("http") is None:
            with contextlib.suppress(OSError):
                platform.kill(pid)
        self._connection.close()


_METHOD = "notifications/progress"
_MAX_TOKENS = 256


class ProgressFilter:
    """Keeps progress from going back: a request sent again reports from its beginning.

    Holds the last value of each of the latest tokens.
    """

    def __init__(self) -> None:
        self._last: dict[object, float] = {}

    def passes(self, line: bytes) -> bool:
        """May the message be passed on? False for progress that is not above the last value of its token."""
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
"""For pending requests after the client has closed stdin."""

DRAIN_AT_STOP_SECONDS = 3.0
"""For pending requests after a stop signal."""

OUTSTANDING = 32
"""Requests sent and not answered at most. A session of the daemon takes more, so it never stops reading."""

TROUBLE_SECONDS = 20.0
"""Daemons that die without settling anything are reported after that: before, somebody may have killed them."""

_SHORT_LIFE_SECONDS = 2.0
_LONGEST_BACK_OFF = 5.0
_LIST_CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


class Stop(BaseException):
    """Raised in the main thread by a stop signal."""


class Bridge:
    """One session of a client, over as many daemons as it takes."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._client = Client(on_room=self._send_more, on_gone=_end)
        self._pending = PendingRequests()
        self._progress = ProgressFilter()
        self._sending = threading.Lock()
        self._connection: DaemonConnection | None = None
        self._in_quarantine = False
        self._version: str | None = None
        self._is_stopped = False
        self._trouble_since: float | None = None

    def run(self) -> int:
        """Serve until the client closes stdin or a stop signal comes; returns the exit code."""
        seconds = DRAIN_AT_END_SECONDS
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            threading.Thread(target=self._run_thread, name="daemon", daemon=True).start()
            for line in self._client.lines():
                self._receive_line(line)
            self._pending.drain(seconds)
        except ClientGone:
            return 0
        except Stop:
            seconds = DRAIN_AT_STOP_SECONDS
            with contextlib.suppress(Stop):
                self._pending.wait_until_empty(seconds)
        with contextlib.suppress(Stop):
            self._client.drain(seconds)
        return 0

    def _receive_line(self, line: bytes | Overlong) -> None:
        """Send one line of the client, now or when there is a daemon."""
        if isinstance(line, Overlong):
            from mempalace_mcp.daemon.refusals import refuse_overlong

            self._client.write(refuse_overlong(line))
            return
        self._pending.add(line)  # may wait for room, which only the other thread can make
        self._send_more()

    def _run_thread(self) -> None:
        """Run the other thread; its end is the end of the process, or the client would wait for ever."""
        try:
            self._serve()
        except ClientGone:
            _end()
        except BaseException:  # noqa: BLE001 - a bug: the client shall see the end of its server, not wait
            sys.excepthook(*sys.exc_info())
            os._exit(70)

    def _serve(self) -> None:
        while True:
            if self._is_stopped:
                self._pending.wait_until_needed()
                self._is_stopped = False
            try:
                connection = self._connector.connect()
            except Unavailable as reason:
                self._refuse_all(reason)
                self._pending.wait_until_needed()
                continue
            self._serve_through(connection)

    def _serve_through(self, connection: DaemonConnection) -> None:
        """Serve through one daemon until it is gone."""
        began = time.monotonic()
        graceful = False
        self._resume(connection)
        liveness = LivenessCheck(connection)
        for frame in connection.frames(TICK_SECONDS, lambda: liveness.tick(owed=not self._pending.is_empty)):
            liveness.reset()
            graceful = self._receive_frame(frame) or graceful
            self._client.wait_for_reading()
        connection.close()
        with self._sending:
            self._connection = None
            if graceful:
                self._pending.requeue()
            else:
                self._pending.requeue_after_death()
        if not graceful:
            self._back_off(time.monotonic() - began)

    def _resume(self, connection: DaemonConnection) -> None:
        """Replay the session's state to a new daemon, then send what is pending."""
        with self._sending:
            entries = self._pending.in_flight()
            self._refuse_poison(entries)
            self._in_quarantine = any(entry.is_suspected for entry in entries)
            self._connection = connection
            connection.on_room = self._send_more
            for entry in self._pending.replay():
                self._pending.note_sent(entry)
                self._send_entry(connection, entry)
            self._send()
        if self._version not in (None, connection.version) and self._pending.is_initialized:
            self._client.write(_LIST_CHANGED)
        self._version = connection.version

    def _send(self) -> None:
        """Send what may be sent, in order; in quarantine, one request at a time.

        While the client does not read its answers, its requests stay pending.
        """
        connection = self._connection
        limit = 1 if self._in_quarantine else OUTSTANDING
        while connection is not None and self._pending.has_unsent and connection.has_room:
            has_turn = self._pending.outstanding < limit and self._client.has_room
            entry = self._pending.send_next(requests=has_turn)
            if entry is None:
                return
            self._send_entry(connection, entry)

    def _send_entry(self, connection: DaemonConnection, entry: PendingRequest) -> None:
        mark = RUN_ALONE if entry.is_suspected else REDELIVERED if entry.redelivered else ""
        try:
            connection.send(Frame(entry.sequence, entry.line, mark))
        except OSError:  # the daemon is gone, which the other thread will see
            return

    def _receive_frame(self, frame: Frame) -> bool:
        """Handle a frame of the daemon; True if it says that it leaves."""
        if frame.sequence == OWN_MESSAGE:
            if frame.mark == CONTROL:
                return self._receive_control(parse(frame.line))
            if self._progress.passes(frame.line):
                self._client.write(frame.line)
            return False
        if frame.mark == RUNNING_ALONE:
            entry = self._pending.find(frame.sequence)
            if entry is not None:
                entry.running_alone = True
            return False
        entry = self._pending.settle(frame.sequence, frame.line)
        self._trouble_since = None
        if self._pending.has_unsent:
            self._send_more()
        # Last: a client that reads the answer may send its next line at once, and the other thread must be free to run.
        if entry is not None and frame.line and not entry.replayed:
            self._client.write(frame.line)
        return False

    def _send_more(self) -> None:
        """Send what may be sent now. Never waits for client or daemon."""
        with self._sending:
            if self._in_quarantine:
                self._in_quarantine = any(entry.is_suspected for entry in self._pending.in_flight())
            self._send()

    def _receive_control(self, message: object) -> bool:
        leave = message.get("goodbye") if isinstance(message, dict) else None
        if leave == "stopped":
            self._is_stopped = True
        elif leave == "retiring":
            self._connector.defer()
        return leave is not None

    def _refuse_poison(self, entries: list[PendingRequest]) -> None:
        """Refuse the messages that have killed daemons while nothing suspected ran beside them."""
        for entry in entries:
            if entry.is_poison:
                from mempalace_mcp.daemon.refusals import poison_message

                self._pending.settle(entry.sequence)  # for good: no daemon gets it again
                self._refuse(entry, poison_message())

    def _refuse_all(self, reason: Unavailable) -> None:
        for entry in self._pending.in_flight():
            self._client.wait_for_reading()
            self._refuse(entry, reason.error)

    def _refuse(self, entry: PendingRequest, error: dict[str, object]) -> None:
        from mempalace_mcp.daemon.refusals import refuse

        self._pending.refuse(entry.sequence)
        answer = refuse(entry.line, error)
        if answer is not None and not entry.replayed and not entry.cancelled:
            self._client.write(answer)

    def _back_off(self, lived: float) -> None:
        """Wait before the next start if a daemon died early; report daemons that keep dying early."""
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
    """The client is gone."""
    os._exit(0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stop
