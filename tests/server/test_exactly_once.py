"""Writes that arrive twice: over HTTP under the client's own key, from a transport under the number of the message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from mempalace_mcp.core.call_context import IdempotencyKey
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.server.calls import CLIENT_SCOPE, idempotency_key
from mempalace_mcp.server.jsonrpc import Message, read_message
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.request_context import RequestContext, SessionContext
from mempalace_mcp.server.session import Session
from tests.palace.support import opened
from tests.server.clients import (
    INITIALIZED,
    MODERN_REVISION,
    ROOT,
    RawHttp,
    SseClient,
    call,
    end,
    initialize,
    modern,
)

pytestmark = pytest.mark.long

KEY = "idempotencyKey"
THREADS = 16
UNKNOWN = "d_" + "0" * 24


def with_key(key: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool call that carries a key."""
    message = call(1, tool, **arguments)
    return {**message, "params": {**message["params"], "_meta": {KEY: key}}}


class Palace:
    """A server process of a palace, spoken to over one connection."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.http = RawHttp(port)

    def raw(self, message: dict[str, Any]) -> bytes:
        """The body that answers a message."""
        response = self.http.ask("POST", "/mcp", message)
        assert response.status == 200, response.body
        return response.body

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """What a tool answers."""
        content: dict[str, Any] = json.loads(self.raw(message))["result"]["structuredContent"]
        return content

    def tell(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers to a call without a key."""
        return self.ask(call(1, tool, **arguments))


@contextmanager
def served(palace: Path) -> Iterator[Palace]:
    """A new server process of the palace, killed at the end."""
    command = [sys.executable, "-m", "mempalace_mcp", "serve", "--port", "0", "--palace", str(palace), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        assert process.stdout is not None
        port = urlsplit(json.loads(process.stdout.readline())["address"]).port
        assert port is not None
        running = Palace(process, port)
        with running.http:
            yield running
    finally:
        end(process)


@pytest.fixture(scope="module")
def palace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Palace]:
    with served(tmp_path_factory.mktemp("served")) as palace:
        yield palace


@pytest.fixture
def wing(request: pytest.FixtureRequest) -> str:
    """A wing for this test alone."""
    return str(request.node.name)[:100]


WRITES: dict[str, dict[str, Any]] = {
    "add_drawer": {"wing": "{wing}", "room": "r", "content": "new"},
    "update_drawer": {"drawer_id": "{one}", "content": "changed"},
    "delete_drawers": {"drawer_ids": ["{one}", UNKNOWN]},
    "delete_drawers by filter": {"wing": "{wing}", "dry_run": False},
    "restore_drawers": {"drawer_ids": ["{gone}", "{one}"]},
    "diary_write": {"agent_name": "{wing}", "entry": "done"},
    "checkpoint": {
        "items": [{"wing": "{wing}", "room": "r", "content": "checked"}],
        "facts": [{"subject": "{wing}", "predicate": "is", "object": "checked"}],
        "diary": {"agent_name": "{wing}", "entry": "checked"},
    },
    "kg_add": {"subject": "{wing}", "predicate": "knows", "object": "Bob"},
    "kg_invalidate": {"subject": "{wing}", "predicate": "is at", "object": "Acme"},
    "kg_supersede": {"subject": "{wing}", "predicate": "is at", "old_object": "Acme", "new_object": "Initech"},
}


