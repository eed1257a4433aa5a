"""Daemons that are stopped, or only slow, with bridges of little patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import injections
from tests.daemon.support import PROGRAM, answer_to, bridge, daemon_pid, has_ended, use, wait_for
from tests.laboratory import Changes, laboratory
from tests.server.clients import call, end

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with bridges that ask after half a second and give up after one and a half."""
    changes: Changes = {
        "daemon.bridge": {"TICK_SECONDS": 0.1},
        "daemon.ipc": {"_HANDSHAKE_SECONDS": 2.0},
        "daemon.connector": {"UNREACHABLE_SECONDS": 0.5},
        "server.tools.overview": injections.deliberate_taxonomy,
    }
    return laboratory(tmp_path_factory.mktemp("impatient"), changes)


def test_a_stopped_daemon_is_taken_for_dead_and_each_write_is_done_once(palace: Path, impatient: Path) -> None:
    with bridge(palace, package=impatient) as client, bridge(palace, package=impatient) as other:
        client.greet()
        other.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="before")
        stopped = daemon_pid(client)
        client.send(call(2, "add_drawer", wing="w", room="r", content="perhaps before, perhaps after"))
        os.kill(stopped, signal.SIGSTOP)
        client.send(call(3, "add_drawer", wing="w", room="r", content="after"))
        other.send(call(4, "kg_add", subject="a", predicate="b", object="c"))
        assert {client.receive()["id"], client.receive()["id"]} == {2, 3}
        answer_to(other, 4)
        wait_for(lambda: has_ended(stopped), "the end of the stopped daemon")
        assert daemon_pid(client) == daemon_pid(other) != stopped
        assert use(client, 5, "get_taxonomy")["drawers"] == 3


def test_a_daemon_that_stops_reading_in_the_middle_of_a_long_line_is_taken_for_dead(
    palace: Path, impatient: Path
) -> None:
    with bridge(palace, package=impatient, stderr=subprocess.DEVNULL) as client:
        client.greet()
        stopped = daemon_pid(client)
        os.kill(stopped, signal.SIGSTOP)
        client.send(call(1, "add_drawer", wing="w", room="r", content="word " * 180_000))
        assert answer_to(client, 1)["result"]["structuredContent"]["created"]
        assert daemon_pid(client) != stopped
        assert use(client, 2, "get_taxonomy")["drawers"] == 1


def test_a_daemon_whose_calls_take_long_is_alive(palace: Path, impatient: Path) -> None:
    with bridge(palace, package=impatient) as client:
        client.greet()
        before = daemon_pid(client)
        assert use(client, 1, "get_taxonomy", wing="sleep 4")["drawers"] == before
        assert daemon_pid(client) == before


def test_a_server_that_somebody_has_stopped_is_left_alone(palace: Path, impatient: Path) -> None:
    command = [*PROGRAM, "serve", "--palace", str(palace), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=impatient)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        with bridge(palace, package=impatient, stderr=subprocess.DEVNULL) as client:
            client.greet()
            assert daemon_pid(client) == server.pid
            os.kill(server.pid, signal.SIGSTOP)
            assert daemon_pid(client) != server.pid
            assert not has_ended(server.pid)
            os.kill(server.pid, signal.SIGCONT)
    finally:
        end(server)


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux's containers")
def test_a_daemon_of_another_container_is_left_alone_and_nobody_else_is_killed(palace: Path, impatient: Path) -> None:
    if subprocess.run([*CONTAINER, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("this user cannot make containers")
    with bridge(palace, package=impatient) as outside:
        outside.greet()
        stopped = daemon_pid(outside)
        with bridge(palace, package=impatient, through=CONTAINER, own_group=True) as inside:
            inside.greet()
            os.kill(stopped, signal.SIGSTOP)
            assert use(inside, 1, "get_taxonomy")["drawers"] == 0
            assert not has_ended(stopped)
            os.kill(stopped, signal.SIGCONT)
