"""Processes that are told to end while something in them does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.daemon.support import address, bridge, daemon_pid, has_ended, served, use, wait_for
from tests.server.clients import PATIENCE, RawHttp, call, request

FOR_EVER = "sleep 3600"


def test_a_call_that_hangs_keeps_no_daemon(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        pid = daemon_pid(client)
        client.send(call(1, "get_taxonomy", wing=FOR_EVER))
        assert client.ask(request(2, "ping"))["id"] == 2
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: has_ended(pid), "the end of a daemon in which a call hangs")
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        assert use(client, 3, "get_taxonomy")["drawers"] == 0
    assert "left" in (palace / "daemon.log").read_text()


def test_a_call_that_hangs_keeps_no_session_of_its_own(palace: Path, deliberate: Path) -> None:
    with bridge(palace, "--solo", package=deliberate) as client:
        client.greet()
        client.send(call(1, "get_taxonomy", wing=FOR_EVER))
        assert client.ask(request(2, "ping"))["id"] == 2
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(PATIENCE) == 0


def test_a_call_that_hangs_keeps_no_server(palace: Path, deliberate: Path) -> None:
    with served(palace, package=deliberate) as (process, told), RawHttp(_port(told["address"])) as http:
        http.begin("POST", "/mcp", call(1, "get_taxonomy", wing=FOR_EVER))
        wait_for(lambda: bool(_running(told["address"])), "the beginning of the call")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not (palace / "daemon.json").exists()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _running(url: str) -> int:
    with RawHttp(_port(url)) as http:
        return int(http.ask("GET", "/health").json["diagnostics"]["running_executions"])


def test_an_address_that_was_removed_is_written_again(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        told = address(palace)
        (palace / "daemon.json").unlink()
        wait_for((palace / "daemon.json").exists, "the address")
        assert address(palace) == told