def filled(value: Any, names: dict[str, str]) -> Any:
    """The arguments with their placeholders replaced."""
    if isinstance(value, str):
        return value.format_map(names)
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return {key: filled(each, names) for key, each in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", WRITES)
def test_the_same_answer_byte_for_byte(palace: Palace, wing: str, name: str) -> None:
    add = ("one", "gone")
    ids = {text: palace.tell("add_drawer", wing=wing, room="r", content=text)["drawer_id"] for text in add}
    palace.tell("delete_drawers", drawer_ids=[ids["gone"]])
    palace.tell("kg_add", subject=wing, predicate="is at", object="Acme")
    message = with_key(f"{name} of {wing}", name.split()[0], **filled(WRITES[name], {"wing": wing, **ids}))
    first = palace.raw(message)
    assert json.loads(first)["result"]["isError"] is False
    before = palace.tell("status")["palace"]
    assert palace.raw(message) == first
    assert palace.raw({**message, "params": dict(reversed(message["params"].items()))}) == first
    after = palace.tell("status")["palace"]
    counts = ("drawers", "facts", "seq")
    assert [after.get(count) for count in counts] == [before.get(count) for count in counts]
    assert palace.ask({**message, "params": {**message["params"], "arguments": {}}})["error"]["code"] in (
        "invalid_argument",
        "conflict",
    )


def test_refusals_are_repeated_byte_for_byte(palace: Palace, wing: str) -> None:
    message = with_key(wing, "kg_invalidate", subject=wing, predicate="is at", object="Acme")
    first = palace.raw(message)
    assert json.loads(first)["result"]["structuredContent"]["error"]["code"] == "not_found"
    assert palace.tell("kg_add", subject=wing, predicate="is at", object="Acme")["created"]
    assert palace.raw(message) == first
    assert palace.tell("kg_query", entity=wing)["facts"][0]["current"] is True


def test_another_call_under_the_key_is_a_conflict(palace: Palace, wing: str) -> None:
    assert palace.ask(with_key(wing, "diary_write", agent_name=wing, entry="one"))["drawer_id"]
    error = palace.ask(with_key(wing, "diary_write", agent_name=wing, entry="two"))["error"]
    assert (error["code"], error["argument"], error["retryable"]) == ("conflict", "_meta.idempotencyKey", False)
    assert error["hint"]
    assert palace.tell("diary_read", agent_name=wing)["total"] == 1


@pytest.mark.parametrize("key", ["", "x" * 129, 5, None, ["a"], {}, True])
def test_what_is_no_key_is_refused(palace: Palace, key: Any, wing: str) -> None:
    error = palace.ask(with_key(key, "diary_write", agent_name=wing, entry="one"))["error"]
    assert (error["code"], error["argument"]) == ("invalid_argument", "_meta.idempotencyKey")
    assert palace.tell("diary_read", agent_name=wing).get("total", 0) == 0


@pytest.mark.parametrize("key", ["x", "x" * 128, "a/0", "ключ 🔑", "\0", " "])
def test_any_short_text_is_a_key(palace: Palace, key: str, wing: str) -> None:
    message = with_key(key, "diary_write", agent_name=wing, entry="one")
    assert palace.raw(message) == palace.raw(message)
    assert palace.tell("diary_read", agent_name=wing)["total"] == 1


def test_reading_takes_a_key_and_stays_up_to_date(palace: Palace, wing: str) -> None:
    read = with_key(wing, "diary_read", agent_name=wing)
    assert palace.ask(read)["total"] == 0
    palace.tell("diary_write", agent_name=wing, entry="one")
    assert palace.ask(read)["total"] == 1


def test_every_revision_and_door_carries_the_key(palace: Palace, wing: str) -> None:
    message = with_key(wing, "diary_write", agent_name=wing, entry="one")
    first = palace.ask(message)
    params = modern(call(1, "diary_write", agent_name=wing, entry="one"))["params"]
    headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": "tools/call", "Mcp-Name": "diary_write"}
    newest = {**message, "params": {**params, "_meta": {**params["_meta"], KEY: wing}}}
    modern_answers = [palace.http.ask("POST", "/mcp", newest, headers).json["result"] for _ in range(2)]
    with SseClient(palace.port) as client:
        client.greet()
        sse_answers = [client.ask(message)["result"]["structuredContent"] for _ in range(2)]
    assert palace.ask(message) == first
    assert modern_answers[0]["structuredContent"] == modern_answers[1]["structuredContent"]
    assert sse_answers[0] == sse_answers[1]
    assert palace.tell("diary_read", agent_name=wing)["total"] == 3, "three clients, as far as one can tell"


def test_clients_that_choose_the_same_key_do_not_meet(palace: Palace, wing: str) -> None:
    def write(entry: str, **headers: str) -> dict[str, Any]:
        message = with_key("one", "diary_write", agent_name=wing, entry=entry)
        answer: dict[str, Any] = palace.http.ask("POST", "/mcp", message, headers).json["result"]["structuredContent"]
        return answer

    sessions = [palace.http.ask("POST", "/mcp", initialize()).headers["mcp-session-id"] for _ in range(2)]
    written = [write("the same", **{"Mcp-Session-Id": session}) for session in sessions for _ in range(2)]
    assert written[0] == written[1]
    assert written[2] == written[3]
    assert written[0]["drawer_id"] != written[2]["drawer_id"]
    assert write("another", **{"Mcp-Session-Id": sessions[0]})["error"]["code"] == "conflict"
    assert "drawer_id" in write("another", **{"Mcp-Session-Id": "of a third".replace(" ", "-")})


def test_a_client_keeps_its_keys_when_its_stream_is_cut(palace: Palace, wing: str) -> None:
    message = with_key("one", "diary_write", agent_name=wing, entry="the same")
    with SseClient(palace.port) as client:
        client_id = client.stream.file.readline().decode().removeprefix("id: ").strip()
        first = client.ask(message)["result"]["structuredContent"]
    with SseClient(palace.port, {"Last-Event-ID": client_id}) as client:
        assert client.ask(message)["result"]["structuredContent"] == first
    with SseClient(palace.port) as client:
        assert client.ask(message)["result"]["structuredContent"]["drawer_id"] != first["drawer_id"]


def test_sixteen_clients_with_one_key(palace: Palace, wing: str) -> None:
    message = with_key(wing, "diary_write", agent_name=wing, entry="one")

    def ask(_: int) -> bytes:
        with RawHttp(palace.port) as http:
            return http.ask("POST", "/mcp", message).body

    with ThreadPoolExecutor(THREADS) as threads:
        assert len(set(threads.map(ask, range(THREADS)))) == 1
    assert palace.tell("diary_read", agent_name=wing)["total"] == 1


def test_killed_in_full_flight(tmp_path: Path) -> None:
    """The server dies among answers; everything is asked again of a new one. Diaries show every double."""
    clients, entries, heard_before_kill = 4, 40, 40
    messages = {
        f"{client}.{entry}": with_key(f"{client}.{entry}", "diary_write", agent_name="Scribe", entry="the same words")
        for client in range(clients)
        for entry in range(entries)
    }
    heard: dict[str, bytes] = {}

    def speak(running: Palace, client: int) -> None:
        with RawHttp(running.port) as http:
            for entry in range(entries):
                try:
                    body = http.ask("POST", "/mcp", messages[f"{client}.{entry}"]).body
                    json.loads(body)
                except (OSError, ValueError, IndexError):  # cut off, anywhere in the answer
                    return
                heard[f"{client}.{entry}"] = body
                if len(heard) == heard_before_kill:
                    running.process.kill()

    with served(tmp_path) as running, ThreadPoolExecutor(clients) as threads:
        for future in [threads.submit(speak, running, client) for client in range(clients)]:
            future.result()
    assert heard_before_kill <= len(heard) < len(messages)
    with served(tmp_path) as running:
        again = {key: running.raw(message) for key, message in messages.items()}
        assert {key: again[key] for key in heard} == heard
        assert running.tell("diary_read", agent_name="Scribe")["total"] == len(messages)
        written = {json.loads(body)["result"]["structuredContent"]["drawer_id"] for body in again.values()}
        assert len(written) == len(messages)


class Door:
    """A transport that numbers the messages of its one client."""

    def __init__(self, app: App, scope: str | None) -> None:
        self._scope = scope
        self._activity = app.activity.open(Transport.SOCKET)
        self._sink, self._source = anyio.create_memory_object_stream[bytes](100)
        self.session = Session(MethodServer(services_of(app, ToolSelection())), self._activity, self._sink.send)

    async def send(self, message: dict[str, Any], sequence: int | None = None) -> None:
        data = json.dumps(message).encode()
        read = read_message(data)
        assert isinstance(read, Message)
        context = RequestContext.of_message(self.session.context, read, len(data), self._scope, sequence)
        await self.session.take(read, context)

    async def ask(self, message: dict[str, Any], sequence: int | None = None) -> dict[str, Any]:
        await self.send(message, sequence)
        with anyio.fail_after(30):
            answer: dict[str, Any] = json.loads(await self._source.receive())
        return answer

    async def content(self, message: dict[str, Any], sequence: int | None = None) -> dict[str, Any]:
        content: dict[str, Any] = (await self.ask(message, sequence))["result"]["structuredContent"]
        return content

    def close(self) -> None:
        self.session.abort()
        self._sink.close()
        self._source.close()
        self._activity.close()


@asynccontextmanager
async def door(directory: Path, scope: str | None) -> AsyncIterator[Door]:
    """A session with a new process on the palace."""
    with opened(directory, started=False) as app:
        client = Door(app, scope)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.session.serve)
            await client.ask(initialize())
            await client.send(INITIALIZED)
            yield client
            client.close()


