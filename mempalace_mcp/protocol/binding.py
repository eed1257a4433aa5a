"""The sockets on which the HTTP doors listen."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from types import TracebackType

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.protocol.exposure import Exposure
from mempalace_mcp.protocol.keyring import Keyring

_LOOPBACKS = ("127.0.0.1", "::1")
"""What `localhost` means; clients try one of them, or both in either order."""

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ATTEMPTS = 20
"""To find a port that is free at both."""


@dataclass(frozen=True)
class Listening:
    """Sockets at one port, closed with the block."""

    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        """Where they listen."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    def __enter__(self) -> Listening:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        for each in self.sockets:
            each.close()


def listen(exposure: Exposure, port: int, keyring: Keyring | None = None) -> Listening:
    """Sockets bound to the port, or to a free one if it is 0.

    Raises:
        ConfigurationError: they could be reached from other machines without a token, or the port is taken.
    """
    host = exposure.host
    if not exposure.is_local and not keyring:
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, so it needs a token",
            argument="--host",
            hint="Make one with `mempalace-mcp token new NAME --scope write`, or set PALACE_TOKEN; or use 127.0.0.1.",
        )
    attempts = _ATTEMPTS if port == 0 else 1
    while True:
        attempts -= 1
        try:
            return Listening(_bind_all(_LOOPBACKS, port) if host == "localhost" else [_bind(host, port)])
        except (OSError, OverflowError) as error:
            if attempts == 0:
                raise ConfigurationError(
                    f"cannot listen on {host} port {port}: {error}",
                    argument="--port",
                    hint="Choose another port, or 0.",
                ) from error


def _bind_all(hosts: tuple[str, ...], port: int) -> list[socket.socket]:
    """A socket at each of these addresses that the machine has, all at one port."""
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                bound.append(_bind(host, bound[0].getsockname()[1] if bound else port))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS or (host == hosts[-1] and not bound):
                    raise
    except BaseException:
        Listening(bound).__exit__(None, None, None)
        raise
    return bound


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which delays small answers by 40 ms, only where TCP is named as protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener
