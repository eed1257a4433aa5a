"""Those who use the palace: over stdio through a bridge, over HTTP with keys, and visitors who are killed."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from tests.chaos.ledger import DrawerState, Ledger
from tests.chaos.scenarios import Answer, Call, Story, endless
from tests.daemon.support import bridge
from tests.server.clients import PATIENCE, StdioClient, request
from tests.server.clients import call as tool_call

PIPELINED = 3
PAUSE_SECONDS = 0.02


class Client(Protocol):
    """Sends calls, and receives their answers in any order."""

    def send(self, number: int, call: Call) -> None: ...

    def receive(self) -> tuple[int, Answer]: ...


class BridgeClient:
    """A session over stdio that trusts it: every call is answered once, and none with an error."""

    def __init__(self, client: StdioClient) -> None:
        self._client = client
        self._open: set[int] = set()

    def send(self, number: int, call: Call) -> None:
        self._open.add(number)
        self._client.send(tool_call(number, call.tool, **call.arguments))

    def receive(self) -> tuple[int, Answer]:
        while "method" in (message := self._client.receive()):
            assert "id" not in message, f"a request of the server: {message}"
        assert message.get("id") in self._open, f"nobody asked for it, or it came twice: {message}"
        self._open.remove(message["id"])
        return message["id"], content_of(message)


class HttpClient:
    """Repeats each call under its key until it is answered."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self._port = port
        self._dice = dice
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._connection: http.client.HTTPConnection | None = None
        self.repeated = 0

    def send(self, number: int, call: Call) -> None:
        key = str(uuid.UUID(int=self._dice.getrandbits(128)))
        parameters = {"name": call.tool, "arguments": call.arguments, "_meta": {"idempotencyKey": key}}
        self._waiting.append((number, request(number, "tools/call", **parameters)))

    def receive(self) -> tuple[int, Answer]:
        number, message = self._waiting.pop(0)
        limit = time.monotonic() + 2 * PATIENCE
        while (answer := self._try(message)) is None:
            assert time.monotonic() < limit, "no answer over HTTP"
            self.repeated += 1
            time.sleep(PAUSE_SECONDS)
        return number, content_of(answer)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The answer; None if there is nobody, or nobody who can answer now."""
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self._connection.request("POST", "/mcp", json.dumps(message), headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        if response.status == 503:
            return None
        assert response.status == 200, (response.status, body)
        answer: dict[str, Any] = json.loads(body)
        assert answer["id"] == message["id"], answer
        error = answer.get("result", {}).get("structuredContent", {}).get("error")
        return None if error and error["retryable"] else answer


def content_of(message: Mapping[str, Any]) -> Answer:
    """What a tool answered, which must not be an error."""
    assert "result" in message, f"an error of the protocol: {message}"
    assert not message["result"]["isError"], f"an error of a tool: {message['result']}"
    content: Answer = message["result"]["structuredContent"]
    assert json.loads(message["result"]["content"][0]["text"]) == content
    return content


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one call; instants of the monotonic clock."""

    sent: float
    answered: float


class Agent:
    """Lives several stories at once through one client, until told to stop; then it waits for what is unanswered."""

    def __init__(self, client: Client, stories: Iterator[Story], pipelined: int, pause: float = 0.0) -> None:
        self._client = client
        self._stories = stories
        self._pipelined = pipelined
        self._pause = pause
        self.latencies: list[Latency] = []

    @property
    def answered(self) -> int:
        """How many answers it has got."""
        return len(self.latencies)

    def live(self, stop: threading.Event) -> None:
        numbers = itertools.count(1)
        running: dict[int, tuple[Story, float]] = {}

        def go_on(story: Story, answer: Answer | None) -> bool:
            try:
                following = next(story) if answer is None else story.send(answer)
            except StopIteration:
                return False
            if not stop.is_set():
                running[number := next(numbers)] = (story, time.monotonic())
                self._client.send(number, following)
            return True

        while running or not stop.is_set():
            while len(running) < self._pipelined and not stop.is_set():
                go_on(next(self._stories), None)
            if running:
                number, answer = self._client.receive()
                story, sent = running.pop(number)
                self.latencies.append(Latency(sent, time.monotonic()))
                stop.wait(self._pause)
                go_on(story, answer)


