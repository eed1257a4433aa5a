"""How many sockets this process may hold, so that it never runs out of file descriptors."""

from __future__ import annotations

import contextlib
import sys

WANTED = 8192
SOCKETS_AT_A_DOOR = 1024
_SHARE = 4
"""One part for each of two doors; the rest is for databases, Chroma, logs, and what is just being closed."""


def raise_limit() -> None:
    """Let this process open as many files as it may want, if the system allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def sockets_at_a_door() -> int:
    """How many connections a door may have at once."""
    if sys.platform == "win32":
        return SOCKETS_AT_A_DOOR
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SOCKETS_AT_A_DOOR if soft == resource.RLIM_INFINITY else min(SOCKETS_AT_A_DOOR, soft // _SHARE)
