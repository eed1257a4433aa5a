"""Between bridge and daemon: addresses, frames, the handshake and the connection.

Where a palace's daemon listens: a file in the palace, replaced as a whole, that bridges read and connect by.

What travels on the socket between a bridge and the daemon: lines with a header.

    bridge to daemon   `<sequence> <line of the client>`
                       `<sequence>? <line>`: the request is under suspicion
                       `<sequence>~ <line>`: an earlier daemon had the message already
                       `0 `: is anybody there? The answer is an empty notice
    daemon to bridge   `<sequence> <answer>`; nothing behind the header settles a message that has no answer
                       `<sequence>! `: the suspect begins, and no other one runs beside it
                       `0 <line>`: a message of the server's own
                       `0! <JSON>`: a notice of the daemon to the bridge

The first line each way is a greeting without a header (`hello`). Sequence numbers of a bridge begin at 1 and rise.

How a bridge and the daemon greet: one JSON line each way.

Bytes on their way to a reader that may be slow: whoever has some to give goes on at once.

One connection of a bridge to a daemon, after both have said who they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from mempalace_mcp.core import platform
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES, LineSplitter

FILE = "daemon.json"
LOCK = "daemon.lock"
LOG = "daemon.log"

_PRIVATE = 0o600
_GREETING_SECONDS = 5.0


class DaemonAddress:
    """The daemon's process and its socket: a path, or on systems without such sockets a port of loopback and a token
    that only this user can read. `http` is its URL if it serves HTTP, `started` seconds since 1970."""

    __slots__ = ("http", "path", "pid", "port", "started", "token", "version")

    def __init__(
        self,
        *,
        pid: int,
        version: str,
        started: float,
        path: str | None = None,
        port: int | None = None,
        token: str = "",
        http: str | None = None,
    ) -> None:
        self.pid = pid
        self.version = version
        self.started = started
        self.path = path
        self.port = port
        self.token = token
        self.http = http

    @classmethod
    def read(cls, file: str) -> DaemonAddress | None:
        """The address in the file; None if there is none that can be read."""
        try:
            with open(file, "rb") as stream:
                return cls(**json.load(stream))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def told(self) -> dict[str, object]:
        """All of it, JSON-safe."""
        return {name: getattr(self, name) for name in self.__slots__}

    def write(self, file: str) -> None:
        """Replace the file.

        Raises:
            OSError: it cannot be written; then it is as it was.
        """
        draft = f"{file}.{self.pid}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "w", encoding="ascii") as stream:
                json.dump(self.told, stream)
            os.replace(draft, file)
        except BaseException:
            forget(draft)
            raise

    def remove(self, file: str) -> None:
        """Remove the file, unless it tells of another process."""
        found = DaemonAddress.read(file)
        if found is None or found.pid == self.pid:
            forget(file)

    def connect(self) -> socket.socket:
        """A connection that gives up on the greeting after seconds; the caller then takes its time.

        Raises:
            OSError: nobody listens there.
        """
        family = socket.AF_INET if self.path is None else socket.AF_UNIX
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_GREETING_SECONDS)
            if self.path is None:
                connection.connect(("127.0.0.1", self.port or 0))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def forget(file: str) -> None:
    """Remove an address that leads nowhere."""
    with contextlib.suppress(OSError):
        os.unlink(file)


MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + 64
RUN_ALONE = "?"
REDELIVERED = "~"
RUNNING_ALONE = "!"
CONTROL = "!"
OWN_MESSAGE = 0


class Frame:
    """A line and its header."""

    __slots__ = ("line", "mark", "sequence")

    def __init__(self, sequence: int, line: bytes, mark: str = "") -> None:
        self.sequence = sequence
        self.line = line
        self.mark = mark

    def encode(self) -> bytes:
        """As it is sent, newline included."""
        return b"%d%b %b\n" % (self.sequence, self.mark.encode("ascii"), self.line)

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Read one, without its newline.

        Raises:
            ValueError: the bytes are no frame.
        """
        header, space, line = data.partition(b" ")
        digits = header.rstrip(b"?!~")
        if not space or not digits.isdigit():
            raise ValueError(f"no frame: {data[:40]!r}")
        return cls(int(digits), line, header[len(digits) :].decode("ascii"))


