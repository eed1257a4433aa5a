"""Sessions, HTTP clients and processes of their own use one palace at once, each through a transport of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.daemon.support import answer_to, bridge, served, use
from tests.server.clients import RawHttp, SseClient, StdioClient, call

Ask = Callable[[dict[str, Any]], dict[str, Any]]


def test_what_one_has_written_every_other_one_sees_with_its_next_question(palace: Path) -> None:
    with ExitStack() as stack:
        _, told = stack.enter_context(served(palace))
        port = int(told["address"].rpartition(":")[2])
        http = stack.enter_context(RawHttp(port))
        sse = stack.enter_context(SseClient(port))
        sse.greet()
        sessions: dict[str, Ask] = {
            "bridge": stdio(stack.enter_context(bridge(palace))),
            "solo": stdio(stack.enter_context(bridge(palace, "--solo"))),
            "http": lambda message: http.ask("POST", "/mcp", message).json,
            "sse": sse.ask,
        }
        for name, writer in sessions.items():
            drawer = ask(writer, "add_drawer", wing=name, room="r", content=f"the word is zebra-{name}")["drawer_id"]
            ask(writer, "kg_add", subject="zebra", predicate="lives in", object=name)
            for reader in sessions.values():
                assert sees(reader, name, drawer) == (True, True, True, True)
            ask(writer, "delete_drawers", drawer_ids=[drawer])
            ask(writer, "kg_invalidate", subject="zebra", predicate="lives in", object=name, ended="2020-01-01")
            for reader in sessions.values():
                assert sees(reader, name, drawer) == (False, False, False, False)


def test_processes_of_their_own_record_facts_at_once(palace: Path) -> None:
    processes, facts = 8, 200
    with ExitStack() as stack, ThreadPoolExecutor(processes) as threads:
        clients = [stack.enter_context(bridge(palace, "--solo", "--tools", "full")) for _ in range(processes)]
        for client in clients:
            client.greet()

        def record(number: int) -> list[float]:
            return [recorded(clients[number], number, fact) for fact in range(facts)]

        waits = [wait for own in threads.map(record, range(processes)) for wait in own]
        print(f"{len(waits)} facts, the longest call {max(waits) * 1000:.0f} ms")
        for client in clients:
            assert use(client, "all", "kg_stats")["facts"] == processes * facts


def recorded(client: StdioClient, number: int, fact: int) -> float:
    """Record one fact, which must be new; how long that took."""
    began = time.monotonic()
    assert use(client, fact, "kg_add", subject=f"agent {number}", predicate="wrote", object=f"{number}, {fact}")[
        "created"
    ]
    return time.monotonic() - began


def stdio(client: StdioClient) -> Ask:
    client.greet()

    def session(message: dict[str, Any]) -> dict[str, Any]:
        client.send(message)
        return answer_to(client, message["id"])

    return session


def ask(session: Ask, tool: str, **arguments: Any) -> dict[str, Any]:
    result = session(call(tool, tool, **arguments))["result"]
    assert not result["isError"], result
    content: dict[str, Any] = result["structuredContent"]
    return content


def sees(session: Ask, name: str, drawer: str) -> tuple[bool, bool, bool, bool]:
    """Does search, reading, listing and asking for facts show what was written?"""
    found = ask(session, "search", query=f"zebra-{name}", wing=name)["results"]
    listed = ask(session, "list_drawers", wing=name)["drawers"]
    facts = ask(session, "kg_query", entity="zebra", as_of="2100-01-01")["facts"]
    return (
        drawer in [hit["drawer_id"] for hit in found],
        drawer in [each["drawer_id"] for each in ask(session, "get_drawers", drawer_ids=[drawer])["drawers"]],
        drawer in [each["drawer_id"] for each in listed],
        name in [fact["object"] for fact in facts],
    )
