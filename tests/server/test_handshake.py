"""What sessions are answered without the SDK is what the SDK would answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mcp_types
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.server.runner import ServerRunner
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import methods, version

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.server import initialize as handshake
from mempalace_mcp.server import jsonrpc
from mempalace_mcp.server.initialize import revision_for
from mempalace_mcp.server.methods import SUBSCRIPTION_ID, MethodServer
from mempalace_mcp.server.resources import PAGE
from mempalace_mcp.server.services import Services
from tests.palace.support import opened
from tests.server.clients import HANDSHAKE_REVISIONS, INITIALIZED, call, initialize, modern, request
from tests.server.echo_services import EchoServices, Pool, echo_services
from tests.server.stream import served

pytestmark = pytest.mark.long

CLIENT = {"name": "test", "version": "1"}
OFFER: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
PING = request(1, "ping")
LIST = request(2, "tools/list")
READ = request(3, "resources/read", uri="no such thing")
LISTS = [request(method, method) for method in ("resources/list", "resources/templates/list", "prompts/list")]
HELLO = initialize()
CANCELLED = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
TASK_REQUESTS: dict[str, Any] = {"sampling": {"createMessage": {}}, "elicitation": {"create": {}}}

CLIENTS: list[Any] = [
    None,
    [],
    {"name": "test"},
    {"name": 1, "version": "1"},
    {"name": "test", "version": None},
    {**CLIENT, "title": "Test", "description": "d", "websiteUrl": "not a URL"},
    {**CLIENT, "title": None},
    {**CLIENT, "title": 1},
    {**CLIENT, "icons": []},
    {**CLIENT, "icons": [{"source": "x"}]},
    {**CLIENT, "website_url": 5, "unheard": [1]},
]
CAPABILITIES: list[Any] = [
    None,
    [],
    {"roots": None},
    {"roots": {"listChanged": True}},
    {"roots": {"listChanged": "perhaps"}},
    {"roots": {"listChanged": {}}},
    {"sampling": {"context": {"a": 1}, "tools": {}}, "elicitation": {"form": {}, "url": {}}},
    {"sampling": {"context": 5}},
    {"elicitation": True},
    {"tasks": {"list": {}, "cancel": {}, "requests": TASK_REQUESTS}},
    {"tasks": {"requests": {"elicitation": {"create": 5}}}},
    {"experimental": {"one": {"enabled": True, "list": [1]}}, "extensions": {"two": {"mimeTypes": ["text/html"]}}},
    {"experimental": {"one": True}},
    {"extensions": [1]},
    {"tools": True, "unheard": [None]},
]


class SdkAlone(MethodServer):
    """Leaves everything but calls to the SDK."""

    def initialize(self, params: Mapping[str, Any] | None, *, tools_change: bool) -> None:
        return None

    def is_plain(self, content: Mapping[str, Any]) -> bool:
        return content["method"] == jsonrpc.CALL and super().is_plain(content)


async def answers(services: Services, server: MethodServer, messages: Sequence[Any], access: Principal) -> list[Any]:
    """What a session says to these messages, one after the other."""
    async with served(services, server, access) as wire:
        for message in messages:
            await wire.send(message)
            await wire.session.drain(30)
        return [await wire.receive() for _ in range(wire.unread)]


async def verify(services: Services, *messages: Any, access: Principal = FULL) -> list[Any]:
    """The answers, after checking that the SDK alone gives the same."""
    ours = await answers(services, MethodServer(services), messages, access)
    assert ours == await answers(services, SdkAlone(services), messages, access)
    return ours


@pytest.mark.parametrize("revision", [*HANDSHAKE_REVISIONS, "2026-07-28", "1999-01-01", "", 5, None])
async def test_every_revision_is_negotiated_as_the_sdk_does(revision: Any) -> None:
    with echo_services() as services:
        hello = request("é", "initialize", **{**OFFER, "protocolVersion": revision})
        told = await verify(services, hello, INITIALIZED, PING, LIST, call(4, "echo", a=1), *LISTS, READ, PING, *LISTS)
        assert len(told) == 12


@pytest.mark.parametrize("client", CLIENTS)
async def test_clients_may_say_who_they_are_as_they_like(client: Any) -> None:
    with echo_services() as services:
        await verify(services, request(0, "initialize", **{**OFFER, "clientInfo": client}), INITIALIZED, LIST)


@pytest.mark.parametrize("capabilities", CAPABILITIES)
async def test_clients_may_say_what_they_can_as_they_like(capabilities: Any) -> None:
    with echo_services() as services:
        await verify(services, request(0, "initialize", **{**OFFER, "capabilities": capabilities}), INITIALIZED, LIST)


@pytest.mark.parametrize(
    "messages",
    [
        [request(0, "initialize")],
        [{**request(0, "initialize"), "params": None}],
        [request(0, "initialize", **OFFER, unheard={"a": [1]}), LIST],
        [request(0, "initialize", **OFFER, _meta={"progressToken": True}), LIST],
        [request(0, "initialize", **OFFER, _meta=5), LIST],
        [modern(HELLO), LIST],
        [HELLO, LIST],
        [HELLO, INITIALIZED, initialize("2024-11-05"), LIST, READ],
        [HELLO, INITIALIZED, READ, initialize("2024-11-05"), LIST],
        [HELLO, INITIALIZED, request(0, "initialize", protocolVersion=1), PING, LIST, READ],
        [HELLO, INITIALIZED, modern(LIST), modern(PING), LIST],
        [HELLO, INITIALIZED, CANCELLED, PING, READ, CANCELLED, PING],
        [HELLO, {"jsonrpc": "2.0", "id": 1, "result": {}}, {"jsonrpc": "2.0", "method": "unheard"}, PING],
        [HELLO, INITIALIZED, request(9, "no/such/method"), LIST],
        [HELLO, INITIALIZED, request(9, "logging/setLevel", level="debug"), LIST],
        [PING, HELLO, INITIALIZED, LIST],
        [PING, modern(LIST)],
        [LIST, call(4, "echo"), READ, HELLO, LIST],
        [INITIALIZED, LIST, HELLO, LIST],
        [*LISTS, HELLO, *LISTS],
        [HELLO, INITIALIZED, *map(modern, LISTS), *LISTS],
        [CANCELLED, HELLO, LIST],
        [modern(LIST), HELLO, LIST],
    ],
)
async def test_messages_in_any_order_are_answered_as_the_sdk_does(messages: Sequence[Any]) -> None:
    with echo_services() as services:
        await verify(services, *messages)


@pytest.mark.parametrize("method", ["ping", "tools/list", *(message["method"] for message in LISTS)])
@pytest.mark.parametrize(
    "params",
    [{"unheard": 1}, {"cursor": None}, {"cursor": ""}, {"cursor": "x"}, {"cursor": 5}]
    + [
        {"_meta": meta}
        for meta in (None, 5, {}, {"own": 1}, *({"progressToken": token} for token in (1, "", None, True, 1.5, [1])))
    ],
)
async def test_odd_parameters_of_plain_requests_are_seen_as_the_sdk_does(method: str, params: dict[str, Any]) -> None:
    with echo_services() as services:
        await verify(services, HELLO, INITIALIZED, request(1, method, **params))


ACCESSES = [FULL, Principal("reader", writes=False), Principal("limited", wings=("w",))]


@pytest.mark.parametrize("access", ACCESSES)
async def test_real_tools_and_instructions_are_told_as_the_sdk_does(tmp_path: Path, access: Principal) -> None:
    with opened(tmp_path, started=False) as app:
        listed = (await verify(services_of(app, ToolSelection("full")), HELLO, INITIALIZED, LIST, access=access))[1]
        assert ("add_drawer" in {tool["name"] for tool in listed["result"]["tools"]}) == access.writes


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize(
    "offer", [ToolSelection(), ToolSelection("full", prefix="palace_"), ToolSelection(read_only=True)]
)
async def test_lists_are_told_page_by_page_in_every_revision_as_the_sdk_does(
    tmp_path: Path, offer: ToolSelection, access: Principal
) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.checkpoint(
            [{"wing": wing, "room": "r", "content": f"{wing} {n}"} for wing in "wx" for n in range(PAGE)]
        )
        app.palace.add_drawer("W", "ä / b", " # Title\x01\u2028 🌍\nmore", source_file="/notes/a.md")
        services = services_of(app, offer)
        for revision in HANDSHAKE_REVISIONS:
            hello = (initialize(revision), INITIALIZED)
            _, resources, templates, prompts = await verify(services, *hello, *LISTS, access=access)
            assert [len(resources["result"]["resources"]), len(templates["result"]["resourceTemplates"])] == [PAGE, 3]
            assert len(prompts["result"]["prompts"]) == (3 if access.writes and not offer.read_only else 2)
            following = request(
                1, "resources/list", cursor=resources["result"]["nextCursor"], _meta={"progressToken": 1}
            )
            assert len((await verify(services, *hello, following, access=access))[1]["result"]["resources"]) >= 1


async def test_lists_are_refused_as_the_sdk_does(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        services = services_of(app, ToolSelection())
        bad = [request(1, message["method"], cursor="bad") for message in LISTS]
        refused = (await verify(services, HELLO, INITIALIZED, *bad))[1:]
        assert {each["error"]["data"]["argument"] for each in refused} == {"cursor"}
        app.database.close()
        _, failed, *told = await verify(services, HELLO, INITIALIZED, *LISTS)
        assert failed["error"]["code"] == mcp_types.INTERNAL_ERROR
        assert all("result" in each for each in told)


async def test_a_list_is_not_told_to_whoever_has_cancelled_it() -> None:
    held = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(held.wait)
        try:
            async with served(EchoServices(Pool(threads))) as wire:
                await wire.greet()
                await wire.send(request(1, "prompts/list"))
                await wire.send(CANCELLED)
                await wire.session.drain(30)
                assert (wire.session.in_flight, wire.unread) == (0, 0)
        finally:
            held.set()


@pytest.mark.parametrize("token", ["é", 0, True])
async def test_progress_is_told_as_the_sdk_does(token: str | int) -> None:
    message = call(1, "slow", seconds=1.2)
    message["params"]["_meta"] = {"progressToken": token}
    with_sdk = {**message, "params": {**message["params"], "unheard": 1}}
    with echo_services() as services:
        told, told_by_sdk = [
            await answers(services, MethodServer(services), [HELLO, each], FULL) for each in (message, with_sdk)
        ]
    reports = [each["params"] for each in (*told, *told_by_sdk) if each.get("method") == "notifications/progress"]
    assert len(reports) == (0 if token is True else 2)
    for report in reports:
        assert report.pop("progress") >= 1
    assert told == told_by_sdk


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = ("roots", "sampling", "elicitation", "tasks", "experimental", "extensions", "listChanged", "requests", "create")
OBJECTS = st.recursive(
    st.just({}) | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(max_size=3) | JSON
PEOPLE = st.fixed_dictionaries(
    {"name": TEXTS, "version": TEXTS},
    optional={"title": TEXTS, "icons": JSON, "websiteUrl": TEXTS, "description": TEXTS},
)
OFFERS = st.fixed_dictionaries(
    {},
    optional={
        "protocolVersion": st.sampled_from(version.KNOWN_PROTOCOL_VERSIONS) | JSON,
        "clientInfo": PEOPLE | JSON,
        "capabilities": OBJECTS | JSON,
        "_meta": JSON,
    },
)


@given(OFFERS | OBJECTS.map(lambda capabilities: {**OFFER, "capabilities": capabilities}))
@example(OFFER)
def test_what_is_accepted_the_sdk_accepts(offer: dict[str, Any]) -> None:
    revision = revision_for(offer)
    if revision is not None:
        methods.validate_client_request("initialize", version.LATEST_HANDSHAKE_VERSION, offer)
        assert ServerRunner._negotiate_initialize(offer)[1] == revision


def test_the_words_of_the_protocol_are_the_sdks() -> None:
    assert handshake.HANDSHAKE_REVISIONS == version.HANDSHAKE_PROTOCOL_VERSIONS
    assert (jsonrpc.INVALID_PARAMS, jsonrpc.INTERNAL_ERROR) == (mcp_types.INVALID_PARAMS, mcp_types.INTERNAL_ERROR)
    assert handshake.CONNECTION_CLOSED == mcp_types.CONNECTION_CLOSED
    assert handshake.PROTOCOL_VERSION == mcp_types.PROTOCOL_VERSION_META_KEY
    assert SUBSCRIPTION_ID == SUBSCRIPTION_ID_META_KEY
