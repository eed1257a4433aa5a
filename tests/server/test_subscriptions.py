"""One agent hears of another's filing."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import Forbidden, InvalidArgument
from mempalace_mcp.core.ids import new_id
from mempalace_mcp.core.model import Changes
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.server.http import LOOPBACK, serve_on
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.security import listen as listener_on
from mempalace_mcp.server.session import Session
from mempalace_mcp.server.subscriptions import MAX_FOLLOWED, MAX_STREAMS, UPDATED, Subscriber, write_uri
from tests.palace.support import opened
from tests.server.clients import INITIALIZED, MODERN_REVISION, RawHttp, event, initialize, modern, request
from tests.server.stream import PalaceWire, palace_session

pytestmark = pytest.mark.long

LIST_CHANGED = "notifications/resources/list_changed"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
DRAWER = new_id("d", 1)


async def follow(wire: PalaceWire, *uris: str) -> None:
    for uri in uris:
        assert await wire.result("resources/subscribe", uri=uri) == {}


async def told(wire: PalaceWire) -> tuple[str, Any]:
    """The next notification: its method and what it is about."""
    message = await wire.receive()
    assert "id" not in message
    return message["method"], message.get("params", {}).get("uri")


async def another_look(wire: PalaceWire, before: int) -> None:
    """Wait until a look at the palace has found something."""
    with anyio.fail_after(30):
        while wire.app.feed.statistics().told == before:
            await anyio.sleep(0.01)


def changes(*places: tuple[str, str], drawers: tuple[str, ...] = ()) -> Changes:
    return Changes(frozenset(places), frozenset(drawers))


async def test_what_another_process_writes_is_told_under_the_uri_of_the_subscriber(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        with opened(tmp_path, started=False) as other:
            drawer = wire.palace.add_drawer("Orion Two", "Auth", "text").drawer_id
            wing, room = "palace://orion%20two", "palace://ORION%20TWO/auth"
            exact = write_uri("Orion Two", "Auth", drawer)
            await follow(wire, "palace://elsewhere", exact)
            other.palace.add_drawer("Orion Two", "Deploy", "text")
            await follow(wire, wing)
            other.palace.add_drawer("orion two", "DEPLOY", "more text")
            assert await told(wire) == (UPDATED, wing)
            await follow(wire, room)
            other.palace.update_drawer(drawer, content="new text")
            assert {await told(wire) for _ in range(3)} == {(UPDATED, exact), (UPDATED, wing), (UPDATED, room)}
            other.palace.delete_drawers(drawer_ids=[drawer])
            assert {await told(wire) for _ in range(3)} == {(UPDATED, exact), (UPDATED, wing), (UPDATED, room)}
            assert wire.unread == 0


async def test_what_is_moved_is_told_where_it_was(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        drawer = wire.palace.add_drawer("a", "r", "text").drawer_id
        uri = write_uri("a", "r", drawer)
        await follow(wire, "palace://a", uri)
        wire.palace.update_drawer(drawer, wing="b")
        assert {await told(wire) for _ in range(2)} == {(UPDATED, "palace://a"), (UPDATED, uri)}


async def test_who_has_unsubscribed_hears_nothing_more(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        await follow(wire, "palace://a", "palace://b")
        assert await wire.result("resources/unsubscribe", uri="palace://a") == {}
        assert await wire.result("resources/unsubscribe", uri="palace://never") == {}
        wire.palace.checkpoint([{"wing": wing, "room": "r", "content": "text"} for wing in "ab"])
        assert await told(wire) == (UPDATED, "palace://b")
        await wire.result("resources/unsubscribe", uri="palace://b")
        assert wire.app.feed.statistics().listeners == 0


@pytest.mark.parametrize("plain", [True, False])
async def test_whoever_has_seen_the_list_hears_once_that_it_is_another_one(tmp_path: Path, plain: bool) -> None:
    listing = {} if plain else {"only the SDK": "passes this over"}
    async with palace_session(tmp_path, greeted=False) as wire:
        capabilities = (await wire.greet())["result"]["capabilities"]["resources"]
        assert capabilities == {"subscribe": True, "listChanged": True}
        await wire.result("resources/list", **listing)
        wire.palace.add_drawer("a", "r", "one")
        assert await told(wire) == (LIST_CHANGED, None)
        assert wire.app.feed.statistics().listeners == 0
        await follow(wire, "palace://a")
        wire.palace.add_drawer("a", "r", "two")
        assert await told(wire) == (UPDATED, "palace://a")
        await wire.result("resources/list", **listing)
        wire.palace.add_drawer("b", "r", "three")
        assert await told(wire) == (LIST_CHANGED, None)


async def test_whoever_can_listen_on_a_stream_is_not_told_for_having_seen_the_list(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        assert (await wire.ask(modern(request(1, "resources/list"))))["result"]["resources"] == []
        assert wire.app.feed.statistics().listeners == 0


async def test_facts_change_no_resource(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        await follow(wire, "palace://a")
        wire.palace.kg_add("Mira", "works in", "team Orion")
        told_before = wire.app.feed.statistics().told
        await another_look(wire, told_before)
        wire.palace.add_drawer("a", "r", "text")
        assert await told(wire) == (UPDATED, "palace://a")
        assert wire.unread == 0


async def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        for uri in ("file:///etc/passwd", "palace://a/r/no-id", "palace://a%00", ""):
            error = await wire.error("resources/subscribe", uri=uri)
            assert (error["code"], error["data"]["argument"]) == (-32602, "uri")
        await follow(wire, *(f"palace://wing%20{number}" for number in range(MAX_FOLLOWED)))
        await follow(wire, "palace://wing%200")
        error = await wire.error("resources/subscribe", uri="palace://one%20more")
        assert str(MAX_FOLLOWED) in error["message"]
        await wire.result("resources/unsubscribe", uri="palace://wing%200")
        await follow(wire, "palace://one%20more")


async def test_a_caller_limited_to_wings_hears_of_no_other(tmp_path: Path) -> None:
    async with palace_session(tmp_path, access=Principal(wings=("mine",))) as wire:
        error = await wire.error("resources/subscribe", uri="palace://other")
        assert (error["code"], error["data"]["code"]) == (-32602, "forbidden")
        await wire.result("resources/list")
        await follow(wire, "palace://mine")
        wire.palace.add_drawer("other", "r", "text")
        before = wire.app.feed.statistics().told
        await another_look(wire, before)
        assert wire.unread == 0
        wire.palace.add_drawer("mine", "r", "text")
        assert {await told(wire) for _ in range(2)} == {(LIST_CHANGED, None), (UPDATED, "palace://mine")}


async def test_a_session_that_ends_leaves_nobody_listening(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        await follow(wire, "palace://a")
        assert wire.app.feed.statistics().listeners == 1
        wire.session.close()
        with anyio.fail_after(30):
            await wire.session.finished.wait()
        assert wire.app.feed.statistics().listeners == 0


async def test_what_a_client_does_not_read_becomes_one(tmp_path: Path) -> None:
    """The client stops reading with the first notification: what follows is told together when it reads again."""
    with opened(tmp_path, started=False) as app:
        written: list[dict[str, Any]] = []
        stuck, go_on, two = anyio.Event(), anyio.Event(), anyio.Event()

        async def write(message: bytes) -> None:
            content = json.loads(message)
            if content.get("method") == UPDATED:
                stuck.set()
                await go_on.wait()
            written.append(content)
            if [each.get("method") for each in written].count(UPDATED) == 2:
                two.set()

        session = Session(MethodServer(services_of(app, ToolSelection())), app.activity.open(Transport.SOCKET), write)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.serve)
                tasks.start_soon(app.feed.watch)
                for message in (initialize(), INITIALIZED, request(1, "resources/subscribe", uri="palace://a")):
                    await session.receive(json.dumps(message).encode())
                await session.drain(30)
                app.palace.add_drawer("a", "r", "text 0")
                await stuck.wait()
                for number in range(1, 4):
                    before = app.feed.statistics().told
                    app.palace.add_drawer("a", "r", f"text {number}")
                    while app.feed.statistics().told == before:
                        await anyio.sleep(0.01)
                go_on.set()
                await two.wait()
                app.palace.add_drawer("a", "r", "last")
                session.abort()
                tasks.cancel_scope.cancel()
        assert [each.get("method") for each in written].count(UPDATED) == 2


async def test_pending_news_are_bounded_by_what_is_followed() -> None:
    subscriber = Subscriber(["resources", "tools"])
    for number in range(MAX_FOLLOWED):
        subscriber.follow(f"palace://wing/room%20{number}")
    with pytest.raises(InvalidArgument):
        subscriber.follow("palace://wing")
    for _ in range(1000):
        subscriber.notify(changes(*(("wing", f"room {number}") for number in range(200))))
    events = await subscriber.next_events()
    assert events is not None
    assert len(events) == 1 + MAX_FOLLOWED
    subscriber.notify(None)
    again = await subscriber.next_events()
    assert again is not None
    assert len(again) == 2 + MAX_FOLLOWED
    subscriber.notify(None)
    subscriber.close()
    assert await subscriber.next_events() is None


def test_a_drawer_concerns_its_followers_only_where_it_stands_or_stood() -> None:
    subscriber = Subscriber(wings=("mine",))
    subscriber.follow(write_uri("mine", "r", DRAWER))
    with pytest.raises(Forbidden):
        subscriber.follow("palace://other")
    subscriber.notify(changes(("other", "r"), drawers=(DRAWER,)))
    subscriber.notify(changes(("mine", "r")))
    assert subscriber._pending == {}
    subscriber.notify(changes(("mine", "r"), drawers=(DRAWER,)))
    assert len(subscriber._pending) == 1


def listen(number: Any, *uris: str, **lists: bool) -> dict[str, Any]:
    wishes: dict[str, Any] = {**lists, **({"resourceSubscriptions": list(uris)} if uris else {})}
    return modern(request(number, "subscriptions/listen", notifications=wishes))


async def test_the_revision_without_sessions_listens_on_a_stream(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        discovered = (await wire.ask(modern(request(1, "server/discover"))))["result"]["capabilities"]
        assert discovered["resources"] == {"subscribe": True, "listChanged": True}
        granted = await wire.ask(
            listen("ear", "palace://a", "file:///x", resourcesListChanged=True, toolsListChanged=True)
        )
        assert granted["method"] == "notifications/subscriptions/acknowledged"
        assert granted["params"]["notifications"] == {
            "resourceSubscriptions": ["palace://a"],
            "resourcesListChanged": True,
            "toolsListChanged": True,
        }
        wire.palace.add_drawer("a", "r", "text")
        first, second = await wire.receive(), await wire.receive()
        assert [first["method"], second["method"]] == [LIST_CHANGED, UPDATED]
        assert second["params"]["uri"] == "palace://a"
        for message in (granted, first, second):
            assert message["params"]["_meta"][SUBSCRIPTION] == "ear"
        await wire.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "ear"}})
        with anyio.fail_after(30):
            while wire.app.feed.statistics().listeners:
                await anyio.lowlevel.checkpoint()


async def test_streams_are_few_and_end_in_order(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        for number in range(MAX_STREAMS):
            assert "params" in await wire.ask(listen(number, "palace://a"))
        refused = (await wire.ask(listen("more", "palace://a")))["error"]
        assert (refused["code"], refused["data"]["code"], refused["data"]["retryable"]) == (-32000, "busy", True)
        many = (await wire.ask(listen("many", *(f"palace://{number}" for number in range(MAX_FOLLOWED + 1)))))["error"]
        assert (many["code"], many["data"]["argument"]) == (-32602, "notifications.resourceSubscriptions")
        assert wire.app.activity.statistics().running == 0
        await wire.session.drain(30)
        ended = [await wire.receive() for _ in range(MAX_STREAMS)]
        assert sorted(message["id"] for message in ended) == list(range(MAX_STREAMS))
        assert all(message["result"]["_meta"][SUBSCRIPTION] == message["id"] for message in ended)
        assert wire.app.feed.statistics().listeners == 0


async def test_over_streamable_http_only_the_revision_with_streams_hears_of_changes(tmp_path: Path) -> None:
    def subscribe(port: int, file: Callable[[], object]) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        with RawHttp(port) as http:
            hello = http.ask("POST", "/mcp", initialize()).json["result"]["capabilities"]["resources"]
            headers = {"MCP-Protocol-Version": "2025-11-25"}
            refused = http.ask("POST", "/mcp", request(1, "resources/subscribe", uri="palace://a"), headers).json
            assert http.ask("POST", "/mcp", request(2, "resources/list"), headers).json["result"]["resources"] == []
            headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": "subscriptions/listen"}
            http.begin("POST", "/mcp", listen("ear", "palace://a"), headers)
            assert http.head().headers["content-type"].startswith("text/event-stream")
            granted = event(http)
            file()
            updated = event(http)
            anyio.from_thread.run_sync(stop.set)
            return hello, refused, [granted, updated, event(http)]

    stop, ports = anyio.Event(), anyio.create_memory_object_stream[int](1)
    with opened(tmp_path, started=False) as app, listener_on(LOOPBACK, 0) as listener, anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_on, services_of(app, ToolSelection()), listener, ports[0].send_nowait, stop)
            file = partial(app.palace.add_drawer, "a", "r", "text")
            hello, refused, heard = await anyio.to_thread.run_sync(subscribe, await ports[1].receive(), file)
        for end in ports:
            end.close()
    assert hello == {"subscribe": False, "listChanged": False}
    assert refused["error"]["code"] == -32601
    assert [message.get("method") for message in heard] == ["notifications/subscriptions/acknowledged", UPDATED, None]
    assert heard[2]["result"]["_meta"][SUBSCRIPTION] == "ear"