ENTRY: dict[str, Any] = {"agent_name": "Scribe", "entry": "done"}


async def test_a_numbered_message_is_done_once_whatever_its_id(tmp_path: Path) -> None:
    async with door(tmp_path, "bridge 1") as client:
        first = await client.content(call(7, "diary_write", **ENTRY), sequence=1)
        assert await client.content(call("7", "diary_write", **ENTRY), sequence=1) == first
        assert await client.content(call(7, "diary_write", **ENTRY), sequence=2) != first
    async with door(tmp_path, "bridge 1") as client:
        assert await client.content(call(0, "diary_write", **ENTRY), sequence=1) == first
        assert (await client.content(call(1, "diary_read", agent_name="Scribe"), sequence=3))["total"] == 2
    async with door(tmp_path, "bridge 2") as client:
        assert await client.content(call(7, "diary_write", **ENTRY), sequence=1) != first


@pytest.mark.parametrize(("scope", "sequence"), [(None, 1), ("bridge", None), (None, None)])
async def test_without_scope_and_number_every_message_counts(
    tmp_path: Path, scope: str | None, sequence: int | None
) -> None:
    async with door(tmp_path, scope) as client:
        ids = {(await client.content(call(7, "diary_write", **ENTRY), sequence))["drawer_id"] for _ in range(2)}
        assert len(ids) == 2


