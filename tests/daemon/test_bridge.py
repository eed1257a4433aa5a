"""Sessions through a bridge, while the daemon behind it lives."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters
from mcp.client.client import Client as OfficialClient

from mempalace_mcp.daemon.bridge import Client, ClientGone
from tests.daemon.handshake import refusal_of
from tests.daemon.support import (
    PROGRAM,
    address,
    answer_to,
    bridge,
    daemon_pid,
    end_processes_of,
    has_ended,
    use,
    wait_for,
)
from tests.laboratory import PACKAGE, laboratory
from tests.server.clients import INITIALIZED, PATIENCE, call, initialize, request
from tests.storage.support import small_disk

HEAVY = ("mcp", "mcp_types", "anyio", "numpy", "sqlite3", "chromadb", "pydantic", "click", "asyncio", "dataclasses")

COSTLY = ("logging", "pathlib", "inspect", "subprocess", "argparse", "typing", "tempfile", "traceback", "random")


def test_sessions_share_one_daemon_and_see_each_others_writes(palace: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(bridge(palace)) for _ in range(4)]
        for client in clients:
            assert client.greet()["result"]["serverInfo"]["name"] == "mempalace-mcp"
        assert len({daemon_pid(client) for client in clients}) == 1
        for number, writer in enumerate(clients):
            filed = use(writer, number, "add_drawer", wing="w", room="r", content=f"the word is zebra{number}")
            for reader in clients:
                found = use(reader, number, "search", query=f"zebra{number}")["results"]
                assert filed["drawer_id"] in [hit["drawer_id"] for hit in found]
        told = use(clients[0], "status", "status")["daemon"]
        assert {session["pid"] for session in told["sessions"]} == {client.process.pid for client in clients}
        for client in clients:
            assert client.finish() == (0, [])


def test_twelve_first_sessions_at_once_elect_one_daemon(palace: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(bridge(palace)) for _ in range(12)]
        for client in clients:
            client.send(initialize(), INITIALIZED)
        for client in clients:
            assert answer_to(client, "hello")["result"]["serverInfo"]
        assert {daemon_pid(client) for client in clients} == {address(palace)["pid"]}
        assert "Traceback" not in (palace / "daemon.log").read_text()


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_is_served_in_either_era(palace: Path, mode: str) -> None:
    server = StdioServerParameters(
        command=PROGRAM[0], args=[*PROGRAM[1:], "--palace", str(palace), "--tools", "full"], cwd=PACKAGE.parent
    )
    async with OfficialClient(server, mode=mode) as client:
        assert "import_path" in [tool.name for tool in (await client.list_tools()).tools]
        assert not (await client.call_tool("kg_stats", {})).is_error


def test_each_session_has_the_tools_it_asked_for(palace: Path) -> None:
    with bridge(palace, "--read-only", "--tool-prefix=palace_") as reader, bridge(palace, "--tools", "full") as writer:
        for client in (reader, writer):
            client.greet()
        listed = [
            [tool["name"] for tool in c.ask(request(1, "tools/list"))["result"]["tools"]] for c in (reader, writer)
        ]
        assert "palace_search" in listed[0]
        assert not [name for name in listed[0] if "add" in name]
        assert {"search", "add_drawer", "import_path"} <= set(listed[1])


def test_a_palace_on_a_read_only_disk_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=8192) as disk:
        with bridge(disk.path, "--solo") as client:
            client.greet()
            use(client, 1, "kg_add", subject="Ann", predicate="lives in", object="Paris")
            client.finish()
        disk.forbid_writing()
        with bridge(disk.path) as first, bridge(disk.path) as second:
            for client in (first, second):
                client.greet()
                assert use(client, 1, "kg_query", entity="Ann")["facts"][0]["object"] == "Paris"
            refused = first.ask(call(2, "kg_add", subject="Ann", predicate="lives in", object="Rome"))
            assert refused["result"]["structuredContent"]["error"]["code"] == "storage_read_only"


def test_ids_come_back_as_they_were_sent(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        wings = {7: "sleep 0.5", "7": "sleep 0.4", "x\u00e9\n": "sleep 0.3", -(2**63): "sleep 0.2"}
        client.send(*(call(number, "get_taxonomy", wing=wing) for number, wing in wings.items()))
        client.send(call(7, "get_taxonomy", wing="sleep 0.1"))
        answers = [client.receive() for _ in range(5)]
        assert all("result" in answer for answer in answers)
        assert [type(a["id"]) for a in answers].count(str) == 2
        assert sorted(map(str, (a["id"] for a in answers))) == sorted(map(str, [*wings, 7]))


def test_a_cancelled_call_is_not_answered_and_its_twin_is(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        client.send(call("7", "get_taxonomy", wing="sleep 0.6"), call(7, "get_taxonomy", wing="sleep 60"))
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        client.send(cancelled)
        assert client.receive()["id"] == "7"
        assert client.ask(request(8, "ping"))["id"] == 8
        assert client.finish() == (0, [])


def test_a_client_that_kills_its_process_group_leaves_the_daemon(palace: Path) -> None:
    with bridge(palace, own_group=True) as client:
        client.greet()
        pid = daemon_pid(client)
        os.killpg(client.process.pid, signal.SIGKILL)
        assert client.process.wait(PATIENCE) == -signal.SIGKILL
    with bridge(palace) as client:
        client.greet()
        assert daemon_pid(client) == pid


def test_the_daemon_is_detached(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        assert os.getsid(pid) == os.getpgid(pid) == pid
        process = Path(f"/proc/{pid}")
        assert (process / "cwd").readlink() == Path("/")
        streams = [(process / "fd" / str(number)).readlink() for number in range(3)]
        assert streams == [Path(os.devnull), *[palace / "daemon.log"] * 2]


def test_only_the_user_can_reach_the_socket(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        path = Path(address(palace)["path"])
        assert len(os.fsencode(path)) <= 100
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.stat().st_uid == os.getuid()
        assert stat.S_IMODE((palace / "daemon.json").stat().st_mode) == 0o600
        pid = daemon_pid(client)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: has_ended(pid), "the daemon's end")
        assert not path.exists()


def test_any_path_to_a_palace_leads_to_one_daemon(palace: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    palace.mkdir()
    link.symlink_to(palace)
    with bridge(palace) as direct, bridge(link) as linked:
        assert [client.greet()["id"] for client in (direct, linked)] == ["hello"] * 2
        assert daemon_pid(direct) == daemon_pid(linked)


def test_a_copied_palace_has_a_daemon_of_its_own(palace: Path) -> None:
    copy = palace.parent / "palace-copy"
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        subprocess.run(["cp", "-r", palace, copy], check=True)
        try:
            with bridge(copy) as other:
                other.greet()
                assert daemon_pid(other) not in (pid, None)
                os.kill(daemon_pid(other), signal.SIGKILL)
        finally:
            end_processes_of(copy)


def test_settings_of_a_session_that_do_not_count_are_told(palace: Path) -> None:
    with bridge(palace) as first:
        first.greet()
        assert use(first, 1, "status")["warnings"] == []
        with bridge(palace, environment={"PALACE_TRASH_DAYS": "3"}) as second:
            second.greet()
            [warning] = use(second, 1, "status")["warnings"]
        assert "PALACE_TRASH_DAYS" in warning
        assert "30.0" in warning
        for variable in ("PALACE_TIMEZONE", "TZ"):
            with bridge(palace, environment={variable: "Asia/Tokyo"}) as elsewhere:
                elsewhere.greet()
                [warning] = use(elsewhere, 1, "status")["warnings"]
            assert "PALACE_TIMEZONE is Asia/Tokyo for this session" in warning
        with bridge(palace, environment={"PALACE_IMPORT_ROOTS": "here"}) as third:
            third.greet()
            [warning] = use(third, 1, "status")["warnings"]
        assert "PALACE_IMPORT_ROOTS='here' is wrong" in warning


def test_a_system_without_socket_files_uses_loopback_and_a_token(palace: Path, loopback: Path) -> None:
    with bridge(palace, package=loopback) as client:
        client.greet()
        told = address(palace)
        assert told["path"] is None
        assert len(told["token"]) == 64
        assert daemon_pid(client) == told["pid"]
        assert refusal_of(palace, told, token="wrong") == "token"


def test_a_system_without_daemons_serves_each_session_in_its_own_process(palace: Path, tmp_path: Path) -> None:
    folder = laboratory(tmp_path / "laboratory", {"core.platform": {"HAS_DAEMON": False}})
    with bridge(palace, package=folder) as first, bridge(palace, package=folder) as second:
        for client in (first, second):
            client.greet()
        use(first, 1, "add_drawer", wing="w", room="r", content="the harbour lights are green")
        assert use(second, 1, "search", query="harbour", mode="keyword")["results"]
    assert not (palace / "daemon.lock").exists()


MODULES = (
    "import sys\nsys.argv[0] = 'mempalace-mcp'\nfrom mempalace_mcp.cli.main import main\n"
    "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
)
"""Runs the program and tells what it has imported."""


def modules_of(*arguments: str, messages: Sequence[Any] = ()) -> tuple[bytes, set[str]]:
    """What the program with these arguments answers to the messages, and what it has imported in the end."""
    finished = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments],
        input=b"".join(json.dumps(message).encode() + b"\n" for message in messages),
        capture_output=True,
        cwd=PACKAGE.parent,
        timeout=PATIENCE,
        check=True,
    )
    return finished.stdout, set(finished.stderr.decode().split())


def test_a_bridge_imports_nothing_heavy(palace: Path) -> None:
    with bridge(palace) as first:
        first.greet()
        messages = (initialize(), INITIALIZED, call(1, "kg_stats"))
        answers, loaded = modules_of("--palace", str(palace), messages=messages)
    assert len(answers.splitlines()) == 2
    assert "mempalace_mcp.daemon.bridge" in loaded
    assert not loaded & {*HEAVY, *COSTLY}


def test_commands_that_only_ask_the_daemon_import_nothing_that_it_runs(palace: Path) -> None:
    with bridge(palace) as first:
        first.greet()
        pid = daemon_pid(first)
        for command, told in (("status", f"process   {pid}"), ("stop", f"Stopped process {pid}")):
            answer, loaded = modules_of("daemon", command, "--palace", str(palace))
            assert told in answer.decode(), command
            assert "mempalace_mcp.daemon.control" in loaded, command
            assert not loaded & {*HEAVY} - {"click", "dataclasses"}, command


@pytest.mark.parametrize("command", ["search words", "status", "reindex", "backup copy.db"])
def test_a_command_for_a_palace_that_is_not_there_imports_nothing_for_it(palace: Path, command: str) -> None:
    answer, loaded = modules_of(*command.split(), "--palace", str(palace), "--json")
    assert json.loads(answer)["error"]["code"] == "not_found"
    assert "mempalace_mcp.cli.commands" in loaded
    assert not loaded & {*HEAVY} - {"click", "dataclasses"}


def test_the_client_is_written_whole_lines_even_where_writing_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client = Client(ours.fileno(), ours.fileno())
        lines = [b"%d" % number * 200_000 for number in range(4)]
        threads = [threading.Thread(target=client.write, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        received = b""
        while received.count(b"\n") < len(lines):
            received += theirs.recv(1 << 20)
        for thread in threads:
            thread.join(10)
        assert sorted(received.splitlines()) == sorted(lines)
        theirs.sendall(b"one\ntwo")
        theirs.shutdown(socket.SHUT_WR)
        assert list(client.lines()) == [b"one", b"two"]
        theirs.close()
        with pytest.raises(ClientGone):
            client.write(b"x")
