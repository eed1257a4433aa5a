"""One connection of a bridge to a daemon, after both have said who they are."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
from collections.abc import Callable, Iterator

from mempalace_mcp.process.address import Address
from mempalace_mcp.process.frames import MAX_FRAME_BYTES, OWN_MESSAGE, Frame
from mempalace_mcp.process.hello import MAX_HELLO_BYTES, Hello
from mempalace_mcp.process.outflow import Outflow
from mempalace_mcp.protocol.lines import LineSplitter

_READ_BYTES = 65536
_ROOM_BYTES = 256 * 1024
"""While a daemon leaves more than that unread, nothing more is sent to it."""


class Refused(Exception):
    """Raised when the daemon does not take the session; `code` says why."""

    def __init__(self, answer: dict[str, object]) -> None:
        super().__init__(str(answer.get("refused")))
        self.code = str(answer.get("refused"))
        self.answer = answer


class Connection:
    """Sent to by any thread, which never waits for that; received from by one.

    `on_room` is called when the daemon has read on, after it had left much unread.
    """

    def __init__(self, stream: socket.socket, welcome: dict[str, object], rest: bytes) -> None:
        self.welcome = welcome
        self.on_room: Callable[[], None] = lambda: None
        self._socket = stream
        self._rest = rest
        self._out = Outflow(stream.fileno(), stream.send, _ROOM_BYTES, lambda: self.on_room())

    @property
    def has_room(self) -> bool:
        """Does the daemon read what it is sent?"""
        return self._out.has_room

    @property
    def version(self) -> str:
        """The daemon's."""
        return str(self.welcome.get("version"))

    @property
    def pid(self) -> int:
        """The daemon's process, as `peer_of` knows it."""
        return peer_of(self._socket, told=int(str(self.welcome.get("pid"))))

    def send(self, frame: Frame) -> None:
        """Send it whole.

        Raises:
            OSError: the daemon is gone.
        """
        self._out.put(frame.encode())

    def ask_for_life(self) -> None:
        """Have the daemon say something, unless it leaves unread what it was sent before."""
        if not self._out.pending:
            with contextlib.suppress(OSError):  # it is gone, which whoever receives will see
                self.send(Frame(OWN_MESSAGE, b""))

    def frames(self, tick_seconds: float, tick: Callable[[], None]) -> Iterator[Frame]:
        """What the daemon says, to its last whole line; ends when it is gone. Each `tick` is so much of silence."""
        lines = LineSplitter(MAX_FRAME_BYTES)
        data = self._rest
        while True:
            for line in lines.feed(data):
                if isinstance(line, bytes):
                    yield Frame.decode(line)
            try:
                while not select.select([self._socket], [], [], tick_seconds)[0]:
                    tick()
                data = self._socket.recv(_READ_BYTES)
            except (OSError, ValueError):  # closed by this side or the other
                return
            if not data:
                return

    def close(self) -> None:
        """End it; whoever is sending or receiving notices."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def peer_of(stream: socket.socket, told: int) -> int:
    """The process that listens there, as the system knows it here if it tells; 0 for one of another container."""
    if sys.platform == "linux" and stream.family is socket.AF_UNIX:
        credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], sys.byteorder)
    return told


def greet(address: Address, hello: Hello) -> Connection:
    """Connect and say hello.

    Raises:
        OSError: nobody is there, or nobody answers.
        Refused: the daemon declines.
        ValueError: what answers is no daemon.
    """
    hello.token = address.token
    stream = address.connect()
    try:
        stream.sendall(hello.encode())
        answer, rest = _read_line(stream)
        welcome = json.loads(answer)
        if not isinstance(welcome, dict):
            raise ValueError("no welcome")
        if "refused" in welcome:
            raise Refused(welcome)
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return Connection(stream, welcome, rest)


def _read_line(stream: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\n" not in data:
        part = stream.recv(_READ_BYTES)
        if not part or len(data) > MAX_HELLO_BYTES:
            raise ConnectionError("the daemon hung up")
        data += part
    line, _, rest = data.partition(b"\n")
    return line, rest
