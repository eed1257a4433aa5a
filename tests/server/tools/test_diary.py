from __future__ import annotations

from typing import Any

import pytest

from tests.server.tools.support import Client


def test_an_entry_is_written_read_and_searched(client: Client) -> None:
    written = client.call("diary_write", agent_name="Scribe", entry="Learned that Ada drinks Darjeeling.", topic="tea")
    answer = client.call("diary_read", agent_name="scribe")
    assert answer["agent"] == "Scribe"
    assert answer["entries"] == [{**written, "content": "Learned that Ada drinks Darjeeling.", "characters": 35}]
    assert written["topic"] == "tea"
    found = client.call("search", query="Darjeeling")["results"]
    assert [hit["drawer_id"] for hit in found] == [written["drawer_id"]]


def test_the_newest_entries_come_first_and_are_paged(client: Client) -> None:
    for number in range(5):
        client.call("diary_write", agent_name="scribe", entry=f"Day {number}.", topic="odd" if number % 2 else "")
    page = client.call("diary_read", agent_name="scribe", last_n=2)
    assert [entry["content"] for entry in page["entries"]] == ["Day 4.", "Day 3."]
    assert (page["count"], page["total"]) == (2, 5)
    rest = client.call("diary_read", agent_name="scribe", last_n=100, cursor=page["next_cursor"])
    assert [entry["content"] for entry in rest["entries"]] == ["Day 2.", "Day 1.", "Day 0."]
    assert rest["next_cursor"] is None
    odd = client.call("diary_read", agent_name="scribe", topic="odd")
    assert [entry["content"] for entry in odd["entries"]] == ["Day 3.", "Day 1."]


def test_a_stranger_has_an_empty_diary(client: Client) -> None:
    answer = client.call("diary_read", agent_name="stranger")
    assert answer == {"agent": "stranger", "entries": [], "count": 0, "total": 0, "next_cursor": None} | {
        "truncated": False
    }


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    [
        ("diary_write", {"agent_name": "", "entry": "e"}, "agent_name"),
        ("diary_write", {"agent_name": "a\nb", "entry": "e"}, "agent_name"),
        ("diary_write", {"agent_name": "a", "entry": ""}, "entry"),
        ("diary_write", {"agent_name": "a", "entry": "x" * 5_000_000}, "entry"),
        ("diary_write", {"agent_name": "a", "entry": "\ud800"}, "entry"),
        ("diary_write", {"agent_name": "a", "entry": "e", "topic": "t\0"}, "topic"),
        ("diary_write", {"agent_name": "a", "content": "e"}, "content"),
        ("diary_read", {"agent_name": "a", "last_n": -1}, "last_n"),
        ("diary_read", {"agent_name": "a", "last_n": 101}, "last_n"),
        ("diary_read", {"agent_name": "a", "cursor": "nonsense"}, "cursor"),
        ("diary_read", {"agent_name": {"name": "a"}}, "agent_name"),
    ],
)
def test_refused_entries(empty: Client, tool: str, arguments: dict[str, Any], argument: str) -> None:
    assert empty.refuse(tool, **arguments)["argument"] == argument
    assert empty.call("list_drawers")["total"] == 0
