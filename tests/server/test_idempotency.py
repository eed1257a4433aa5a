"""Calls that arrive twice: under the client's own key, or under the number that a transport gives the message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from mempalace_mcp.core.call_context import IdempotencyKey
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.daemon.daemon_session import ToolSelection
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.server.calls import CLIENT_SCOPE, idempotency_key
from mempalace_mcp.server.request_context import RequestContext, SessionContext
from mempalace_mcp.server.tools.registry import FULL
from mempalace_mcp.server.tools.tool import Effect
from tests.server.clients import MODERN_REVISION, ROOT, RawHttp, SseClient, call, end, initialize, modern
from tests.server.stream import PalaceWire, palace_session
from tests.storage.support import receipts

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
    "add_drawer": {"wing": "w", "room": "r", "content": "new text"},
    "add_drawer that is there": {"wing": "w", "room": "r", "content": "one"},
    "add_drawer like another": {"wing": "w", "room": "r", "content": "ONE"},
    "update_drawer": {
        "drawer_id": "{one}",
        "content": "changed",
        "metadata": {"Filed": {"n": [1, None, "ü"]}},
    },
    "delete_drawers by id": {"drawer_ids": ["{one}", "{gone}", UNKNOWN]},
    "delete_drawers by filter": {"wing": "w", "dry_run": False},
    "restore_drawers": {"drawer_ids": ["{gone}", "{one}"]},
    "diary_write": {"agent_name": "Scribe", "entry": "done"},
    "checkpoint": {
        "items": [{"wing": "w", "room": "r", "content": text} for text in ("one", "of the checkpoint")],
        "facts": [{"subject": "Ada", "predicate": "likes", "object": "tea"}],
        "diary": {"agent_name": "Scribe", "entry": "checked"},
    },
    "kg_add": {"subject": "Ada", "predicate": "knows", "object": "Bob", "confidence": 0.5},
    "kg_add that is there": {"subject": "Ada", "predicate": "is at", "object": "Acme"},
    "kg_invalidate": {"subject": "Ada", "predicate": "is at", "object": "Acme"},
    "kg_supersede": {"subject": "Ada", "predicate": "is at", "old_object": "Acme", "new_object": "Initech"},
    "delete_drawer": {"drawer_id": "{one}"},
    "delete_by_source": {"source_file": "a.md", "dry_run": False},
    "move_drawers": {"drawer_ids": ["{one}"], "to_wing": "other"},
    "rename_wing": {"wing": "w", "new_name": "other", "dry_run": False},
    "rename_room": {"wing": "w", "room": "r", "new_name": "other", "dry_run": False},
    "undo_move": {"move_id": "{move}"},
    "create_tunnel": {"source_wing": "w", "source_room": "r", "target_wing": "w", "target_room": "attic", "label": "x"},
    "delete_tunnel": {"tunnel_id": "{tunnel}"},
}
"""Calls of the tools that write, on a palace as `furnish` leaves it."""

IMPORTS = "import_path"
"""Leaves no receipt: doing it twice does no harm."""


async def furnish(wire: PalaceWire) -> dict[str, Any]:
    """Drawers, one of them in the trash and one moved, a fact and a tunnel; what they are named by."""
    ids = {
        text: (await wire.content(call(1, "add_drawer", wing="w", room="r", content=text)))["drawer_id"]
        for text in ("one", "gone")
    }
    await wire.content(call(1, "delete_drawers", drawer_ids=[ids["gone"]]))
    await wire.content(call(1, "kg_add", subject="Ada", predicate="is at", object="Acme"))
    filed = await wire.content(call(1, "add_drawer", wing="w", room="r", content="from a file", source_file="a.md"))
    moved = await wire.content(call(1, "move_drawers", drawer_ids=[filed["drawer_id"]], to_room="attic"))
    ends = {"source_wing": "w", "source_room": "attic", "target_wing": "w", "target_room": "r"}
    tunnel = await wire.content(call(1, "create_tunnel", **ends))
    return ids | {"move": moved["move_id"], "tunnel": tunnel["tunnel"]["tunnel_id"]}


def filled(value: Any, names: dict[str, Any]) -> Any:
    """The arguments with their placeholders replaced."""
    if isinstance(value, str):
        if value[1:-1] in names:
            return names[value[1:-1]]
        return value.format_map(names)
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return {key: filled(each, names) for key, each in value.items()} if isinstance(value, dict) else value


def dump(app: App) -> list[str]:
    """All that is stored, as SQL."""
    with app.database.read() as connection:
        return list(cast(Any, connection).iterdump())


def test_every_tool_that_writes_is_tried() -> None:
    assert {write.split()[0] for write in WRITES} == {
        tool.name for tool in FULL if tool.effect is Effect.WRITE and tool.name != IMPORTS
    }


@pytest.mark.parametrize("write", WRITES)
async def test_twice_under_one_key_is_once(tmp_path: Path, write: str) -> None:
    """The same answer byte for byte, also from the next process, and nothing is stored again."""

    async def answer(wire: PalaceWire, message: dict[str, Any]) -> bytes:
        await wire.send(message)
        return await wire.receive_line()

    async with palace_session(tmp_path, ToolSelection("full")) as wire:
        message = with_key("a", write.split()[0], **filled(WRITES[write], await furnish(wire)))
        before = dump(wire.app)
        first = await answer(wire, message)
        assert json.loads(first)["result"]["isError"] is False
        after = dump(wire.app)
        assert after != before
        assert await answer(wire, message) == first
        assert await answer(wire, {**message, "params": dict(reversed(message["params"].items()))}) == first
        another = with_key("a", "diary_write", agent_name="Scribe", entry="of another call")
        assert (await wire.content(another))["error"]["code"] == "conflict"
        assert dump(wire.app) == after
    async with palace_session(tmp_path, ToolSelection("full")) as wire:
        assert await answer(wire, message) == first
        assert dump(wire.app) == after


async def test_a_refused_checkpoint_stores_its_refusal_alone(tmp_path: Path) -> None:
    items = [{"wing": "w", "room": "r", "content": "kept only with the rest"}]
    facts = [{"subject": "Ada", "predicate": "said", "object": "so", "source_drawer_id": UNKNOWN}]
    async with palace_session(tmp_path) as wire:
        for _ in range(2):
            refused = await wire.content(with_key("a", "checkpoint", items=items, facts=facts))
            assert refused["error"]["argument"] == "facts[0].source_drawer_id"
        assert wire.palace.get_taxonomy().drawers == 0
        assert receipts(wire.app.database) == [(CLIENT_SCOPE, "a/0")]


async def test_what_never_reaches_the_store_leaves_no_receipt(tmp_path: Path) -> None:
    drawer = {"wing": "w", "room": "r"}
    async with palace_session(tmp_path) as wire:
        refused = await wire.content(with_key("a", "add_drawer", **drawer, content="  "))
        assert refused["error"]["code"] == "invalid_argument"
        assert "error" not in await wire.content(with_key("a", "delete_drawers", wing="w"))
        assert receipts(wire.app.database) == []
        assert (await wire.content(with_key("a", "add_drawer", **drawer, content="text")))["created"]


async def test_imports_need_no_receipt(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("A note.\n", encoding="utf-8")
    async with palace_session(tmp_path / "palace", ToolSelection("full"), PALACE_IMPORT_ROOTS=str(tmp_path)) as wire:
        assert (await wire.content(with_key("a", IMPORTS, paths=[str(note)])))["filed"] == 1
        assert receipts(wire.app.database) == []


def test_a_refusal_stays_one_when_the_call_would_succeed_by_now(palace: Palace, wing: str) -> None:
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


def test_every_revision_and_transport_carries_the_key(palace: Palace, wing: str) -> None:
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


ENTRY: dict[str, Any] = {"agent_name": "Scribe", "entry": "done"}


async def test_a_numbered_message_is_done_once_whatever_its_id(tmp_path: Path) -> None:
    async with palace_session(tmp_path, scope="bridge 1") as client:
        first = await client.content(call(7, "diary_write", **ENTRY), sequence=1)
        assert await client.content(call("7", "diary_write", **ENTRY), sequence=1) == first
        assert await client.content(call(7, "diary_write", **ENTRY), sequence=2) != first
    async with palace_session(tmp_path, scope="bridge 1") as client:
        assert await client.content(call(0, "diary_write", **ENTRY), sequence=1) == first
        assert (await client.content(call(1, "diary_read", agent_name="Scribe"), sequence=3))["total"] == 2
    async with palace_session(tmp_path, scope="bridge 2") as client:
        assert await client.content(call(7, "diary_write", **ENTRY), sequence=1) != first


@pytest.mark.parametrize(("scope", "sequence"), [(None, 1), ("bridge", None), (None, None)])
async def test_without_scope_and_number_every_message_counts(
    tmp_path: Path, scope: str | None, sequence: int | None
) -> None:
    async with palace_session(tmp_path, scope=scope) as client:
        ids = {(await client.content(call(7, "diary_write", **ENTRY), sequence))["drawer_id"] for _ in range(2)}
        assert len(ids) == 2


async def test_the_key_of_the_client_wins_over_the_number(tmp_path: Path) -> None:
    async with palace_session(tmp_path, scope="bridge") as client:
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


def test_a_transport_gives_a_key_only_with_scope_and_number() -> None:
    numbered = key_of(idempotency_scope="bridge", sequence=0)
    assert numbered is not None
    assert (numbered.scope, numbered.key) == ("bridge", "0")
    assert key_of({"progressToken": 1}, idempotency_scope="bridge", sequence=0) == numbered
    assert key_of(idempotency_scope="bridge") is key_of(sequence=1) is key_of() is None


def test_a_wrong_key_is_refused_though_the_transport_has_one() -> None:
    with pytest.raises(InvalidArgument):
        key_of({KEY: ""}, idempotency_scope="bridge", sequence=0)
