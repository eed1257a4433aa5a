"""Clients of the server, each with a transport of its own, in rounds: some leave as they should, some just vanish."""

from __future__ import annotations

import json
import os
import socket
import struct
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from mempalace_mcp.daemon.ipc import DaemonAddress
from tests.daemon.support import answer_to, bridge
from tests.server.clients import RawHttp, SseClient, StdioClient, call, request
from tests.soak.chores import Chore, arrival, chores, first_fact

BURST = 8
CROWD = 24
"""More callers at once than the server has threads, and connections to its database."""

UNWANTED = "unwanted"
"""The id of a call that is cancelled: it is answered soon, late or never."""

_NO_FAREWELL = struct.pack("ii", 1, 0)
"""`SO_LINGER`: a connection ends by a reset."""

Ask = Callable[[dict[str, Any]], dict[str, Any]]


class User(Protocol):
    """Comes and goes once for each round; numbers begin at 1."""

    def visit(self, number: int) -> None: ...


class Agent:
    """Does its chores through any transport and knows what must come of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._own_drawer = ""

    def work(self, number: int, ask: Ask) -> None:
        """The chores of a round."""
        if not self._own_drawer:
            self._own_drawer = _do(arrival(self._name), ask)["drawer_id"]
            _do(first_fact(self._name), ask)
        for each in chores(self._name, self._own_drawer, number):
            _do(each, ask)


def _do(each: Chore, ask: Ask) -> dict[str, Any]:
    result = ask(call(each.tool, each.tool, **each.arguments))["result"]
    content: dict[str, Any] = result["structuredContent"]
    assert content.get("error", {}).get("code") == each.refusal, content
    return content


class BridgeUser:
    """A session over stdio with a process of its own, which ends as it should."""

    def __init__(self, palace: Path) -> None:
        self._palace = palace
        self._agent = Agent("bridge")

    def visit(self, number: int) -> None:
        with bridge(self._palace, "--tools", "full") as client:
            client.greet()

            def ask(message: dict[str, Any]) -> dict[str, Any]:
                client.send(message)
                return answer_to(client, message["id"])

            self._agent.work(number, ask)
            assert client.ask(b"garbage\n")["error"]["code"] == -32700
            client.send(*(call(f"search {n}", "search", query=f"burst {n}") for n in range(BURST)))
            _await(client, {f"search {n}" for n in range(BURST)})
            self._cancel(client)
            code, rest = client.finish()
            assert code == 0
            assert {message["id"] for message in rest} <= {UNWANTED}

    def _cancel(self, client: StdioClient) -> None:
        """Change one's mind about a call, which is then answered or not."""
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": UNWANTED}}
        client.send(call(UNWANTED, "search", query="something unwanted"), cancelled, request("last", "ping"))
        _await(client, {"last"}, or_else={UNWANTED})


def _await(client: StdioClient, ids: set[str], or_else: frozenset[str] | set[str] = frozenset()) -> None:
    while ids:
        message = client.receive()
        assert message["id"] in ids | or_else, message
        ids.discard(message["id"])


class VanishingBridge:
    """A session whose client is killed with its whole group, calls on their way."""

    def __init__(self, palace: Path) -> None:
        self._palace = palace

    def visit(self, number: int) -> None:
        with bridge(self._palace) as client:
            client.greet()
            client.send(*(call(n, "search", query=f"{number}, {n}: is anybody there?") for n in range(5)))
            client.send(json.dumps(call("half", "get_taxonomy")).encode()[:20])


class HttpUser:
    """Streamable HTTP on one connection a round, and requests that are refused."""

    def __init__(self, port: int, name: str = "http") -> None:
        self._port = port
        self._agent = Agent(name)

    def visit(self, number: int) -> None:
        with RawHttp(self._port) as http:
            self._agent.work(number, lambda message: http.ask("POST", "/mcp", _keyed(message)).json)
            assert http.ask("POST", "/mcp", b"garbage").status == 400
            assert http.ask("GET", "/mcp").status == 405
            assert http.ask("GET", "/nowhere").status == 404
            assert http.ask("POST", "/mcp", request(1, "ping"), {"Host": "example.com"}).status == 421


def _keyed(message: dict[str, Any]) -> dict[str, Any]:
    """So that every write of this transport leaves a receipt."""
    return {**message, "params": {**message["params"], "_meta": {"idempotencyKey": uuid.uuid4().hex}}}


class Crowd:
    """Many who ask at once, each on a connection of its own: so the server's pools are soon as large as they get."""

    def __init__(self, port: int) -> None:
        self._port = port

    def visit(self, number: int) -> None:
        with ThreadPoolExecutor(CROWD) as threads:
            list(threads.map(self._ask, range(CROWD)))

    def _ask(self, number: int) -> None:
        with RawHttp(self._port) as http:
            answer = http.ask("POST", "/mcp", call(number, "search", query=f"what does number {number} ask for?"))
            assert answer.json["id"] == number


class SseUser:
    """A session over HTTP+SSE, left with a call on its way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._agent = Agent("sse")

    def visit(self, number: int) -> None:
        with SseClient(self._port) as client:
            client.greet()
            self._agent.work(number, client.ask)
            assert client.ask(b"garbage")["error"]["code"] == -32700
            client.post(call("unanswered", "search", query=f"what was in round {number}?"))


class Stranger:
    """Knocks at every transport with half a sentence, and vanishes."""

    def __init__(self, palace: Path, port: int) -> None:
        self._address = DaemonAddress.read(str(palace / "daemon.json"))
        self._port = port

    def visit(self, number: int) -> None:
        message = json.dumps(call(number, "search", query="half a sentence")).encode()
        with RawHttp(self._port) as http:
            http.begin("POST", "/mcp", message)
            _vanish(http.socket)
        with RawHttp(self._port) as http:
            http.begin("POST", "/mcp", message[: number % len(message)], {"Content-Length": str(len(message))})
            _vanish(http.socket)
        with RawHttp(self._port) as http:
            http.begin("GET", "/sse")
            _vanish(http.socket)
        if self._address is not None:
            for hello in (b"", b'{"protocol":', b"garbage\n", os.urandom(64) + b"\n"):
                with self._address.connect() as stream:
                    stream.sendall(hello)


def _vanish(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_FAREWELL)


class Load:
    """All users at once, round after round."""

    def __init__(self, *users: User) -> None:
        self._users = users
        self.rounds = 0

    def round(self) -> None:
        """Let everybody come once; returns when all have gone."""
        self.rounds += 1
        with ThreadPoolExecutor(len(self._users)) as threads:
            for visit in [threads.submit(user.visit, self.rounds) for user in self._users]:
                visit.result()