async def test_the_key_of_the_client_wins_over_the_number(tmp_path: Path) -> None:
    async with door(tmp_path, "bridge") as client:
        message = with_key("mine", "diary_write", **ENTRY)
        first = await client.content(message, sequence=1)
        assert await client.content(message, sequence=2) == first
        assert await client.content(call(1, "diary_write", **ENTRY), sequence=1) != first


def key_of(meta: dict[str, Any] | None = None, arguments: Any = None, **origin: Any) -> IdempotencyKey | None:
    """The key of a call of `tool`."""
    session = Activity(1).open(Transport.SOCKET)
    return idempotency_key(RequestContext(SessionContext(session), 0, **origin), "tool", arguments or {}, meta or {})


def test_the_digest_is_of_the_request_in_any_order() -> None:
    one, other = (
        key_of({KEY: "k"}, {"a": 1, "b": {"c": [1], "d": 2}}),
        key_of({KEY: "k"}, {"b": {"d": 2, "c": [1]}, "a": 1}),
    )
    assert one is not None
    assert one == other
    assert (one.scope, one.key, len(one.digest)) == (CLIENT_SCOPE, "k", 16)
    for different in ({"a": 1}, {"a": 1, "b": {"c": [1, 1], "d": 2}}, {"a": "1", "b": {"c": [1], "d": 2}}, None):
        changed = key_of({KEY: "k"}, different)
        assert changed is not None
        assert changed.digest != one.digest


def test_no_arguments_are_empty_arguments() -> None:
    assert key_of({KEY: "k"}, None) == key_of({KEY: "k"}, {})


def test_a_door_gives_a_key_only_with_both_parts() -> None:
    numbered = key_of(idempotency_scope="bridge", sequence=0)
    assert numbered is not None
    assert (numbered.scope, numbered.key) == ("bridge", "0")
    assert key_of({"progressToken": 1}, idempotency_scope="bridge", sequence=0) == numbered
    assert key_of(idempotency_scope="bridge") is key_of(sequence=1) is key_of() is None


def test_a_wrong_key_is_refused_though_the_door_has_one() -> None:
    with pytest.raises(InvalidArgument):
        key_of({KEY: ""}, idempotency_scope="bridge", sequence=0)
