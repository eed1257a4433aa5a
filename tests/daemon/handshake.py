"""Knocks at a daemon's transport with a hello of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mempalace_mcp.daemon.control import client_hello
from mempalace_mcp.daemon.ipc import SESSION, DaemonAddress, Refused, open_connection


def refusal_of(palace: Path, told: dict[str, Any], /, *, token: str = "", **changes: Any) -> str | None:
    """Say hello as a bridge would, but for what is given; the code of the refusal."""
    hello = client_hello(SESSION, str(palace))
    for name, value in changes.items():
        setattr(hello, name, value)
    address = DaemonAddress(**{**told, "token": token or told["token"]})
    assert address.pid != os.getpid()
    try:
        open_connection(address, hello).close()
    except Refused as refusal:
        return refusal.code
    return None
