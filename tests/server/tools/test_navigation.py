"""Wings and rooms are listed page by page, and drawers read, deleted and moved, on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace import navigation
from tests.palace.support import opened
from tests.server.tools.support import Client

pytestmark = pytest.mark.usefixtures("each_store")

NOWHERE = "d_00000000000" + "0" * 13


@pytest.fixture
def client(each_store: None, tmp_path: Path) -> Iterator[Client]:
    """Tools on an empty palace whose model is not loaded: nothing here is found by meaning."""
    with opened(tmp_path / "palace", started=False, PALACE_INDEX="exact") as app:
        yield Client(app)


def pages(client: Client, tool: str, field: str, **arguments: Any) -> list[dict[str, int]]:
    """All pages of a listing."""
    found: list[dict[str, int]] = []
    cursor = None
    while True:
        answer = client.call(tool, **arguments, cursor=cursor)
        assert answer["count"] == len(answer[field])
        found.append(answer[field])
        cursor = answer["next_cursor"]
        if cursor is None:
            assert sum(map(len, found)) == answer["total"]
            return found


def where(client: Client, drawer_id: str) -> tuple[str, str, int]:
    drawer = client.call("get_drawer", drawer_id=drawer_id)
    return drawer["wing"], drawer["room"], drawer["version"]


def test_wings_and_rooms_come_by_name_with_their_live_drawers(client: Client) -> None:
    for wing, room, content in [
        ("Zoo", "Notes", "a"), ("apiary", "hives", "b"), ("Ärzte", "notes", "c"), ("Zoo", "notes", "d"),
        ("Müll", "bin", "e"),
    ]:  # fmt: skip
        drawer_id = client.add(wing=wing, room=room, content=content)
    client.call("delete_drawer", drawer_id=drawer_id)
    assert pages(client, "list_wings", "wings", limit=2) == [{"apiary": 1, "Zoo": 2}, {"Ärzte": 1}]
    assert pages(client, "list_rooms", "rooms", limit=1) == [{"hives": 1}, {"Notes": 3}]
    assert pages(client, "list_rooms", "rooms", wing="ZOO") == [{"Notes": 2}]
    assert pages(client, "list_rooms", "rooms", wing="nowhere") == [{}]


def test_a_page_of_one_listing_is_not_turned_by_another(client: Client) -> None:
    for number in range(3):
        client.add(wing=f"w{number}", room=f"r{number}")
    cursor = client.call("list_wings", limit=1)["next_cursor"]
    assert client.refuse("list_rooms", limit=1, cursor=cursor)["argument"] == "cursor"
    rooms = client.call("list_rooms", limit=1)["next_cursor"]
    assert client.refuse("list_rooms", limit=1, wing="w1", cursor=rooms)["argument"] == "cursor"


def test_one_drawer_is_read_verbatim_and_in_parts(client: Client) -> None:
    content = "  Tee für zwei \r\n☕ " * 400
    drawer_id = client.add(content=content, metadata={"tags": ["a"]})
    whole = client.call("get_drawer", drawer_id=f'"{drawer_id}"')
    assert (whole["content"], whole["metadata"], whole["next_offset"]) == (content, {"tags": ["a"]}, None)
    read, offset = "", 0
    while offset is not None:
        part = client.call("get_drawer", drawer_id=drawer_id, max_tokens=500, offset=offset)
        read, offset = read + part["content"], part["next_offset"]
        assert ("hint" in part) is (offset is not None)
    assert read == content
    assert client.refuse("get_drawer", drawer_id=drawer_id, offset=len(content))["argument"] == "offset"


@pytest.mark.parametrize("tool", ["get_drawer", "delete_drawer"])
def test_an_id_of_no_drawer_and_several_ids_are_refused(client: Client, tool: str) -> None:
    one, other = client.add(content="one"), client.add(content="other")
    assert client.refuse(tool, drawer_id=NOWHERE)["code"] == "not_found"
    for wrong in (f"{one}, {other}", f"{one} {NOWHERE}", "tea"):
        assert client.refuse(tool, drawer_id=wrong)["argument"] == "drawer_id"
    assert client.call("list_drawers")["total"] == 2


def test_a_deleted_drawer_comes_back(client: Client) -> None:
    drawer_id = client.add()
    assert client.call("delete_drawer", drawer_id=drawer_id)["deleted"] == 1
    for tool in ("get_drawer", "delete_drawer"):
        assert client.refuse(tool, drawer_id=drawer_id)["code"] == "not_found"
    assert client.call("restore_drawers", drawer_ids=[drawer_id])["restored"] == [drawer_id]
    assert client.call("get_drawer", drawer_id=drawer_id)["drawer_id"] == drawer_id


def test_a_source_is_deleted_after_a_dry_run(client: Client) -> None:
    gone = [client.add(content=f"page {number}", source_file="/notes/a%.md") for number in range(3)]
    kept = client.add(content="other", source_file="/notes/ab.md")
    dry = client.call("delete_by_source", source_file="/notes/a%.md")
    assert (dry["matched"], dry["deleted"], dry["dry_run"]) == (3, 0, True)
    assert "dry_run false" in dry["hint"]
    assert client.call("list_drawers")["total"] == 4
    assert client.call("delete_by_source", source_file="/notes/a%.md", dry_run=False)["deleted"] == 3
    assert [each["drawer_id"] for each in client.call("list_drawers")["drawers"]] == [kept]
    assert len(client.call("restore_drawers", drawer_ids=gone)["restored"]) == 3
    for nothing in ("", None):
        assert client.refuse("delete_by_source", source_file=nothing, dry_run=False)["argument"] == "source_file"
    assert client.call("list_drawers")["total"] == 4


def test_drawers_move_by_their_ids_at_once(client: Client) -> None:
    tea = client.add(wing="Kitchen", room="tea")
    bread = client.add(wing="Kitchen", room="bread", content="Rye.")
    dry = client.call("move_drawers", drawer_ids=[tea], to_wing="Pantry", dry_run=True)
    assert (dry["matched"], dry["moved"], where(client, tea)) == (1, 0, ("Kitchen", "tea", 1))
    answer = client.call("move_drawers", drawer_ids=[tea, bread, NOWHERE], to_wing="Pantry")
    assert (answer["moved"], answer["missing"], answer["dry_run"]) == (2, [NOWHERE], False)
    assert where(client, tea) == ("Pantry", "tea", 2)
    assert where(client, bread) == ("Pantry", "bread", 2)
    assert client.call("list_wings")["wings"] == {"Pantry": 2}
    assert [(each.wing, each.room, each.content) for each in client.app.palace.versions(bread)] == [
        ("Kitchen", "bread", "Rye.")
    ]
    again = client.call("move_drawers", drawer_ids=[tea, bread], to_wing="PANTRY")
    assert (again["matched"], again["moved"], where(client, tea)) == (2, 0, ("Pantry", "tea", 2))


def test_a_filter_moves_after_a_dry_run_and_only_what_matches(client: Client) -> None:
    old = client.add(wing="Inbox", room="a", content="old", occurred_at="2024-01-05")
    new = client.add(wing="Inbox", room="b", content="new", occurred_at="2026-01-05")
    gone = client.add(wing="Inbox", room="a", content="gone", occurred_at="2024-01-06")
    client.call("delete_drawer", drawer_id=gone)
    dry = client.call("move_drawers", wing="inbox", before="2025-01-01", to_wing="Archive", to_room="2024")
    assert (dry["matched"], dry["moved"], dry["dry_run"]) == (1, 0, True)
    assert "before 2025-01-01" in dry["hint"]
    done = client.call(
        "move_drawers", wing="inbox", before="2025-01-01", to_wing="Archive", to_room="2024", dry_run=False
    )
    assert (done["moved"], where(client, old), where(client, new)[:2]) == (1, ("Archive", "2024", 2), ("Inbox", "b"))
    client.call("restore_drawers", drawer_ids=[gone])
    assert where(client, gone)[:2] == ("Inbox", "a")


def test_what_moved_is_found_by_its_words_where_it_stands_now(client: Client) -> None:
    moved = client.add(content="The cellar holds Riesling.")
    client.call("move_drawers", drawer_ids=[moved], to_room="wine")
    for wing, room, found in (("Kitchen", "wine", [moved]), ("Kitchen", "tea", [])):
        hits = client.call("search", query="Riesling", wing=wing, room=room, mode="keyword")["results"]
        assert [hit["drawer_id"] for hit in hits] == found


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"to_wing": "a"}, "drawer_ids"),
        ({"wing": "kitchen"}, "to_room"),
        ({"wing": "kitchen", "to_wing": ""}, "to_room"),
        ({"wing": "kitchen", "to_wing": "a\nb"}, "to_wing"),
        ({"wing": "kitchen", "to_room": "x" * 129}, "to_room"),
        ({"wing": "kitchen", "drawer_ids": [NOWHERE], "to_room": "a"}, "drawer_ids"),
        ({"drawer_ids": ["tea"], "to_room": "a"}, "drawer_ids[0]"),
        ({"since": "2026", "before": "2025", "to_room": "a"}, "before"),
        ({"wing": "kitchen", "to_room": "a", "dry_run": "perhaps"}, "dry_run"),
    ],
)
def test_refused_moves(client: Client, arguments: dict[str, Any], argument: str) -> None:
    client.add()
    assert client.refuse("move_drawers", **{"dry_run": False, **arguments})["argument"] == argument


def test_more_than_one_call_moves_are_refused_and_all_stay(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(navigation, "MAX_MOVED", 3)
    for number in range(4):
        client.add(content=f"note {number}", occurred_at=f"2026-01-0{number + 1}")
    shown = client.refuse("move_drawers", wing="kitchen", to_wing="Pantry", dry_run=False)
    assert "4 drawers match" in shown["message"]
    assert client.call("list_wings")["wings"] == {"Kitchen": 4}
    narrowed = client.call("move_drawers", wing="kitchen", since="2026-01-02", to_wing="Pantry", dry_run=False)
    assert narrowed["moved"] == 3
