"""The official client over every transport: what it is told, asks for, and is promised."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.session import IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    TextContent,
    TextResourceContents,
)

from mempalace_mcp.server.methods import RESOURCE_NOT_FOUND
from tests.conformance.conftest import TRANSPORTS, Target
from tests.server.clients import MODERN_REVISION, PATIENCE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

LAST_HANDSHAKE = "2025-11-25"
SLOW_TO_START = ("stdio", MODERN_REVISION)
"""A process of its own; once is enough, for what it does with a message is what the bridge's server does."""

PEERS = [peer for peer in itertools.product(TRANSPORTS, (LAST_HANDSHAKE, MODERN_REVISION)) if peer != SLOW_TO_START]


@dataclass
class Peer:
    """A connected client, and what it was told unasked."""

    transport: str
    revision: str
    client: Client
    heard: asyncio.Queue[IncomingMessage]

    @property
    def modern(self) -> bool:
        return self.revision == MODERN_REVISION

    @property
    def wing(self) -> str:
        """A wing of its own."""
        return f"{self.transport} {self.revision}"

    async def file(self, room: str, content: str) -> str:
        """File a drawer; its id."""
        answer = await self.use("add_drawer", wing=self.wing, room=room, content=content)
        drawer: str = answer["drawer_id"]
        return drawer

    async def use(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed; its structured content."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result
        content: dict[str, Any] = result.structured_content or {}
        return content


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=PEERS, ids=[" ".join(peer).replace(" ", "-") for peer in PEERS]
)
async def peer(request: pytest.FixtureRequest, target: Target) -> AsyncIterator[Peer]:
    """Connected in a task of its own, for what the client opens must be closed where it was opened."""
    transport, revision = request.param
    connected: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()
    heard: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    async def hear(message: IncomingMessage) -> None:
        heard.put_nowait(message)

    async def hold() -> None:
        mode = "auto" if revision == MODERN_REVISION else "legacy"
        async with Client(target.connect(transport), mode=mode, message_handler=hear) as client:
            connected.set_result(Peer(transport, revision, client, heard))
            await done.wait()

    holding = asyncio.create_task(hold())
    holding.add_done_callback(lambda _: connected.done() or connected.cancel())
    yield await connected
    done.set()
    await holding


async def test_the_server_introduces_itself(peer: Peer) -> None:
    client = peer.client
    assert client.protocol_version == peer.revision
    assert client.server_info is not None
    assert client.server_info.name == "mempalace-mcp"
    assert "long-term memory" in (client.instructions or "")
    offered = client.server_capabilities
    assert offered.tools is not None
    assert offered.prompts is not None
    assert offered.completions is not None
    assert offered.logging is None
    assert offered.resources is not None
    assert offered.resources.subscribe is (peer.modern or peer.transport != "http")


async def test_tools_are_listed_alike_each_time_with_schemas_that_are_valid(peer: Peer) -> None:
    listed = await peer.client.list_tools()
    assert listed == await peer.client.list_tools(cache_mode="bypass")
    assert listed.next_cursor is None
    for tool in listed.tools:
        assert tool.description
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is not None
        assert tool.input_schema["type"] == "object"
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.output_schema is not None
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)


async def test_structured_content_is_what_the_schema_promises(peer: Peer) -> None:
    schemas = {tool.name: tool.output_schema for tool in (await peer.client.list_tools()).tools}
    item = {"wing": peer.wing, "room": "calls", "content": "A text.\n"}
    fact = {"subject": peer.wing, "predicate": "has", "object": "rooms"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("add_drawer", item),
        ("checkpoint", {"items": [item], "facts": [fact], "diary": {"agent_name": peer.wing, "entry": "Done."}}),
        ("search", {"query": "text", "wing": peer.wing}),
        ("list_drawers", {"wing": peer.wing}),
        ("check_duplicate", {"content": "A text.\n"}),
        ("kg_query", {"entity": peer.wing}),
        ("kg_timeline", {"entity": peer.wing}),
        ("kg_stats", {}),
        ("diary_read", {"agent_name": peer.wing}),
        ("get_taxonomy", {}),
        ("wake_up", {}),
        ("status", {}),
        ("history", {}),
    ]
    for tool, arguments in calls:
        result = await peer.client.call_tool(tool, arguments)
        assert not result.is_error, result
        jsonschema.validate(result.structured_content, schemas[tool] or {}, jsonschema.Draft202012Validator)
        [block] = result.content
        assert isinstance(block, TextContent)
        assert json.loads(block.text) == result.structured_content


async def test_a_refused_call_is_an_error_result_that_helps(peer: Peer) -> None:
    refusals: list[tuple[str, dict[str, Any], str, str]] = [
        ("search", {"query": "x", "limit": -1}, "invalid_argument", "limit"),
        ("search", {"question": "x"}, "invalid_argument", "question"),
        ("sarch", {}, "not_found", "name"),
    ]
    for tool, arguments, code, argument in refusals:
        result = await peer.client.call_tool(tool, arguments)
        assert result.is_error
        assert result.structured_content is not None
        error = result.structured_content["error"]
        assert (error["code"], error["argument"]) == (code, argument)
        assert error["hint"]


