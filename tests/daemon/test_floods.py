"""Clients that ask for thousands of things at once, and read the answers when they like."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.daemon.control import client_hello
from mempalace_mcp.daemon.ipc import (
    OWN_MESSAGE,
    SESSION,
    DaemonAddress,
    DaemonConnection,
    Frame,
    open_connection,
)
from mempalace_mcp.daemon.pending import MAX_BYTES
from tests.daemon.support import answer_to, bridge, daemon_pid, kill, served, use
from tests.server.clients import INITIALIZED, PATIENCE, SseClient, StdioClient, call, initialize, request

MANY = 10_000
"""The lists of tools among their answers are 32 MB, four times what a session leaves unread before it asks no more."""

FEWER = 1_500

KINDS = 5

CANCELLED = "notifications/cancelled"

TRANSPORTS = pytest.mark.parametrize("options", [(), ("--solo",)], ids=["bridge", "solo"])


def message(number: int) -> dict[str, Any]:
    """One of the usual requests; two of five write."""
    match number % KINDS:
        case 0:
            return request(number, "ping")
        case 1:
            return request(number, "tools/list")
        case 2:
            return call(number, "kg_add", subject=f"s{number}", predicate="is", object=f"o{number}")
        case 3:
            return call(number, "kg_query", entity=f"s{number - 1}")
    return call(number, "add_drawer", wing="w", room="r", content=f"drawer number {number}")


def encoded(messages: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in messages)


def flood(count: int) -> bytes:
    """A session of a client that waits for nothing."""
    return encoded([initialize(), INITIALIZED, *map(message, range(count))])


class Reading(threading.Thread):
    """Reads the answers of a client in a thread of its own, and calls `at` when so many have come."""

    def __init__(self, client: StdioClient, count: int, at: dict[int, Callable[[], None]] | None = None) -> None:
        super().__init__(daemon=True)
        self._client, self._count, self._at = client, count, at or {}
        self.answers: Counter[Any] = Counter()
        self.failures: list[bytes] = []

    def run(self) -> None:
        while self.answers.total() < self._count:
            line = self._client.stdout.readline()
            if not line:
                return
            answer = json.loads(line)
            if "method" in answer:
                continue
            self.answers[answer["id"]] += 1
            if "error" in answer or answer["result"].get("isError"):
                self.failures.append(line)
            self._at.get(self.answers.total(), int)()

    def verify(self, count: int) -> None:
        """Each request was answered once, none was refused."""
        self.join(8 * PATIENCE)
        assert not self.failures
        assert self.answers == Counter(["hello", *range(count)])


def verify_written(palace: Path, count: int) -> None:
    """Each write was done once."""
    with sqlite3.connect(palace / "palace.db") as connection:
        facts, objects = connection.execute("SELECT count(*), count(DISTINCT object) FROM facts").fetchone()
        texts = [text for (text,) in connection.execute("SELECT content FROM drawers")]
    assert facts == objects == len(range(2, count, KINDS))
    assert sorted(texts) == sorted(f"drawer number {number}" for number in range(4, count, KINDS))


@TRANSPORTS
def test_each_request_is_answered_once_to_a_client_that_reads_meanwhile(palace: Path, options: tuple[str, ...]) -> None:
    with bridge(palace, *options) as client:
        reading = Reading(client, FEWER + 1)
        reading.start()
        client.send(flood(FEWER))
        reading.verify(FEWER)
        assert client.finish() == (0, [])
    verify_written(palace, FEWER)


@pytest.mark.parametrize(("options", "count"), [((), MANY), (("--solo",), 5_000)], ids=["bridge", "solo"])
def test_a_client_may_ask_for_everything_before_it_reads_anything(
    palace: Path, options: tuple[str, ...], count: int
) -> None:
    with bridge(palace, *options) as client:
        client.send(flood(count))
        client.stdin.close()
        reading = Reading(client, count + 1)
        reading.start()
        reading.verify(count)
        assert client.process.wait(PATIENCE) == 0
    verify_written(palace, count)


def test_others_are_served_beside_a_flood(palace: Path) -> None:
    with bridge(palace) as other, bridge(palace) as client:
        other.greet()
        reading = Reading(client, FEWER + 1)
        client.send(flood(FEWER))
        for number in range(20):
            assert use(other, number, "kg_add", subject="other", predicate="counts", object=str(number))["created"]
        reading.start()
        reading.verify(FEWER)


def test_a_flood_goes_on_when_daemon_after_daemon_dies(palace: Path) -> None:
    """Every answer that is owed after the first death, and after the second, is given before the third or after it."""
    deaths = 3

    def strike() -> None:
        kill(json.loads((palace / "daemon.json").read_text())["pid"])

    with bridge(palace) as client:
        at = {FEWER * number // (deaths + 1): strike for number in range(1, deaths + 1)}
        reading = Reading(client, FEWER + 1, at)
        reading.start()
        client.send(flood(FEWER))
        reading.verify(FEWER)
    verify_written(palace, FEWER)


@TRANSPORTS
def test_cancellations_overtake_what_waits(palace: Path, deliberate: Path, options: tuple[str, ...]) -> None:
    count = 400
    with bridge(palace, *options, package=deliberate) as client:
        client.greet()
        client.send(*(call(number, "get_taxonomy", wing="sleep 5") for number in range(count)))
        client.send({"jsonrpc": "2.0", "id": "no request of theirs", "result": {}})
        client.send(*({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": n}} for n in range(count)))
        client.send(request("last", "ping"))
        assert answer_to(client, "last")["result"] == {}
        assert client.finish() == (0, [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_client_does_not_read_is_bounded(palace: Path) -> None:
    """Its requests fill the room for pending messages, and then it has to wait."""
    count, line = 5_000, encoded([request("list", "tools/list", _meta={"padding": "x" * 60_000})])
    much_written = threading.Event()
    with bridge(palace) as client:
        client.greet()

        def write() -> None:
            for number in range(count):
                client.stdin.write(line)
                if number * len(line) > MAX_BYTES:
                    much_written.set()

        threading.Thread(target=write, daemon=True).start()
        assert much_written.wait(PATIENCE)
        answers = [client.stdout.readline() for _ in range(count)]
        assert {json.loads(answer)["id"] for answer in answers} == {"list"}
        told = Path(f"/proc/{client.process.pid}/status").read_text()
        [peak] = [int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")]
        assert peak * 1024 < 2 * MAX_BYTES
        assert client.finish() == (0, [])


def test_a_flood_of_posts_is_taken_before_anything_is_read(palace: Path) -> None:
    with served(palace) as (_, told), SseClient(int(told["address"].rpartition(":")[2])) as client:
        client.greet()
        for number in range(FEWER):
            assert client.post(message(number)).status == 202
        answers = [json.loads(client.event("message")) for _ in range(FEWER)]
        assert not [each for each in answers if "error" in each or each["result"].get("isError")]
        assert sorted(each["id"] for each in answers) == list(range(FEWER))
    verify_written(palace, FEWER)


def test_a_flood_of_posts_does_not_keep_a_cancellation_out(palace: Path, deliberate: Path) -> None:
    with served(palace, package=deliberate) as (_, told), SseClient(int(told["address"].rpartition(":")[2])) as client:
        client.greet()
        for number in range(200):
            assert client.post(call(number, "get_taxonomy", wing="sleep 50")).status == 202
        for number in range(200):
            assert client.post({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": number}}).status == 202
        assert client.ask(request("last", "ping"))["id"] == "last"


def frames(connection: DaemonConnection) -> Iterator[Frame]:
    return (each for each in connection.frames(PATIENCE, lambda: pytest.fail("no answer")) if each.sequence)


def test_a_flood_on_the_socket_itself(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        daemon_pid(client)
        address = DaemonAddress.read(str(palace / "daemon.json"))
        assert address is not None
        connection = open_connection(address, client_hello(SESSION, str(palace)))
        for number, line in enumerate(flood(FEWER).splitlines(), start=1):
            connection.send(Frame(number, line))
        connection.send(Frame(OWN_MESSAGE, b""))
        got = frames(connection)
        settled = Counter(next(got).sequence for _ in range(FEWER + 2))
        connection.close()
    assert settled == Counter(range(1, FEWER + 3))
    verify_written(palace, FEWER)


def test_a_client_that_never_reads_and_leaves_takes_its_session_along(palace: Path) -> None:
    with bridge(palace, stderr=subprocess.DEVNULL) as client:
        client.send(flood(FEWER))
        client.stdout.close()
        assert client.process.wait(PATIENCE) == 0
