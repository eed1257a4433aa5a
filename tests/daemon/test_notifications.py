"""Subscriptions, streams and progress go on when the daemon behind a session is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.daemon.support import address, bridge, kill, use
from tests.server.clients import StdioClient, call, modern, request

UPDATED = "notifications/resources/updated"
LIST_CHANGED = "notifications/resources/list_changed"
PROGRESS = "notifications/progress"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def hear(client: StdioClient, method: str) -> dict[str, Any]:
    """The parameters of the next notification of that kind; other notifications are passed over."""
    while (message := client.receive())["method"] != method:
        assert "id" not in message
    parameters: dict[str, Any] = message.get("params", {})
    return parameters


def file(client: StdioClient, number: int) -> None:
    use(client, number, "add_drawer", wing="w", room="r", content=f"drawer {number}")


def test_a_subscription_outlives_daemons_and_misses_nothing(palace: Path) -> None:
    with bridge(palace) as listener, bridge(palace) as writer:
        listener.greet()
        writer.greet()
        assert listener.ask(request(1, "resources/subscribe", uri="palace://w"))["result"] == {}
        assert listener.ask(request(2, "resources/subscribe", uri="palace://other"))["result"] == {}
        assert listener.ask(request(3, "resources/unsubscribe", uri="palace://other"))["result"] == {}
        assert listener.ask(request(4, "resources/list"))["result"]["resources"] == []
        file(writer, 1)
        assert hear(listener, UPDATED) == {"uri": "palace://w"}
        assert listener.ask(request(5, "resources/list"))["result"]["resources"]
        kill(address(palace)["pid"])
        assert hear(listener, LIST_CHANGED) == {}
        assert hear(listener, UPDATED) == {"uri": "palace://w"}
        file(writer, 2)
        assert hear(listener, UPDATED) == {"uri": "palace://w"}
        assert listener.finish() == (0, [])


def test_a_stream_outlives_daemons_under_the_clients_own_id_and_is_never_a_suspect(palace: Path) -> None:
    wishes = {"resourceSubscriptions": ["palace://w"], "resourcesListChanged": True}
    with bridge(palace) as listener, bridge(palace) as writer:
        writer.greet()
        granted = listener.ask(modern(request("ear", "subscriptions/listen", notifications=wishes)))
        assert granted["params"]["_meta"][SUBSCRIPTION] == "ear"
        for death in range(3):
            kill(address(palace)["pid"])
            told = hear(listener, UPDATED)
            assert (told["uri"], told["_meta"][SUBSCRIPTION]) == ("palace://w", "ear")
            file(writer, death)
            assert hear(listener, UPDATED)["_meta"][SUBSCRIPTION] == "ear"
        answer = {}
        listener.send(modern(request("late", "ping") | {"method": "tools/list"}))
        while "id" not in answer:
            answer = listener.receive()
        assert answer["id"] == "late"
        code, rest = listener.finish()
        assert code == 0
        assert all(message.get("method") for message in rest)


def test_progress_rises_through_the_death_of_a_daemon_and_a_cancelled_call_ends(palace: Path, deliberate: Path) -> None:
    with bridge(palace, package=deliberate) as client:
        client.greet()
        message = call(1, "get_taxonomy", wing="sleep 20")
        message["params"]["_meta"] = {"progressToken": "p"}
        client.send(message)
        before = [hear(client, PROGRESS)["progress"] for _ in range(2)]
        kill(address(palace)["pid"])
        after = [hear(client, PROGRESS)["progress"] for _ in range(2)]
        assert sorted({*before, *after}) == [*before, *after]
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        client.send(request(2, "ping"))
        while (answer := client.receive()).get("method") == PROGRESS:
            pass
        assert answer["id"] == 2
        assert client.finish() == (0, [])
