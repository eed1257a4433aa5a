from __future__ import annotations

from tests.server.tools.support import Client


def test_the_taxonomy_counts_drawers_by_place(client: Client) -> None:
    client.add()
    client.add(content="Two.", wing="kitchen")
    client.add(content="Three.", room="coffee")
    client.add(wing="Office")
    places = {"Kitchen": {"tea": 2, "coffee": 1}, "Office": {"tea": 1}}
    assert client.call("get_taxonomy") == {"taxonomy": places, "drawers": 4, "rooms": 3, "truncated": False}
    assert client.call("get_taxonomy", wing="office")["taxonomy"] == {"Office": {"tea": 1}}
    assert client.call("get_taxonomy", wing="nowhere")["taxonomy"] == {}


def test_a_taxonomy_of_many_rooms_shows_the_largest(client: Client) -> None:
    place = {"wing": "Archive", "content": "A page."}
    for start in (0, 400):
        client.call("checkpoint", items=[{**place, "room": f"room {number}"} for number in range(start, start + 400)])
    client.add(wing="Archive", room="room 777")
    answer = client.call("get_taxonomy")
    assert (answer["drawers"], answer["rooms"], answer["truncated"]) == (801, 800, True)
    assert len(answer["taxonomy"]["Archive"]) == 500
    assert answer["taxonomy"]["Archive"]["room 777"] == 2
    assert "wing" in answer["hint"]


def test_waking_up_recalls_what_is_there(client: Client) -> None:
    empty = client.call("wake_up")
    assert empty["drawers"] == 0
    assert empty["truncated"] is False
    client.add()
    client.call("diary_write", agent_name="scribe", entry="Tomorrow: brew tea.")
    answer = client.call("wake_up", agent_name="scribe", wing="", max_tokens=300)
    assert "Darjeeling" in answer["text"]
    assert "brew tea" in answer["text"]
    assert 0 < answer["tokens"] <= 300


def test_refused_awakenings(client: Client) -> None:
    assert client.refuse("wake_up", max_tokens=49)["argument"] == "max_tokens"
    assert client.refuse("wake_up", max_tokens=10**9)["argument"] == "max_tokens"
    assert client.refuse("wake_up", wing="\ud800")["argument"] == "wing"
    assert client.refuse("get_taxonomy", wing="x" * 5_000_000)["argument"] == "wing"


def test_status_is_plain_json(client: Client) -> None:
    assert client.call("status")


def test_reconnect_loses_nothing(client: Client) -> None:
    drawer_id = client.add()
    answer = client.call("reconnect")
    assert {"before", "after"} <= set(answer)
    assert client.call("get_drawers", drawer_ids=[drawer_id])["count"] == 1
    assert client.call("search", query="Darjeeling")["count"] == 1
