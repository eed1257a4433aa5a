"""Sessions that start where there is no room: on disks that are full, and on those that nobody may write any more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.support import PROGRAM, bridge, daemon_pid, end_processes_of, has_ended, kill, made, use, wait_for
from tests.server.clients import INITIALIZED, StdioClient, call, initialize, request
from tests.storage.support import Disk, small_disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")

SESSIONS = pytest.mark.parametrize("options", [(), ("--solo",)], ids=["bridge", "solo"])
LOCKS = {"daemon.lock", "write.lock", "embed.lock", "index.lock"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk
        for palace in (disk.path, disk.path / "palace"):
            end_processes_of(palace)


@pytest.fixture
def used(disk: Disk) -> Disk:
    """With a palace on it that nobody serves."""
    made(disk.path, facts=[("Ann", "lives in", "Paris")])
    return disk


def stop_daemon(palace: Path) -> None:
    subprocess.run([*PROGRAM, "daemon", "stop", "--palace", str(palace)], check=True, stdout=subprocess.DEVNULL)


def refusal(client: StdioClient, number: Any, tool: str, **arguments: Any) -> str:
    """The code with which a call is refused."""
    result = client.ask(call(number, tool, **arguments))["result"]
    assert result["isError"]
    return str(result["structuredContent"]["error"]["code"])


def homes(client: StdioClient, number: Any) -> list[str]:
    return sorted(fact["object"] for fact in use(client, number, "kg_query", entity="Ann")["facts"])


def empty_files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir() if not file.stat().st_size} - LOCKS - {"daemon.log"}


@SESSIONS
@pytest.mark.parametrize("left", [0, 4, 32, 36])
def test_a_palace_on_a_full_disk_is_read_and_written_once_there_is_room(
    used: Disk, options: tuple[str, ...], left: int
) -> None:
    used.fill(leave_kilobytes=left)
    with bridge(used.path, *options, stderr=subprocess.DEVNULL) as client:
        assert "result" in client.greet()
        assert homes(client, 1) == ["Paris"]
        assert refusal(client, 2, "add_drawer", wing="w", room="r", content="long " * 100_000) == "storage_full"
        assert any(reason.startswith("storage_full") for reason in use(client, 3, "status")["reasons"])
        assert empty_files(used.path) <= {"palace.db-wal"}
        used.empty()
        assert use(client, 4, "kg_add", subject="Ann", predicate="lives in", object="Rome")["created"]
        assert homes(client, 5) == ["Paris", "Rome"]
        assert not any(reason.startswith("storage") for reason in use(client, 6, "status")["reasons"])
        with bridge(used.path) as other:
            other.greet()
            use(other, 1, "kg_add", subject="Ann", predicate="lives in", object="Oslo")
        assert homes(client, 7) == ["Oslo", "Paris", "Rome"]


def test_a_session_says_that_it_is_alone_and_sees_what_others_write_when_there_is_room(used: Disk) -> None:
    used.fill()
    with bridge(used.path, stderr=subprocess.PIPE) as reader:
        reader.greet()
        assert use(reader, 1, "status")["daemon"]["elected"] is False
        assert reader.process.stderr is not None
        told = reader.process.stderr.readline()
        assert b"no space left" in told
        assert b"served by a process of its own" in told
        used.empty()
        with bridge(used.path) as writer:
            writer.greet()
            assert use(writer, 1, "status")["daemon"]["elected"] is True
            use(writer, 2, "kg_add", subject="Ann", predicate="lives in", object="Rome")
            assert homes(reader, 2) == ["Paris", "Rome"]
        reader.finish()


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_palace_is_founded_when_there_is_room_without_another_handshake(disk: Disk, pipelined: bool) -> None:
    palace = disk.path / "palace"
    disk.fill()
    with bridge(palace, stderr=subprocess.DEVNULL) as client:
        if pipelined:
            client.send(initialize(), INITIALIZED, request(1, "ping"))
            answers = [client.receive() for _ in range(2)]
        else:
            answers = [client.greet(), client.ask(request(1, "ping"))]
        assert {answer["error"]["data"]["code"] for answer in answers} == {"storage_full"}
        assert refusal(client, 2, "kg_stats") == "storage_full"
        assert {file.name for file in palace.iterdir()} <= LOCKS | {"daemon.log"} if palace.exists() else True
        disk.empty()
        assert use(client, 3, "kg_add", subject="Ann", predicate="lives in", object="Paris")["created"]
        assert client.ask(request(4, "ping"))["result"] == {}
        kill(daemon_pid(client))
        assert homes(client, 5) == ["Paris"]
        assert client.finish() == (0, [])


def test_a_client_that_begins_again_after_a_refusal_is_greeted(disk: Disk) -> None:
    disk.fill()
    with bridge(disk.path / "palace", stderr=subprocess.DEVNULL) as client:
        assert "error" in client.greet()
        disk.empty()
        assert "result" in client.greet("2025-06-18")
        assert use(client, 1, "kg_add", subject="Ann", predicate="lives in", object="Paris")["created"]
        assert client.finish() == (0, [])


def test_a_disk_that_nobody_may_write_any_more(used: Disk) -> None:
    with bridge(used.path, stderr=subprocess.DEVNULL) as client:
        client.greet()
        pid = daemon_pid(client)
        stop_daemon(used.path)
        wait_for(lambda: has_ended(pid), "the end of the daemon, which has its log open")
        used.forbid_writing()
        assert homes(client, 1) == ["Paris"]
        assert refusal(client, 2, "kg_add", subject="Ann", predicate="is", object="tall") == "storage_read_only"
        client.finish()
    used.allow_writing()
