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


def test_a_wing_is_renamed_after_a_dry_run_with_its_trash_and_back(client: Client) -> None:
    tea = client.add(wing="Kitchen", room="tea", content="Oolong.")
    bread = client.add(wing="Kitchen", room="bread", content="Rye.")
    gone = client.add(wing="Kitchen", room="tea", content="Mate.")
    client.call("delete_drawer", drawer_id=gone)
    dry = client.call("rename_wing", wing="kitchen", new_name="Küche")
    assert (dry["drawers"], dry["merges"], dry["dry_run"]) == (3, False, True)
    assert client.call("list_wings")["wings"] == {"Kitchen": 2}
    done = client.call("rename_wing", wing="kitchen", new_name="Küche", dry_run=False)
    assert (done["drawers"], done["merges"], done["dry_run"]) == (3, False, False)
    assert str(done["move_id"]) in done["hint"]
    assert client.call("list_wings")["wings"] == {"Küche": 2}
    assert client.call("list_rooms", wing="küche")["rooms"] == {"bread": 1, "tea": 1}
    assert [each.wing for each in client.app.palace.versions(tea)] == ["Kitchen"]
    client.call("restore_drawers", drawer_ids=[gone])
    assert where(client, gone) == ("Küche", "tea", 2)
    back = client.call("undo_move", move_id=done["move_id"])
    assert back["moved"] == 2, "the one that was restored has changed since"
    assert (where(client, tea), where(client, bread)) == (("Kitchen", "tea", 3), ("Kitchen", "bread", 3))
    assert client.call("list_wings")["wings"] == {"Kitchen": 2, "Küche": 1}
    again = client.call("undo_move", move_id=back["move_id"])
    assert (again["moved"], client.call("list_wings")["wings"]) == (2, {"Küche": 3})


def test_under_the_name_of_another_one_two_rooms_become_one_and_can_part_again(client: Client) -> None:
    old, new = client.add(room="Te", content="old"), client.add(room="tea", content="new")
    other = client.add(wing="Office", room="Te", content="elsewhere")
    dry = client.call("rename_room", wing="Kitchen", room="te", new_name="TEA")
    assert (dry["drawers"], dry["merges"]) == (1, True)
    done = client.call("rename_room", wing="Kitchen", room="te", new_name="TEA", dry_run=False)
    assert client.call("list_rooms", wing="kitchen")["rooms"] == {"tea": 2}
    assert where(client, other) == ("Office", "Te", 1)
    client.call("update_drawer", drawer_id=new, metadata={"seen": True})
    assert client.call("undo_move", move_id=done["move_id"])["moved"] == 1
    assert (where(client, old)[:2], where(client, new)[:2]) == (("Kitchen", "Te"), ("Kitchen", "tea"))


def test_a_name_can_be_written_in_another_case(client: Client) -> None:
    drawer_id = client.add(wing="kitchen", room="tea")
    wing = client.call("rename_wing", wing="KITCHEN", new_name="Kitchen", dry_run=False)
    room = client.call("rename_room", wing="kitchen", room="tea", new_name="Tea", dry_run=False)
    assert "move_id" not in wing | room
    assert wing["merges"] is room["merges"] is False
    assert where(client, drawer_id) == ("Kitchen", "Tea", 1)
    before = client.seq
    client.call("rename_wing", wing="kitchen", new_name="Kitchen", dry_run=False)
    assert client.seq == before


def test_a_name_that_is_free_again_is_shown_as_it_is_given(client: Client) -> None:
    client.add(wing="first")
    client.call("rename_wing", wing="first", new_name="second", dry_run=False)
    client.call("rename_wing", wing="second", new_name="FIRST", dry_run=False)
    assert client.call("list_wings")["wings"] == {"FIRST": 1}


def test_the_wing_of_a_diary_is_renamed_and_the_diary_stays(client: Client) -> None:
    client.call("diary_write", agent_name="Ada", entry="Read the logs.")
    (wing,) = client.call("list_wings")["wings"]
    client.call("rename_wing", wing=wing, new_name="Agents", dry_run=False)
    assert client.call("diary_read", agent_name="ada")["total"] == 1
    client.call("diary_write", agent_name="Ada", entry="Fixed the fault.")
    assert client.call("diary_read", agent_name="ada")["total"] == 2


def test_moves_by_ids_and_filters_are_undone_and_only_once(client: Client) -> None:
    one, two = client.add(wing="A", room="a", content="1"), client.add(wing="B", room="b", content="2")
    done = client.call("move_drawers", drawer_ids=[one, two], to_wing="C", to_room="c")
    assert client.call("undo_move", move_id=done["move_id"])["moved"] == 2
    assert (where(client, one)[:2], where(client, two)[:2]) == (("A", "a"), ("B", "b"))
    for nothing in (done["move_id"], done["move_id"] + 1000):
        shown = client.refuse("undo_move", move_id=nothing)
        assert (shown["code"], shown["argument"]) == ("not_found", "move_id")
    assert "move_id" not in client.call("move_drawers", drawer_ids=[one], to_wing="A")


def test_the_number_of_another_change_undoes_nothing(client: Client) -> None:
    drawer_id = client.add()
    client.call("update_drawer", drawer_id=drawer_id, content="Something else.")
    client.refuse("undo_move", move_id=client.seq)
    assert where(client, drawer_id) == ("Kitchen", "tea", 2)
    client.call("move_drawers", drawer_ids=[drawer_id], to_wing="Pantry")
    client.call("delete_drawer", drawer_id=drawer_id)
    client.refuse("undo_move", move_id=client.seq)
    client.call("restore_drawers", drawer_ids=[drawer_id])
    assert where(client, drawer_id) == ("Pantry", "tea", 3)


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    [
        ("rename_wing", {"wing": "nowhere", "new_name": "a"}, "wing"),
        ("rename_wing", {"wing": "Kitchen", "new_name": " "}, "new_name"),
        ("rename_wing", {"wing": "Kitchen", "new_name": "a\tb"}, "new_name"),
        ("rename_room", {"wing": "Kitchen", "room": "nowhere", "new_name": "a"}, "room"),
        ("rename_room", {"wing": "nowhere", "room": "tea", "new_name": "a"}, "wing"),
        ("rename_room", {"wing": "Kitchen", "room": "tea", "new_name": "x" * 129}, "new_name"),
        ("rename_room", {"wing": "Kitchen", "room": "tea"}, "new_name"),
        ("undo_move", {"move_id": "x"}, "move_id"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_refused_renamings(client: Client, tool: str, arguments: dict[str, Any], argument: str, dry_run: bool) -> None:
    client.add()
    options = {} if tool == "undo_move" else {"dry_run": dry_run}
    assert client.refuse(tool, **arguments, **options)["argument"] == argument


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_wing_of_too_many_drawers_is_not_renamed(
    client: Client, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    monkeypatch.setattr(navigation, "MAX_MOVED", 2)
    for number in range(3):
        client.add(content=f"note {number}")
    shown = client.refuse("rename_wing", wing="kitchen", new_name="a", dry_run=dry_run)
    assert (shown["argument"], "3 drawers" in shown["message"]) == ("wing", True)
    assert client.call("list_wings")["wings"] == {"Kitchen": 3}
