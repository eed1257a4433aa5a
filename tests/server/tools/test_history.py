from __future__ import annotations

from collections.abc import Iterator

import pytest

from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.server.tools.registry import build_tools
from tests.palace.support import opened
from tests.server.tools.support import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Tools on a palace without its model, which nothing here needs."""
    with opened(tmp_path_factory.mktemp("palace"), started=False) as app:
        yield Client(app)


def test_the_history_tells_calls_and_pages_them(client: Client) -> None:
    assert client.call("history")["calls"] == []
    session = client.app.activity.open(Transport.STDIO)
    for tool in ("search", "add_drawer"):
        with session.call(tool, 5):
            pass
    first = client.call("history", limit=1)
    assert [call["tool"] for call in first["calls"]] == ["add_drawer"]
    second = client.call("history", limit=1, cursor=first["next_cursor"], session=None)
    assert ([call["tool"] for call in second["calls"]], second["next_cursor"]) == (["search"], None)
    assert client.call("history", session=session.number)["total"] == 2


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "5.5"}, "limit"),
        ({"session": -1}, "session"),
        ({"session": True}, "session"),
        ({"session": 9}, "session"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"tool": "search"}, "tool"),
    ],
)
def test_wrong_arguments_are_named(client: Client, arguments: dict[str, object], argument: str) -> None:
    assert client.refuse("history", **arguments)["argument"] == argument


def test_only_the_full_profile_has_it_and_reading_it_changes_nothing() -> None:
    assert "history" not in build_tools("core").offers
    assert "history" in build_tools("full", read_only=True).offers