PROTOCOL = 1
MAX_HELLO_BYTES = 64 * 1024

SESSION = "session"
STATUS = "status"
STOP = "stop"
TAKE_OVER = "take over"
PURPOSES = (SESSION, STATUS, STOP, TAKE_OVER)

PROFILES = ("core", "full")

_PREFIX = "PALACE_"
_ALIASES = ("AGENT_HISTORY_LIMIT", "TZ")
_OWN = ("PALACE_PATH", "PALACE_TOKEN")
_LONGEST_SETTING = 4096


class ClientHello:
    """Who connects to the daemon, and what for.

    `palace` is the identity of the directory; `settings` are the variables of the environment that concern palaces.
    """

    __slots__ = ("bridge", "palace", "pid", "prefix", "profile", "purpose", "read_only", "settings", "token", "version")

    def __init__(
        self,
        *,
        version: str,
        palace: tuple[int, int],
        bridge: str,
        pid: int,
        purpose: str = SESSION,
        profile: str = "core",
        prefix: str = "",
        read_only: bool = False,
        token: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.version = version
        self.palace = palace
        self.bridge = bridge
        self.pid = pid
        self.purpose = purpose
        self.profile = profile
        self.prefix = prefix
        self.read_only = read_only
        self.token = token
        self.settings = dict(settings or {})

    def encode(self) -> bytes:
        """As it is sent, newline included."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"protocol": PROTOCOL, **fields}).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> ClientHello:
        """Read one.

        Raises:
            ValueError: it is none, or of another protocol.
        """
        try:
            fields = json.loads(data)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(fields, dict) or fields.pop("protocol", None) != PROTOCOL:
            raise ValueError("the protocol is another one")
        try:
            hello = cls(**{**fields, "palace": tuple(fields["palace"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no hello: {str(error)[:200]}") from error
        if hello.purpose not in PURPOSES or hello.profile not in PROFILES or not hello._is_sound():
            raise ValueError("no hello of this protocol")
        return hello

    def _is_sound(self) -> bool:
        """Has every field the type it must have? What is no text that can be printed is nobody's name."""
        texts = (self.version, self.bridge, self.prefix, self.token)
        settings = (*self.settings, *self.settings.values())
        return (
            all(isinstance(text, str) and text.isprintable() for text in texts)
            and all(isinstance(text, str) for text in settings)
            and isinstance(self.pid, int)
        )


def identity_of(directory: str) -> tuple[int, int]:
    """What tells a directory from every other one on this machine, whatever its path.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that concern palaces, but the path itself and the token, which is not for telling."""
    return {
        name: value[:_LONGEST_SETTING]
        for name, value in environment.items()
        if (name.startswith(_PREFIX) or name in _ALIASES) and name not in _OWN
    }


def is_newer(version: str, other: str) -> bool:
    """Is the first version strictly later than the second? Only the leading numbers count."""
    return _numbers(version) > _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


_SURE_BYTES = 4096
"""So much a pipe or a socket takes without a pause once it says that it takes something."""

_CARRIED_BYTES = 65536


class WriteBuffer:
    """What the reader does not take at once is kept, in order, and carried by a thread that lives no longer than that.

    `room_bytes` bounds nothing by itself: those who give look at `has_room` before they make more.
    """

    def __init__(
        self,
        descriptor: int,
        write: Callable[[memoryview], int],
        room_bytes: int,
        on_room: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._readiness = platform.poll_writable(descriptor)
        self._write = write
        self._room_bytes = room_bytes
        self._on_room = on_room
        self._on_lost = on_lost
        self._parts: deque[memoryview] = deque()
        self._pending = 0
        self._is_carried = self._is_lost = False
        self._changed = threading.Condition()

    @property
    def pending(self) -> int:
        """Bytes that the reader has not taken."""
        return self._pending

    @property
    def has_room(self) -> bool:
        """Does the reader keep up?"""
        return self._pending <= self._room_bytes

    def put(self, data: bytes) -> None:
        """Give it all of the data; returns without waiting for the reader.

        Raises:
            OSError: nobody reads any more.
        """
        with self._changed:
            if self._is_lost:
                raise BrokenPipeError
            self._parts.append(memoryview(data))
            self._pending += len(data)
            if self._is_carried:
                return
            self._give_at_once()
            if self._parts:
                self._is_carried = True
                threading.Thread(target=self._carry, name="carrier", daemon=True).start()

    def wait_below(self, amount: int) -> None:
        """Wait until the reader has taken all but so many bytes, or is gone."""
        if self._pending >= amount:
            with self._changed:
                self._changed.wait_for(lambda: self._pending < amount or self._is_lost)

    def drain(self, seconds: float) -> bool:
        """Wait until the reader has everything; False if it took nothing for so long."""
        with self._changed:
            while self._pending and not self._is_lost:
                if not self._changed.wait(seconds):
                    return False
        return True

    def _give_at_once(self) -> None:
        """What the reader takes without a pause."""
        try:
            while self._parts and self._is_ready():
                self._advance(self._write(self._parts[0][:_SURE_BYTES]))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose()
            raise BrokenPipeError from error

    def _carry(self) -> None:
        while True:
            with self._changed:
                if not self._parts:
                    self._is_carried = False
                    return
                part = self._parts[0][:_CARRIED_BYTES]
            try:
                count = self._write(part)
            except BlockingIOError:
                self._is_ready(None)
                continue
            except OSError:
                with self._changed:
                    self._lose()
                self._on_lost()
                return
            with self._changed:
                had_room = self.has_room
                self._advance(count)
            if self.has_room and not had_room:
                self._on_room()

    def _advance(self, count: int) -> None:
        self._pending -= count
        rest = self._parts[0][count:]
        if rest:
            self._parts[0] = rest
        else:
            self._parts.popleft()
        self._changed.notify_all()

    def _lose(self) -> None:
        self._is_lost = True
        self._parts.clear()
        self._changed.notify_all()

    def _is_ready(self, seconds: float | None = 0) -> bool:
        """Does it take something, or is gone, after so many seconds at most? Windows cannot tell."""
        return self._readiness is not None and bool(self._readiness.poll(seconds))


_READ_BYTES = 65536
_ROOM_BYTES = 256 * 1024
"""While a daemon leaves more than that unread, nothing more is sent to it."""


class Refused(Exception):
    """Raised when the daemon does not take the session; `code` says why."""

    def __init__(self, answer: dict[str, object]) -> None:
        super().__init__(str(answer.get("refused")))
        self.code = str(answer.get("refused"))
        self.answer = answer


class DaemonConnection:
    """Sent to by any thread, which never waits for that; received from by one.

    `on_room` is called when the daemon has read on, after it had left much unread.
    """

    def __init__(self, stream: socket.socket, welcome: dict[str, object], rest: bytes) -> None:
        self.server_hello = welcome
        self.on_room: Callable[[], None] = lambda: None
        self._socket = stream
        self._rest = rest
        self._out = WriteBuffer(stream.fileno(), stream.send, _ROOM_BYTES, lambda: self.on_room())

    @property
    def has_room(self) -> bool:
        """Does the daemon read what it is sent?"""
        return self._out.has_room

    @property
    def version(self) -> str:
        """The daemon's."""
        return str(self.server_hello.get("version"))

    @property
    def pid(self) -> int:
        """The daemon's process, by the system's word if it tells, else by the daemon's."""
        process = platform.peer_process(self._socket)
        return int(str(self.server_hello.get("pid"))) if process is None else process

    def send(self, frame: Frame) -> None:
        """Send it whole.

        Raises:
            OSError: the daemon is gone.
        """
        self._out.put(frame.encode())

    def ping(self) -> None:
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


def open_connection(address: DaemonAddress, hello: ClientHello) -> DaemonConnection:
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
    return DaemonConnection(stream, welcome, rest)


def _read_line(stream: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\n" not in data:
        part = stream.recv(_READ_BYTES)
        if not part or len(data) > MAX_HELLO_BYTES:
            raise ConnectionError("the daemon hung up")
        data += part
    line, _, rest = data.partition(b"\n")
    return line, rest