class Visitor:
    """Sessions that are killed with calls on their way: what was not answered is there once or not at all."""

    def __init__(self, palace: Path, package: Path, ledger: Ledger, dice: random.Random) -> None:
        self._palace = palace
        self._package = package
        self._ledger = ledger
        self._dice = dice
        self.visits = 0

    def live(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.visits += 1
            with bridge(self._palace, "--tools", "full", package=self._package) as client:
                client.greet()
                self._visit(BridgeClient(client), [f"visit{self.visits}x{n}: hello" for n in range(6)])

    def _visit(self, client: BridgeClient, texts: Sequence[str]) -> None:
        """Some calls with their answers, then some more without."""
        waited = self._dice.randint(0, len(texts) - 1)
        sent = dict(enumerate(texts))
        self._ledger.perhaps.update(texts)
        for number, text in sent.items():
            client.send(number, Call("diary_write", {"agent_name": "visitor", "entry": text}))
        for _ in range(waited):
            number, answer = client.receive()
            self._ledger.perhaps.remove(sent[number])
            self._ledger.file(answer["drawer_id"], DrawerState(sent[number]))
        time.sleep(self._dice.uniform(0, 0.02))


class Crowd:
    """All of them, each in a thread of its own; the first failure stops everybody."""

    def __init__(
        self, palace: Path, package: Path, port: int, ledger: Ledger, dice: random.Random, log: IO[bytes]
    ) -> None:
        self._palace = palace
        self._package = package
        self._port = port
        self._log = log
        self._ledger = ledger
        self._dice = dice
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._sessions: list[StdioClient] = []
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.stdio: list[Agent] = []
        self.web: list[Agent] = []
        self.http_clients: list[HttpClient] = []
        self.visitor = Visitor(palace, package, ledger, self._own_dice())

    def start(self, bridges: int, web_clients: int) -> None:
        """A session with a process of its own, which nobody kills, writes beside them; Chroma it leaves to others."""
        for number in range(bridges):
            self.stdio.append(self._agent(self._session(), f"b{number}", PIPELINED))
        solo = self._agent(self._session("--solo", PALACE_INDEX="exact"), "s", pause=2 * PAUSE_SECONDS)
        for number in range(web_clients):
            client = HttpClient(self._port, self._own_dice())
            self._stack.callback(client.close)
            self.http_clients.append(client)
            self.web.append(self._agent(client, f"h{number}"))
        for one in (*self.stdio, *self.web, solo, self.visitor):
            self._threads.append(threading.Thread(target=self._guarded, args=(one,)))
            self._threads[-1].start()

    def finish(self) -> None:
        """Let everybody get what is unanswered; the sessions then end as they should."""
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if not self.failures:
            assert [session.finish() for session in self._sessions] == [(0, [])] * len(self._sessions)

    def close(self) -> None:
        """Leave nothing."""
        self.stop.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def _session(self, *options: str, **environment: str) -> BridgeClient:
        client = self._stack.enter_context(
            bridge(
                self._palace,
                "--tools",
                "full",
                *options,
                package=self._package,
                environment={"PALACE_LOG_LEVEL": "info", **environment},
                stderr=self._log.fileno(),
            )
        )
        client.greet()
        self._sessions.append(client)
        return BridgeClient(client)

    def _agent(self, client: Client, name: str, pipelined: int = 1, pause: float = 0.0) -> Agent:
        return Agent(client, endless(self._ledger, name, self._own_dice()), pipelined, pause)

    def _own_dice(self) -> random.Random:
        return random.Random(self._dice.getrandbits(64))

    def _guarded(self, one: Agent | Visitor) -> None:
        try:
            one.live(self.stop)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            self.failures.append(error)
            self.stop.set()
