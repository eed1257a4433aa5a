"""The daemon's own life: when it leaves, who may take its place, what people can ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon import control
from mempalace_mcp.daemon.connector import UNREACHABLE_SECONDS
from mempalace_mcp.daemon.ipc import SESSION, STATUS, DaemonAddress
from tests.daemon.handshake import refusal_of
from tests.daemon.support import (
    PROGRAM,
    address,
    answer_to,
    bridge,
    daemon_pid,
    end_processes_of,
    has_ended,
    kill,
    processes_of,
    served,
    use,
    wait_for,
)
from tests.laboratory import PACKAGE
from tests.server.clients import PATIENCE, RawHttp, StdioClient, call, end, initialize, request


def command(*arguments: str | Path, code: int = 0) -> str:
    """Run a command of the program; what it prints."""
    finished = subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, cwd=PACKAGE.parent
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def test_it_leaves_when_nobody_needs_it(palace: Path) -> None:
    with bridge(palace, environment={"PALACE_IDLE_SECONDS": "0.2"}) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="to be embedded before it leaves")
        pid = daemon_pid(client)
        client.finish()
    wait_for(lambda: has_ended(pid), "the daemon's leave")
    assert not (palace / "daemon.json").exists()
    assert not (palace / "palace.db-wal").exists()
    with bridge(palace) as client:
        client.greet()
        assert use(client, 1, "status")["palace"]["pending"] == 0


def open_sessions(client: StdioClient) -> int:
    """How many sessions with bridges the daemon counts."""
    sessions: dict[str, int] = use(client, "open", "status")["process"]["sessions"]
    return sessions["socket"]


def test_it_stays_while_there_is_a_session(palace: Path) -> None:
    with bridge(palace, environment={"PALACE_IDLE_SECONDS": "0"}) as client:
        client.greet()
        pid = daemon_pid(client)
        with bridge(palace) as other:
            other.greet()
            assert open_sessions(client) == 2
            other.finish()
        assert daemon_pid(client) == pid
        wait_for(lambda: open_sessions(client) == 1, "the end of the other session")


def test_it_can_be_found_again_when_its_address_was_removed(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        (palace / "daemon.json").unlink()
        wait_for((palace / "daemon.json").exists, "the address")
        with bridge(palace) as other:
            other.greet()
            assert daemon_pid(other) == daemon_pid(client)


def test_it_makes_room_when_its_lock_was_removed(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        first = daemon_pid(client)
        (palace / "daemon.lock").unlink()
        wait_for(lambda: has_ended(first), "the end of a daemon without the lock")
        assert daemon_pid(client) != first


@pytest.fixture(scope="module")
def in_use(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, StdioClient]]:
    """A palace with a session, shared by those who only knock."""
    directory = tmp_path_factory.mktemp("in_use") / "palace"
    with bridge(directory) as client:
        client.greet()
        yield directory, client
    end_processes_of(directory)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"palace": (1, 2)}, "palace"),
        ({"token": "guessed"}, "token"),
        ({"purpose": "dance"}, "protocol"),
        ({"profile": "everything"}, "protocol"),
        ({"palace": 7}, "protocol"),
        ({"purpose": SESSION}, None),
        ({"purpose": STATUS, "version": "99"}, None),
    ],
)
def test_it_serves_only_who_belongs_here(
    in_use: tuple[Path, StdioClient], changes: dict[str, Any], refusal: str | None
) -> None:
    palace, client = in_use
    assert refusal_of(palace, address(palace), **changes) == refusal
    assert client.ask(request(1, "ping"))["id"] == 1


def test_it_makes_room_for_a_newer_version(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        assert refusal_of(palace, address(palace), version="99") == "retiring"
        assert client.ask(request(1, "ping"))["id"] == 1


def test_a_session_is_served_alone_when_the_daemon_does_not_answer(palace: Path) -> None:
    palace.mkdir()
    lock = FileLock.take(str(palace / "daemon.lock"))
    assert lock is not None
    DaemonAddress(pid=os.getpid(), version="0.1.0", started=0.0, path=str(palace / "nowhere")).write(
        str(palace / "daemon.json")
    )
    assert UNREACHABLE_SECONDS < PATIENCE
    with ExitStack() as held, bridge(palace, stderr=subprocess.PIPE) as client:
        held.callback(lock.close)
        client.send(initialize(), call(1, "add_drawer", wing="w", room="r", content="alone"))
        assert answer_to(client, "hello")
        assert answer_to(client, 1)["result"]["structuredContent"]["created"]
        told = use(client, 2, "status")["daemon"]
        assert told["elected"] is False
        assert client.process.stderr is not None
        assert b"served by a process of its own" in client.process.stderr.readline()
        kill(told["pid"])
        held.close()
        assert use(client, 3, "status")["daemon"]["elected"] is True
        assert use(client, 4, "list_drawers")["total"] == 1
    wait_for(lambda: has_ended(told["pid"]), "the end of the private process")


def test_a_private_process_leaves_with_its_session(palace: Path) -> None:
    palace.mkdir()
    process = subprocess.Popen(
        [*PROGRAM, "daemon", "run", "--palace", str(palace), "--private"],
        stdout=subprocess.PIPE,
        cwd=PACKAGE.parent,
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert not (palace / "daemon.json").exists()
        assert refusal_of(palace, told["address"]) is None
        assert process.wait(PATIENCE) == 0
        assert not Path(told["address"]["path"]).exists()
    finally:
        end(process)


def test_a_second_daemon_does_not_start(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        assert json.loads(command("daemon", "run", "--palace", palace)) == {"ready": False}
        assert address(palace)["pid"] == daemon_pid(client)


def test_serve_takes_over_and_sessions_join_it(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="written before")
        headless = daemon_pid(client)
        with served(palace) as (process, told):
            assert told["pid"] == process.pid
            assert daemon_pid(client) == process.pid
            wait_for(lambda: has_ended(headless), "the end of the daemon that made room")
            with bridge(palace) as other, RawHttp(int(told["address"].rpartition(":")[2])) as web:
                other.greet()
                use(other, 1, "add_drawer", wing="w", room="r", content="zebra crossing")
                found = web.ask("POST", "/mcp", call(2, "search", query="zebra crossing")).json
                assert found["result"]["structuredContent"]["results"]
                assert web.ask("GET", "/health").json["diagnostics"]["sessions"]["socket"] == 2
                for port in ("0", told["address"].rpartition(":")[2]):
                    refused = command("serve", "--palace", palace, "--port", port, code=1)
                    assert f"served already, by process {process.pid} at {told['address']}" in refused
                assert refusal_of(palace, address(palace), version="99") is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        assert daemon_pid(client) not in (headless, process.pid)
        assert use(client, 9, "list_drawers")["total"] == 2


def test_what_people_can_ask_of_it(palace: Path) -> None:
    assert "No daemon" in command("daemon", "status", "--palace", palace)
    assert json.loads(command("daemon", "stop", "--palace", palace, "--json")) == {"stopped": None}
    assert "no log" in command("daemon", "logs", "--palace", palace, code=1)
    with bridge(palace, environment={"PALACE_LOG_LEVEL": "info"}) as client:
        client.greet()
        pid = daemon_pid(client)
        told = json.loads(command("daemon", "status", "--palace", palace, "--json"))
        assert (told["running"], told["pid"], told["version"]) == (True, pid, "0.1.0")
        assert [session["pid"] for session in told["sessions"]] == [client.process.pid]
        assert str(client.process.pid) in command("daemon", "status", "--palace", palace)
        assert str(pid) in command("daemon", "stop", "--palace", palace)
        assert "leaving: stopped" in command("daemon", "logs", "--palace", palace)
        wait_for(lambda: has_ended(pid), "the end of the daemon")
        assert [process.pid for process in processes_of(palace)] == [client.process.pid]
        assert daemon_pid(client) != pid


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
def test_one_that_was_stopped_is_ended_by_who_wants_it_to_end(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
    os.kill(pid, signal.SIGSTOP)
    seen = json.loads(command("status", "--palace", palace, "--json"))
    assert (seen["status"], seen["reported_by"]["daemon"]) == ("degraded", False)
    assert seen["reasons"][0].startswith(f"daemon_silent: the daemon, process {pid}, does not answer")
    assert "daemon stop" in seen["reasons"][0]
    assert f"Killed process {pid}" in command("daemon", "stop", "--palace", palace)
    wait_for(lambda: has_ended(pid), "the end of the daemon")
    assert "No daemon" in command("daemon", "stop", "--palace", palace)


def test_the_daemon_of_another_palace_is_not_ended_for_this_one(palace: Path, tmp_path: Path) -> None:
    """As when a palace was copied while it was in use: its address leads to the daemon of the first one."""
    copy = tmp_path / "copy"
    copy.mkdir()
    lock = FileLock.take(str(copy / "daemon.lock"))
    assert lock is not None
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        (copy / "daemon.json").write_bytes((palace / "daemon.json").read_bytes())
        assert "does not answer: palace" in command("daemon", "stop", "--palace", copy, code=1)
        assert daemon_pid(client) == pid
    lock.close()


def test_commands_are_told_when_it_does_not_answer(palace: Path) -> None:
    palace.mkdir()
    lock = FileLock.take(str(palace / "daemon.lock"))
    assert lock is not None
    DaemonAddress(pid=1, version="0.1.0", started=0.0, path=str(palace / "nowhere")).write(str(palace / "daemon.json"))
    assert "does not answer" in command("daemon", "status", "--palace", palace, code=1)
    lock.close()
    assert "No daemon" in command("daemon", "status", "--palace", palace)


def test_status_is_that_of_the_process_which_serves(palace: Path) -> None:
    with bridge(palace, environment={"PALACE_TIMEZONE": "Asia/Tokyo", "PALACE_INDEX": "exact"}) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="new")
        pid = daemon_pid(client)
        told = json.loads(command("status", "--palace", palace, "--json"))
        assert told["reported_by"] == {"pid": pid, "daemon": True}
        assert told["process"]["pid"] == told["daemon"]["pid"] == pid
        assert sum(told["process"]["calls"].values()) >= 2, "of this process there are none"
        assert (told["index"]["mode"], told["palace"]["timezone"]) == ("exact", "Asia/Tokyo")
        assert told["palace"]["drawers"] == 1
        assert f"reported by the daemon, process {pid}" in command("status", "--palace", palace)
        (palace / "embed.lock").unlink()
        (palace / "embed.lock").mkdir(0o700)
        use(client, 2, "add_drawer", wing="w", room="r", content="waits for its vector")
        wait_for(lambda: health_of(palace)["reasons"] != [], "a daemon that cannot embed")
        seen = json.loads(command("status", "--palace", palace, "--json"))
        assert seen["status"] == "degraded"
        assert [reason.split(":")[0] for reason in seen["reasons"]] == ["indexer_failing"]
        assert "indexer_failing" in command("status", "--palace", palace)
    command("daemon", "stop", "--palace", palace)
    alone = json.loads(command("status", "--palace", palace, "--json"))
    assert alone["reported_by"] == {"pid": alone["process"]["pid"], "daemon": False}
    assert alone["daemon"] is None
    assert "this command" in command("status", "--palace", palace)


def health_of(palace: Path) -> dict[str, Any]:
    told = control.describe(palace)
    assert told is not None
    health: dict[str, Any] = told["health"]
    return health
