"""A server that is used hard does not grow; and one that does is found out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.health import troubles
from tests.server.clients import RawHttp, SseClient, call
from tests.soak.gauges import LONGEST_LOG, Journal, Sample, grown, growths
from tests.soak.serving import serve, server
from tests.soak.users import BridgeUser, Crowd, HttpUser, Load, SseUser, Stranger, VanishingBridge
from tests.soak.watching import Watch

LEAST_ROUNDS = 20
ROUNDS_WITH_A_LEAK = 10


def test_a_server_that_is_used_hard_does_not_grow(
    tmp_path: Path, soak_seconds: float, soak_rest: float, soak_journal: Path
) -> None:
    palace, log, journal = tmp_path / "palace", tmp_path / "log", Journal(soak_journal)
    with server(log, *serve(palace)) as line:
        port = int(json.loads(line)["address"].rpartition(":")[2])
        watch = Watch(port)
        stdio, http = (BridgeUser(palace), VanishingBridge(palace)), (HttpUser(port), SseUser(port), Crowd(port))
        load = Load(*stdio, *http, Stranger(palace, port))
        samples: list[Sample] = []
        while len(samples) < LEAST_ROUNDS or samples[-1].seconds < soak_seconds:
            load.round()
            samples.append(watch.sample(sessions=0))
            journal.write(samples[-1])
            time.sleep(soak_rest)
        health = watch.health()
    tell(samples)
    assert not grown(samples)
    assert max(sample.log_bytes for sample in samples) < LONGEST_LOG
    assert health["diagnostics"]["calls"]["error"] == 0
    assert not troubles(health)
    assert "Traceback" not in log.read_text(encoding="utf-8")


def tell(samples: Sequence[Sample]) -> None:
    """What was measured, for whoever looks at the output."""
    last = samples[-1]
    print(f"{len(samples)} rounds, {last.calls} calls in {last.seconds:.0f} s, {last.cpu_seconds:.1f} s of CPU time")
    print(*growths(samples), sep="; ")
    print(samples[0], last, sep="\n")


@pytest.fixture(scope="module")
def leaking_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("leaking")
    with server(directory / "log", "tests.soak.leaking_server", directory / "palace") as line:
        yield int(line)


class LeakingCall:
    """Asks for one more leak in each round."""

    def __init__(self, port: int, kind: str) -> None:
        self._port = port
        self._kind = kind

    def visit(self, number: int) -> None:
        with RawHttp(self._port) as http:
            answer = http.ask("POST", "/mcp", call(number, "import_path", paths=[f"/{self._kind}"])).json
            assert not answer["result"]["isError"], answer


@pytest.mark.parametrize(
    ("kind", "gauges"),
    [("threads", {"threads"}), ("descriptors", {"descriptors"}), ("memory", {"rss_bytes", "allocated_blocks"})],
)
def test_a_leak_of_the_server_is_found(leaking_port: int, kind: str, gauges: set[str]) -> None:
    watch, load = Watch(leaking_port), Load(HttpUser(leaking_port, kind), LeakingCall(leaking_port, kind))
    samples = []
    for _ in range(ROUNDS_WITH_A_LEAK):
        load.round()
        samples.append(watch.sample(sessions=0))
    assert gauges <= {growth.gauge for growth in grown(samples)}, growths(samples)


def test_sessions_that_are_never_closed_are_found(leaking_port: int) -> None:
    watch, clients, samples = Watch(leaking_port), [], []
    for number in range(1, ROUNDS_WITH_A_LEAK + 1):
        clients.append(SseClient(leaking_port))
        samples.append(watch.sample(sessions=number))
    for client in clients:
        client.__exit__()
    assert {"tasks", "descriptors"} <= {growth.gauge for growth in grown(samples)}, growths(samples)
    assert watch.sample(sessions=0).sessions == 0
