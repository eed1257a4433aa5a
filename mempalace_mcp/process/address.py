"""Where a palace's daemon listens: a file in the palace, replaced as a whole, that bridges read and connect by."""

from __future__ import annotations

import contextlib
import json
import os
import socket

FILE = "daemon.json"
LOCK = "daemon.lock"
LOG = "daemon.log"

_PRIVATE = 0o600
_GREETING_SECONDS = 5.0


class Address:
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
    def read(cls, file: str) -> Address | None:
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
        found = Address.read(file)
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
