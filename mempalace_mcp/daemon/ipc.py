"""The protocol between a bridge and the daemon of its palace.

**Address.** `daemon.json` in the palace holds the daemon's process and socket. It is replaced as a whole.

**Handshake.** One line of JSON each way. The bridge sends a `ClientHello`: its version, the palace's identity, and its
purpose. To a session the daemon answers with a server hello (`protocol`, `version`, `pid`, `http`), or with `refused`:
`token`, `palace`, `protocol`, `full`, `serving` (it serves HTTP and stays) or `retiring` (it leaves). To a command it
answers with the result.

**Frames.** Then lines of the form `<sequence><mark> <message>`. A bridge numbers its messages from 1. A message is
settled by the frame with its number and without a mark.

    bridge to daemon
        `7 <message>`   a message of the client
        `7~ <message>`  REDELIVERED: an earlier daemon had it already
        `7? <message>`  RUN_ALONE: it is suspected of killing daemons, and runs with no other such message beside it
        `0 `            a ping
    daemon to bridge
        `7 <answer>`    the answer; empty if the message has none
        `7! `           RUNNING_ALONE: a suspected message begins
        `0 <message>`   a message of the server's own
        `0! <JSON>`     CONTROL: `{}` answers a ping, `{"goodbye": <reason>}` says that the daemon leaves
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping

from mempalace_mcp.core import platform
from mempalace_mcp.daemon.write_buffer import WriteBuffer
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES, LineSplitter

ADDRESS_FILE = "daemon.json"
LOCK_FILE = "daemon.lock"
LOG_FILE = "daemon.log"

_PRIVATE = 0o600
_HANDSHAKE_SECONDS = 5.0


class DaemonAddress:
    """The daemon's process and its socket.

    The socket has a `path`, or where there are no socket files a `port` of loopback and a `token` that only this user
    can read. `http` is the daemon's URL if it serves HTTP, `started` is in seconds since 1970.
    """

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
    def fields(self) -> dict[str, object]:
        """All fields, JSON-safe."""
        return {name: getattr(self, name) for name in self.__slots__}

    def write(self, file: str) -> None:
        """Replace the file.

        Raises:
            OSError: it cannot be written, and is unchanged.
        """
        draft = f"{file}.{self.pid}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "w", encoding="ascii") as stream:
                json.dump(self.fields, stream)
            os.replace(draft, file)
        except BaseException:
            forget(draft)
            raise

    def remove(self, file: str) -> None:
        """Remove the file, unless it is another process's by now."""
        found = DaemonAddress.read(file)
        if found is None or found.pid == self.pid:
            forget(file)

    def connect(self, seconds: float = _HANDSHAKE_SECONDS) -> socket.socket:
        """Connect; the socket times out after so many seconds, which is for the handshake.

        Raises:
            OSError: nobody listens there.
        """
        family = socket.AF_INET if self.path is None else socket.AF_UNIX
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
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
    """Remove the file of an address."""
    with contextlib.suppress(OSError):
        os.unlink(file)


PROTOCOL = 1
MAX_HELLO_BYTES = 64 * 1024

SESSION = "session"
STATUS = "status"
STOP = "stop"
HANDOVER = "take over"
HOOK = "hook"
PURPOSES = (SESSION, STATUS, STOP, HANDOVER, HOOK)

PROFILES = ("core", "full")

_PREFIX = "PALACE_"
_ALIASES = ("AGENT_HISTORY_LIMIT", "TZ")
_OWN = ("PALACE_PATH", "PALACE_URL", "PALACE_URL_FILE", "PALACE_TOKEN")
_LONGEST_SETTING = 4096


