"""The daemon's socket: a path in a private folder, or where there are no such sockets, loopback and a token."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp import __version__
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.runtime_folder import SOCKET_SUFFIX, new_name

BACKLOG = 1024
_TOKEN_BYTES = 32
_DEAD_AFTER_SECONDS = 60.0
"""A socket that refuses may be one that is just being born; after that it is not."""

_PROBE_SECONDS = 0.2


@contextlib.contextmanager
def listening(
    palace: str, http: str | None = None, *, loopback: bool = sys.platform == "win32"
) -> Iterator[tuple[socket.socket, Address]]:
    """A listening socket of that palace and its address; a path is removed before the block is left.

    Raises:
        ConfigurationError: there is no folder for it.
        OSError: there is no place to listen.
    """
    address = Address(pid=os.getpid(), version=__version__, started=time.time(), http=http)
    listener = socket.socket(socket.AF_INET if loopback else socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if loopback:
            listener.bind(("127.0.0.1", 0))
            address.port, address.token = listener.getsockname()[1], secrets.token_hex(_TOKEN_BYTES)
        else:
            path = new_name(palace, SOCKET_SUFFIX)
            sweep(Path(path).parent)
            listener.bind(path)
            address.path = path
            Path(path).chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener, address
    finally:
        if address.path is not None:
            Path(address.path).unlink(missing_ok=True)
        listener.close()


def abandoned(folder: Path) -> Iterator[Path]:
    """What processes have left that were killed: sockets at which nobody listens."""
    for path in folder.glob(f"*{SOCKET_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _DEAD_AFTER_SECONDS and _refuses(path):
                yield path


def sweep(folder: Path) -> int:
    """Remove what is abandoned; returns how many sockets."""
    paths = list(abandoned(folder))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        return False