async def test_resources_are_listed_and_read_verbatim(peer: Peer) -> None:
    drawer = await peer.file("resources", "Kept byte for byte: ä 🌍\t\r\n")
    listed = (await peer.client.list_resources(cache_mode="bypass")).resources
    [resource] = [each for each in listed if each.name == drawer]
    [contents] = (await peer.client.read_resource(resource.uri)).contents
    assert isinstance(contents, TextResourceContents)
    assert contents.text == "Kept byte for byte: ä 🌍\t\r\n"
    templates = (await peer.client.list_resource_templates()).resource_templates
    assert [template.name for template in templates] == ["wing", "room", "drawer"]


async def test_a_resource_that_is_not_there_is_said_not_to_be_there(peer: Peer) -> None:
    for uri in ("test://nothing", "palace://nowhere", "palace://nowhere/at/all/here"):
        with pytest.raises(MCPError) as refused:
            await peer.client.read_resource(uri)
        assert refused.value.error.code == (INVALID_PARAMS if peer.modern else RESOURCE_NOT_FOUND)
        assert refused.value.error.data["uri"] == uri


async def test_whoever_subscribes_hears_of_changes_until_it_unsubscribes(peer: Peer) -> None:
    client, room = peer.client, f"palace://{peer.wing.replace(' ', '%20')}/watched"
    with anyio.fail_after(PATIENCE):
        if peer.modern:
            async with client.listen(resource_subscriptions=[room, "test://foreign"]) as subscription:
                assert subscription.honored.resource_subscriptions == [room]
                await peer.file("watched", "first")
                assert (await anext(aiter(subscription))).uri == room  # type: ignore[union-attr]
        elif peer.transport == "http":
            with pytest.raises(MCPError, match="Method not found"):
                await client.subscribe_resource(room)
        else:
            await client.subscribe_resource(room)
            await peer.file("watched", "first")
            assert await updated(peer) == room
            await client.unsubscribe_resource(room)
            await client.subscribe_resource(f"{room}%20too")
            await peer.file("watched", "second")
            await peer.file("watched too", "third")
            assert await updated(peer) == f"{room}%20too"


async def updated(peer: Peer) -> str:
    """The resource of which the next notification says that it has changed."""
    while not isinstance(told := await peer.heard.get(), ResourceUpdatedNotification):
        assert not isinstance(told, Exception), told
    return told.params.uri


async def test_prompts_are_listed_and_written(peer: Peer) -> None:
    listed = (await peer.client.list_prompts()).prompts
    assert [prompt.name for prompt in listed] == ["wake_up", "recall", "save_session"]
    given = {"wing": peer.wing, "query": "text", "agent_name": "scribe"}
    for prompt in listed:
        known = {argument.name for argument in prompt.arguments or []}
        written = await peer.client.get_prompt(
            prompt.name, {name: value for name, value in given.items() if name in known}
        )
        assert written.messages
    for name, arguments in (("recal", {}), ("recall", {}), ("recall", {"query": "x", "unknown": "y"})):
        with pytest.raises(MCPError) as refused:
            await peer.client.get_prompt(name, arguments)
        assert refused.value.error.code == INVALID_PARAMS
        assert refused.value.error.data["hint"]


async def test_arguments_and_variables_are_completed(peer: Peer) -> None:
    await peer.file("complete", "x")
    prompt, template = PromptReference(name="recall"), ResourceTemplateReference(uri="palace://{wing}/{room}")
    begun = {"name": "wing", "value": peer.wing[:-1]}
    assert peer.wing in (await peer.client.complete(prompt, begun)).completion.values
    rooms = await peer.client.complete(template, {"name": "room", "value": "comp"}, {"wing": peer.wing})
    assert rooms.completion.values == ["complete"]
    with pytest.raises(MCPError) as refused:
        await peer.client.complete(prompt, {"name": "nothing", "value": ""})
    assert refused.value.error.code == INVALID_PARAMS


async def test_a_long_call_tells_how_far_it_is_before_it_answers(peer: Peer) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))
        await peer.use("add_drawer", wing=f"{peer.wing} goes on", room="r", content="x")

    wing = f"until {peer.wing} goes on"
    with anyio.fail_after(PATIENCE):
        result = await peer.client.call_tool("get_taxonomy", {"wing": wing}, progress_callback=tell)
    assert not result.is_error
    assert told == [(1, 2, "half")]


async def test_a_cancelled_call_ends_and_the_session_goes_on(peer: Peer) -> None:
    if peer.transport == "http" and not peer.modern:
        pytest.skip("before 2026-07-28 a cancellation names a request of its session, and this transport has none")

    async def stop(progress: float, total: float | None, message: str | None) -> None:
        calling.cancel()

    wing = f"{peer.wing} never"
    calling = asyncio.create_task(
        peer.client.call_tool("get_taxonomy", {"wing": f"until {wing}"}, progress_callback=stop)
    )
    with anyio.fail_after(PATIENCE):
        await asyncio.wait([calling])
        assert calling.cancelled()
        while not (await peer.use("get_taxonomy", wing=f"{wing} no more"))["drawers"]:
            await anyio.sleep(0.01)