class ClientHello:
    """What a bridge or a command sends first.

    `palace` is the identity of the directory, `bridge` a random id of the session, the same at all its daemons.
    `settings` are the environment variables that concern palaces, or the event of a hook. `profile`, `prefix` and
    `read_only` select the session's tools.
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
            ValueError: it is malformed, or of another protocol.
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
        if hello.purpose not in PURPOSES or hello.profile not in PROFILES or not hello._is_valid():
            raise ValueError("no hello of this protocol")
        return hello

    def _is_valid(self) -> bool:
        """Has every field its type, and are all names printable?"""
        texts = (self.version, self.bridge, self.prefix, self.token)
        settings = (*self.settings, *self.settings.values())
        return (
            all(isinstance(text, str) and text.isprintable() for text in texts)
            and all(isinstance(text, str) for text in settings)
            and isinstance(self.pid, int)
        )


def identity_of(directory: str) -> tuple[int, int]:
    """The identity of a directory on this machine, whatever path leads to it.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that concern palaces, but for the palace itself and for secrets."""
    return {
        name: value[:_LONGEST_SETTING]
        for name, value in environment.items()
        if (name.startswith(_PREFIX) or name in _ALIASES) and name not in _OWN
    }


def is_newer(version: str, other: str) -> bool:
    """Is the first version later than the second? Only the leading numbers count."""
    return _numbers(version) > _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + 64
RUN_ALONE = "?"
REDELIVERED = "~"
RUNNING_ALONE = "!"
CONTROL = "!"
OWN_MESSAGE = 0


class Frame:
    """A message with its header."""

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
        """Read a frame, without its newline.

        Raises:
            ValueError: the bytes are no frame.
        """
        header, space, line = data.partition(b" ")
        digits = header.rstrip(b"?!~")
        if not space or not digits.isdigit():
            raise ValueError(f"no frame: {data[:40]!r}")
        return cls(int(digits), line, header[len(digits) :].decode("ascii"))


_READ_BYTES = 65536
_ROOM_BYTES = 256 * 1024
"""While the daemon leaves more than that unread, nothing more is sent to it."""


class Refused(Exception):
    """Raised when the daemon refuses in the handshake; `code` says why."""

    def __init__(self, answer: dict[str, object]) -> None:
        super().__init__(str(answer.get("refused")))
        self.code = str(answer.get("refused"))
        self.answer = answer


class DaemonConnection:
    """A connection after the handshake. Any thread may send, without waiting; one thread receives.

    `on_room` is called when the daemon has read on after leaving much unread.
    """

    def __init__(self, stream: socket.socket, server_hello: dict[str, object], rest: bytes) -> None:
        self.server_hello = server_hello
        self.on_room: Callable[[], None] = lambda: None
        self._socket = stream
        self._rest = rest
        self._out = WriteBuffer(stream.fileno(), stream.send, _ROOM_BYTES, lambda: self.on_room())

    @property
    def has_room(self) -> bool:
        """Does the daemon keep up with what it is sent?"""
        return self._out.has_room

    @property
    def version(self) -> str:
        """The version of the daemon."""
        return str(self.server_hello.get("version"))

    @property
    def pid(self) -> int:
        """The daemon's process, by the system's word if it tells, else by the daemon's."""
        process = platform.peer_process(self._socket)
        return int(str(self.server_hello.get("pid"))) if process is None else process

    def send(self, frame: Frame) -> None:
        """Send a frame.

        Raises:
            OSError: the daemon is gone.
        """
        self._out.put(frame.encode())

    def ping(self) -> None:
        """Make the daemon send something, unless it has not read the last frames yet."""
        if not self._out.pending:
            with contextlib.suppress(OSError):  # the daemon is gone, which the receiving thread will see
                self.send(Frame(OWN_MESSAGE, b""))

    def frames(self, tick_seconds: float, tick: Callable[[], None]) -> Iterator[Frame]:
        """The frames of the daemon until it is gone. `tick` is called after each `tick_seconds` of silence."""
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
        """Close the connection; threads that send or receive notice."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def open_connection(
    address: DaemonAddress, hello: ClientHello, seconds: float = _HANDSHAKE_SECONDS
) -> DaemonConnection:
    """Connect and do the handshake; each step of it may take so many seconds.

    Raises:
        OSError: nothing listens there, or answers in time.
        Refused: the daemon refuses.
        ValueError: the answer is not that of a daemon.
    """
    hello.token = address.token
    stream = address.connect(seconds)
    try:
        stream.sendall(hello.encode())
        answer, rest = _read_line(stream)
        server_hello = json.loads(answer)
        if not isinstance(server_hello, dict):
            raise ValueError("no server hello")
        if "refused" in server_hello:
            raise Refused(server_hello)
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return DaemonConnection(stream, server_hello, rest)


def _read_line(stream: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\n" not in data:
        part = stream.recv(_READ_BYTES)
        if not part or len(data) > MAX_HELLO_BYTES:
            raise ConnectionError("the daemon hung up")
        data += part
    line, _, rest = data.partition(b"\n")
    return line, rest
