"""More connections than a process may have descriptors."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.daemon import control
from mempalace_mcp.daemon.control import client_hello
from mempalace_mcp.daemon.ipc import SESSION, DaemonAddress, Refused, open_connection
from tests.daemon.support import PROGRAM, address, answer_to, bridge, daemon_pid, use, wait_for
from tests.laboratory import PACKAGE
from tests.server.clients import PATIENCE, StdioClient, call, end, initialize

DESCRIPTORS = 160

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


@contextlib.contextmanager
def crowded(palace: Path) -> Iterator[StdioClient]:
    """A session whose daemon, started by it, may have few descriptors."""
    command = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *PROGRAM, "--palace", str(palace)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PACKAGE.parent)
    try:
        yield StdioClient(process)
    finally:
        end(process)


def knock(path: str) -> socket.socket:
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(PATIENCE)
    stranger.connect(path)
    return stranger


def test_connections_beyond_the_limit_are_refused_and_sessions_go_on(palace: Path) -> None:
    with crowded(palace) as client, contextlib.ExitStack() as crowd:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="before the crowd")
        told = address(palace)
        strangers = [crowd.enter_context(knock(told["path"])) for _ in range(2 * DESCRIPTORS)]
        with strangers[-1].makefile("rb") as answer:
            assert json.loads(answer.readline()) == {"refused": "full"}
        use(client, 2, "add_drawer", wing="w", room="r", content="in the crowd")


def test_sessions_beyond_the_limit_are_told_so_and_may_come_again(palace: Path) -> None:
    with crowded(palace) as client, contextlib.ExitStack() as others:
        client.greet()
        daemon_pid(client)
        told = DaemonAddress(**address(palace))
        with pytest.raises(Refused, match="full"):
            greet_all(told, palace, others)
        with bridge(palace) as late:
            late.send(call(1, "status"))
            error = answer_to(late, 1)["result"]["structuredContent"]["error"]
            assert (error["code"], error["retryable"]) == ("busy", True)
            assert control.describe(palace) is not None
            others.close()
            wait_for(lambda: admitted(late), "a place")


def greet_all(told: DaemonAddress, palace: Path, sessions: contextlib.ExitStack) -> None:
    """Open more sessions than there may be."""
    for _ in range(DESCRIPTORS):
        sessions.callback(open_connection(told, client_hello(SESSION, str(palace))).close)


def admitted(client: StdioClient) -> bool:
    """Is its handshake answered?"""
    return "result" in client.ask(initialize())
