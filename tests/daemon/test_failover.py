"""A stdio client does not notice that the daemon behind it was killed, stopped or replaced."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests import injections
from tests.daemon.support import (
    address,
    answer_to,
    bridge,
    daemon_pid,
    has_ended,
    kill,
    processes_of,
    use,
    wait_for,
)
from tests.laboratory import laboratory
from tests.server.clients import INITIALIZED, PATIENCE, StdioClient, call, initialize, modern, request

INCREASING = 40


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package whose `diary_write` kills its process between commit and answer, once for each file in `topic`."""
    return laboratory(tmp_path_factory.mktemp("dying"), {"server.tools.diary": injections.deadly_diary})


def contents(client: StdioClient, number: object = "list") -> list[str]:
    """What every drawer of the palace says."""
    drawers = use(client, number, "list_drawers", limit=100)["drawers"]
    return [drawer["content"] if "content" in drawer else drawer["preview"] for drawer in drawers]


def test_a_killed_daemon_is_invisible_and_each_write_happens_once(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        first = daemon_pid(client)
        for number in range(INCREASING):
            client.send(call(number, "add_drawer", wing="w", room="r", content=f"drawer number {number}"))
            if number == INCREASING // 2:
                os.kill(first, signal.SIGKILL)
        answers = [client.receive() for _ in range(INCREASING)]
        assert sorted(answer["id"] for answer in answers) == list(range(INCREASING))
        assert not [answer for answer in answers if answer["result"]["isError"]]
        assert all(answer["result"]["structuredContent"]["created"] for answer in answers)
        assert sorted(contents(client)) == sorted(f"drawer number {number}" for number in range(INCREASING))
        assert daemon_pid(client) != first


def test_a_write_whose_answer_died_with_the_daemon_happens_once(palace: Path, dying: Path) -> None:
    palace.mkdir()
    with bridge(palace, package=dying) as client:
        client.greet()
        once = str(palace / "dead")
        written = use(client, 1, "diary_write", agent_name="Scribe", entry="once", topic=once)
        assert Path(once).exists()
        [entry] = use(client, 2, "diary_read", agent_name="Scribe")["entries"]
        assert entry["drawer_id"] == written["drawer_id"]


def test_an_idle_session_goes_on_after_a_kill(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        first = daemon_pid(client)
        kill(first)
        assert client.ask(request(1, "ping")) == {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert daemon_pid(client) != first
        assert client.finish() == (0, [])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_leaves_no_zombies_of_the_daemons_it_started(palace: Path, number: signal.Signals) -> None:
    with bridge(palace) as client:
        client.greet()
        for ask in range(3):
            started = psutil.Process(daemon_pid(client, ask))
            started.send_signal(number)
            started.wait(PATIENCE)  # ends when the process has left the table of processes


def test_a_kill_before_the_first_answer_is_invisible(palace: Path) -> None:
    with bridge(palace) as client:
        client.send(initialize(), INITIALIZED, call(1, "add_drawer", wing="w", room="r", content="early bird"))
        wait_for(lambda: len(processes_of(palace)) == 2, "the birth of a daemon")
        [daemon] = [process for process in processes_of(palace) if process.pid != client.process.pid]
        kill(daemon.pid)
        assert client.receive()["id"] == "hello"
        assert client.receive()["result"]["structuredContent"]["created"]
        assert contents(client) == ["early bird"]


def test_sessions_write_on_while_daemons_are_killed_at_random(palace: Path) -> None:
    rounds, writers = 4, 3
    with ExitStack() as stack:
        clients = [stack.enter_context(bridge(palace)) for _ in range(writers)]
        for client in clients:
            client.greet()
        written: list[str] = []
        stop = threading.Event()

        def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                text = f"writer {writer} drawer {number}"
                assert use(clients[writer], number, "add_drawer", wing="w", room="r", content=text)["created"]
                use(clients[writer], -1, "kg_add", subject=f"s{writer}", predicate="wrote", object=f"o{number}")
                written.append(text)
                number += 1

        failures: list[BaseException] = []

        def guarded(writer: int) -> None:
            try:
                write(writer)
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(writer,)) for writer in range(writers)]
        for thread in threads:
            thread.start()
        dice = random.Random(7)
        for _ in range(rounds):
            before = len(written)
            wait_for(lambda before=before: len(written) >= before + dice.randint(1, 20), "progress")  # type: ignore[misc]
            wait_for((palace / "daemon.json").exists, "the address of the daemon that is next")
            kill(address(palace)["pid"])
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not failures
        total = use(clients[0], "total", "list_drawers", limit=1)["total"]
        assert total == len(written) == len(set(written))
        assert use(clients[0], "facts", "kg_stats")["facts"] == len(written)


def test_a_cancelled_call_is_not_given_to_the_next_daemon(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        pid = daemon_pid(client)
        client.send(call(1, "get_taxonomy", wing="sleep 60"))
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        kill(pid)
        assert client.ask(request(2, "ping"))["id"] == 2
        assert client.finish() == (0, [])


def test_a_deadly_request_is_refused_and_harms_nobody_else(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as killer, bridge(palace, package=deliberate) as innocent:
        killer.greet()
        innocent.greet()
        innocent.send(call("slow", "get_taxonomy", wing="sleep 0.8"))
        killer.send(call(1, "get_taxonomy", wing="die"), call(2, "add_drawer", wing="w", room="r", content="survives"))
        answers = {answer["id"]: answer["result"] for answer in (killer.receive(), killer.receive())}
        assert answers[1]["isError"]
        assert "died each time" in answers[1]["structuredContent"]["error"]["message"]
        assert answers[1]["structuredContent"]["error"]["retryable"] is False
        assert not answers[2]["isError"]
        assert not answer_to(innocent, "slow")["result"]["isError"]
        assert contents(innocent) == ["survives"]
        assert use(killer, 3, "kg_stats")


def test_sigterm_lets_calls_finish(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        pid = daemon_pid(client)
        client.send(call(1, "get_taxonomy", wing="sleep 1"))
        assert client.ask(request(2, "ping"))["id"] == 2
        os.kill(pid, signal.SIGTERM)
        assert answer_to(client, 1)["result"]["structuredContent"]["drawers"] == pid
        assert daemon_pid(client) != pid
        wait_for(lambda: has_ended(pid), "the end of the daemon")


def test_a_call_that_outlasts_sigterm_is_answered_by_the_next_daemon(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        pid = daemon_pid(client)
        client.send(call(1, "get_taxonomy", wing="sleep 5"))
        assert client.ask(request(2, "ping"))["id"] == 2
        os.kill(pid, signal.SIGTERM)
        assert answer_to(client, 1)["result"]["structuredContent"]["drawers"] != pid


def test_a_newer_version_retires_an_older_daemon(palace: Path, newer: Path) -> None:
    with bridge(palace) as old:
        old.greet()
        first = daemon_pid(old)
        old.send(*(call(n, "add_drawer", wing="w", room="r", content=f"drawer {n}") for n in range(10)))
        with bridge(palace, package=newer) as new:
            assert new.greet()["result"]["serverInfo"]["version"] == "99.0.0"
            second = daemon_pid(new)
            assert second != first
            changed = 0
            numbers: list[int] = []
            while len(numbers) < 10 or not changed:
                message = old.receive()
                changed += message.get("method") == "notifications/tools/list_changed"
                numbers += [message["id"]] if "id" in message else []
            assert sorted(numbers) == list(range(10))
            assert daemon_pid(old) == second
            assert address(palace)["version"] == "99.0.0"
            assert len(contents(old)) == 10
            assert new.finish() == (0, [])
        assert old.finish() == (0, [])


def test_an_older_version_joins_a_newer_daemon(palace: Path, newer: Path) -> None:
    with bridge(palace, package=newer) as new, bridge(palace) as old:
        new.greet()
        assert old.greet()["result"]["serverInfo"]["version"] == "99.0.0"
        assert daemon_pid(old) == daemon_pid(new)


def test_a_session_without_a_handshake_outlives_a_daemon(palace: Path) -> None:
    with bridge(palace) as client:
        assert client.ask(modern(request(1, "tools/list")))["result"]["tools"]
        kill(address(palace)["pid"])
        assert client.ask(modern(request(2, "tools/list")))["result"]["tools"]
        assert client.finish() == (0, [])


def test_a_daemon_that_cannot_start_says_why(palace: Path) -> None:
    palace.mkdir()
    (palace / "palace.db").write_bytes(b"garbage" * 1000)
    with bridge(palace) as client:
        refused = client.ask(initialize())["error"]
        assert refused["data"]["code"] == "palace_corrupt"
        assert str(palace / "daemon.log") in refused["message"]
        result = client.ask(call(1, "kg_stats"))["result"]
        assert result["isError"]
        assert result["structuredContent"]["error"]["code"] == "palace_corrupt"
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        (palace / "palace.db").unlink()
        assert client.greet()["result"]["serverInfo"]
        assert use(client, 2, "kg_stats")
        assert client.finish() == (0, [])


def test_daemons_that_die_while_starting_are_reported(palace: Path, stillborn: Path) -> None:
    with bridge(palace, package=stillborn) as client:
        refused = client.ask(initialize())["error"]
        assert "while starting" in refused["message"]
        assert str(palace / "daemon.log") in refused["message"]
        assert client.finish() == (0, [])


def test_a_deleted_palace_is_missed(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        palace.rename(palace.parent / "moved")
        wait_for(lambda: has_ended(pid), "the end of the daemon")
        result = client.ask(call(1, "add_drawer", wing="w", room="r", content="into the void"))["result"]
        assert result["structuredContent"]["error"]["code"] == "palace_missing"
        assert not palace.exists()
        (palace.parent / "moved").rename(palace)
        assert use(client, 2, "add_drawer", wing="w", room="r", content="back again")["created"]
