"""Tunnels between rooms are dug, listed, followed and removed, and rooms of the same name lead from wing to wing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.storage import tunnels
from tests.palace.support import opened
from tests.server.tools.support import Client

pytestmark = pytest.mark.usefixtures("each_store")

NOWHERE = "d_00000000000" + "0" * 13


@pytest.fixture
def client(each_store: None, tmp_path: Path) -> Iterator[Client]:
    """A palace of four wings; two rooms are in several of them."""
    with opened(tmp_path / "palace", started=False, PALACE_INDEX="exact") as app:
        client = Client(app)
        for wing, rooms in {"Alpha": "auth deploy", "Beta": "Auth billing", "Gamma": "billing", "Delta": "tea"}.items():
            for room in rooms.split():
                client.add(wing=wing, room=room, content=f"{wing} {room}")
        yield client


def dig(client: Client, source: tuple[str, str], target: tuple[str, str], **details: Any) -> dict[str, Any]:
    places = dict(zip(("source_wing", "source_room", "target_wing", "target_room"), source + target, strict=True))
    return client.call("create_tunnel", **places, **details)


def hops(answer: dict[str, Any]) -> set[tuple[str, str, int, str | None]]:
    return {(each["wing"], each["room"], each["hop"], each.get("via")) for each in answer["rooms"]}


def test_a_tunnel_is_dug_once_per_label_in_either_direction(client: Client) -> None:
    one = dig(client, ("alpha", "AUTH"), ("Delta", "tea"), label="same people")
    tunnel = one["tunnel"]
    assert one["created"] is True
    assert tunnel["source"] == {"wing": "Alpha", "room": "auth"}
    assert (tunnel["target"], tunnel["label"]) == ({"wing": "Delta", "room": "tea"}, "same people")
    again = dig(client, ("Delta", "tea"), ("Alpha", "auth"), label="same people")
    assert again == {"tunnel": tunnel, "created": False}
    assert dig(client, ("Alpha", "auth"), ("Delta", "tea"), label="other")["created"] is True
    assert client.call("list_tunnels")["total"] == 2


def test_tunnels_are_listed_by_wing_page_by_page_and_removed(client: Client) -> None:
    made = [
        dig(client, ("Alpha", "auth"), (wing, room))["tunnel"]["tunnel_id"]
        for wing, room in (("Gamma", "billing"), ("Delta", "tea"), ("Beta", "billing"))
    ]
    first = client.call("list_tunnels", limit=2)
    rest = client.call("list_tunnels", limit=2, cursor=first["next_cursor"])
    assert [each["tunnel_id"] for each in first["tunnels"] + rest["tunnels"]] == made
    assert (first["total"], rest["total"], rest["next_cursor"]) == (3, 3, None)
    assert [each["tunnel_id"] for each in client.call("list_tunnels", wing="DELTA")["tunnels"]] == [made[1]]
    assert client.call("delete_tunnel", tunnel_id=made[1])["deleted"] is True
    assert client.refuse("delete_tunnel", tunnel_id=made[1])["argument"] == "tunnel_id"
    assert client.call("list_tunnels", wing="delta")["total"] == 0
    assert client.call("list_tunnels")["total"] == 2
    assert client.refuse("list_tunnels", wing="alpha", cursor=first["next_cursor"])["argument"] == "cursor"


def test_a_room_is_left_through_its_tunnels_in_both_directions(client: Client) -> None:
    drawer_id = client.call("list_drawers", wing="Delta")["drawers"][0]["drawer_id"]
    dig(client, ("Alpha", "auth"), ("Delta", "tea"), label="breaks", target_drawer_id=drawer_id)
    dig(client, ("Gamma", "billing"), ("Alpha", "auth"))
    answer = client.call("follow_tunnels", wing="alpha", room="auth")
    kept = [{key: each[key] for key in each if key != "tunnel_id"} for each in answer["connections"]]
    assert kept == [
        {"wing": "Delta", "room": "tea", "direction": "outgoing", "label": "breaks", "drawer_id": drawer_id},
        {"wing": "Gamma", "room": "billing", "direction": "incoming"},
    ]
    assert client.call("follow_tunnels", wing="alpha", room="deploy")["total"] == 0
    assert client.refuse("follow_tunnels", wing="alpha", room="nowhere")["argument"] == "room"


def test_rooms_of_the_same_name_connect_wings(client: Client) -> None:
    first = client.call("find_tunnels", limit=1)
    second = client.call("find_tunnels", limit=1, cursor=first["next_cursor"])
    assert first["rooms"] == [{"room": "Auth", "wings": ["Alpha", "Beta"], "wing_count": 2, "drawers": 2}]
    assert (second["rooms"][0]["room"], second["next_cursor"]) == ("billing", None)
    assert (first["total"], second["total"]) == (2, 2)
    assert [each["room"] for each in client.call("find_tunnels", wing_a="gamma")["rooms"]] == ["billing"]
    assert client.call("find_tunnels", wing_a="alpha", wing_b="BETA")["total"] == 1
    assert client.call("find_tunnels", wing_a="alpha", wing_b="gamma")["total"] == 0


def test_a_walk_goes_through_names_and_tunnels_nearest_first(client: Client) -> None:
    dig(client, ("Beta", "Auth"), ("Delta", "tea"))
    dig(client, ("Delta", "tea"), ("Gamma", "billing"))
    assert hops(client.call("traverse", start_room="AUTH", wing="alpha", max_hops=1)) == {
        ("Alpha", "auth", 0, None),
        ("Beta", "Auth", 1, "name"),
    }
    whole = client.call("traverse", start_room="auth", wing="alpha", max_hops=4)
    assert hops(whole) == {
        ("Alpha", "auth", 0, None),
        ("Beta", "Auth", 1, "name"),
        ("Delta", "tea", 2, "tunnel"),
        ("Gamma", "billing", 3, "tunnel"),
        ("Beta", "billing", 4, "name"),
    }
    assert [each["hop"] for each in whole["rooms"]] == [0, 1, 2, 3, 4]
    assert (whole["rooms"][2]["from_wing"], whole["rooms"][2]["from_room"]) == ("Beta", "Auth")
    paged: list[dict[str, Any]] = []
    cursor = None
    while paged == [] or cursor:
        page = client.call("traverse", start_room="auth", wing="alpha", max_hops=4, limit=2, cursor=cursor)
        paged, cursor = paged + page["rooms"], page["next_cursor"]
    assert (paged, page["total"]) == (whole["rooms"], 5)
    assert {each["wing"] for each in client.call("traverse", start_room="auth", max_hops=1)["rooms"]} == {
        "Alpha",
        "Beta",
        "Delta",
    }


def test_a_walk_is_bounded_and_says_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "MAX_ROOMS", 3)
    dig(client, ("Alpha", "auth"), ("Delta", "tea"))
    dig(client, ("Alpha", "auth"), ("Gamma", "billing"))
    answer = client.call("traverse", start_room="auth", wing="alpha", max_hops=2)
    assert (answer["total"], answer["truncated"]) == (3, True)
    assert client.call("traverse", start_room="deploy")["truncated"] is False


def test_rooms_that_are_empty_are_walked_past_and_shared_by_none(client: Client) -> None:
    dig(client, ("Alpha", "auth"), ("Delta", "tea"))
    client.call("delete_drawers", wing="delta", dry_run=False)
    client.call("delete_drawers", wing="gamma", dry_run=False)
    assert hops(client.call("traverse", start_room="auth", wing="alpha")) == {
        ("Alpha", "auth", 0, None),
        ("Beta", "Auth", 1, "name"),
    }
    assert client.refuse("traverse", start_room="tea")["argument"] == "start_room"
    assert client.call("graph_stats") == {"wings": 2, "rooms": 4, "shared_rooms": 1, "tunnels": 1}


def test_tunnels_go_along_when_a_room_is_renamed_and_back(client: Client) -> None:
    dig(client, ("Alpha", "auth"), ("Delta", "tea"))
    done = client.call("rename_wing", wing="delta", new_name="Kitchen", dry_run=False)

    def targets() -> list[str]:
        return [each["target"]["wing"] for each in client.call("list_tunnels")["tunnels"]]

    assert targets() == ["Kitchen"]
    client.call("undo_move", move_id=done["move_id"])
    assert targets() == ["Delta"]


def test_a_tunnel_stays_with_what_is_left_and_ends_where_its_rooms_become_one(client: Client) -> None:
    moved = client.add(wing="Delta", room="tea", content="Another.")
    dig(client, ("Delta", "tea"), ("Gamma", "billing"))
    client.call("move_drawers", drawer_ids=[moved], to_room="coffee")
    assert client.call("follow_tunnels", wing="delta", room="tea")["total"] == 1
    client.call("move_drawers", wing="delta", room="tea", to_wing="gamma", to_room="billing", dry_run=False)
    assert client.call("list_tunnels")["total"] == 0


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"source_room": "nowhere"}, "source_room"),
        ({"target_wing": "nowhere"}, "target_room"),
        ({"target_wing": "ALPHA", "target_room": "Auth"}, "target_room"),
        ({"source_wing": "a\nb"}, "source_wing"),
        ({"target_room": ""}, "target_room"),
        ({"label": "a\0"}, "label"),
        ({"label": "x" * 600}, "label"),
        ({"source_drawer_id": NOWHERE}, "source_drawer_id"),
        ({"target_drawer_id": "tea"}, "target_drawer_id"),
    ],
)
def test_refused_tunnels(client: Client, changes: dict[str, Any], argument: str) -> None:
    places = {"source_wing": "Alpha", "source_room": "auth", "target_wing": "Delta", "target_room": "tea"}
    assert client.refuse("create_tunnel", **{**places, **changes})["argument"] == argument


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    [
        ("traverse", {"start_room": "nowhere"}, "start_room"),
        ("traverse", {"start_room": "auth", "wing": "gamma"}, "start_room"),
        ("traverse", {"start_room": "auth", "max_hops": 11}, "max_hops"),
        ("traverse", {"start_room": "auth", "cursor": "x"}, "cursor"),
        ("delete_tunnel", {"tunnel_id": "t_none"}, "tunnel_id"),
        ("find_tunnels", {"wing_a": "a\nb"}, "wing_a"),
    ],
)
def test_refused_questions(client: Client, tool: str, arguments: dict[str, Any], argument: str) -> None:
    assert client.refuse(tool, **arguments)["argument"] == argument
