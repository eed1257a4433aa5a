from __future__ import annotations

import re
from typing import Any

import pytest

from tests.server.tools.support import DRAWER, Client
from tests.server.tools.test_long_texts import parts_of

pytestmark = pytest.mark.long

NOWHERE = "d_00000000000" + "0" * 13


def drawer_of(client: Client, drawer_id: str) -> dict[str, Any]:
    (drawer,) = client.call("get_drawers", drawer_ids=[drawer_id])["drawers"]
    assert isinstance(drawer, dict)
    return drawer


def test_a_filed_drawer_is_read_back_verbatim(client: Client) -> None:
    metadata = {"tags": ["a", "ü"], "nested": {"n": 1.5, "none": None}}
    content = "  tea\r\n\tfor two \u2028 ☕  "
    filed = client.call(
        "add_drawer",
        wing=" Kitchen ",
        room="tea",
        content=content,
        source_file="tea.md",
        added_by="Ada",
        occurred_at="2026-05-08",
        metadata=metadata,
    )
    assert filed["created"] is True
    assert filed["pending"] is True
    assert (filed["wing"], filed["room"]) == ("Kitchen", "tea")
    drawer = drawer_of(client, filed["drawer_id"])
    assert drawer.pop("created_at") == drawer.pop("updated_at")
    assert drawer == {
        "drawer_id": filed["drawer_id"],
        "wing": "Kitchen",
        "room": "tea",
        "content": content,
        "characters": len(content),
        "source_file": "tea.md",
        "added_by": "Ada",
        "occurred_at": "2026-05-08T00:00:00Z",
        "version": 1,
        "metadata": metadata,
    }


def test_the_same_text_again_is_the_same_drawer(client: Client) -> None:
    first = client.call("add_drawer", **DRAWER)
    again = client.call("add_drawer", **DRAWER)
    assert again["created"] is False
    assert again["pending"] is False
    assert again["drawer_id"] == first["drawer_id"]
    near = client.call("add_drawer", **{**DRAWER, "content": DRAWER["content"].upper()})
    assert near["created"] is True
    assert near["near_duplicate_of"] == first["drawer_id"]
    assert "near_duplicate_of" not in first


def test_a_text_that_holds_a_secret_is_filed_verbatim_with_a_warning(client: Client) -> None:
    content = "Deploy with ghp_q7Zk2mVx9LwPt4Rb8NcYh3Ds6Gf1Jj5Ka0Qe."
    answer = client.call("add_drawer", wing="w", room="r", content=content)
    assert "github token" in answer["warning"]
    assert "ghp_" not in answer["warning"]
    assert client.call("get_drawers", drawer_ids=[answer["drawer_id"]])["drawers"][0]["content"] == content
    assert "warning" not in client.call("add_drawer", wing="w", room="r", content="Deploy on Tuesday.")


def test_what_is_absent_is_left_out(client: Client) -> None:
    drawer = drawer_of(client, client.add(source_file="", added_by=None))
    assert not {"source_file", "added_by", "occurred_at"} & set(drawer)


@pytest.mark.parametrize("content", ["x" * 1_048_576, "ö" * 524_288])
def test_a_mebibyte_may_be_filed(client: Client, content: str) -> None:
    drawer_id = client.add(content=content)
    parts = parts_of(client, [drawer_id], max_tokens=100_000)
    assert "".join(part["content"] for part in parts) == content


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"content": "x" * 5_000_000}, "content"),
        ({"content": "x" * 1_048_577}, "content"),
        ({"content": "ö" * 524_289}, "content"),
        ({"content": ""}, "content"),
        ({"content": " \n\t "}, "content"),
        ({"content": "a\0b"}, "content"),
        ({"content": "a\ud800b"}, "content"),
        ({"content": "\udcff"}, "content"),
        ({"content": {"text": "tea"}}, "content"),
        ({"content": None}, "content"),
        ({"wing": ""}, "wing"),
        ({"wing": "x" * 129}, "wing"),
        ({"wing": "a\nb"}, "wing"),
        ({"room": "a\0b"}, "room"),
        ({"room": "\udfff"}, "room"),
        ({"added_by": "a\x07"}, "added_by"),
        ({"source_file": "x" * 5_000_000}, "source_file"),
        ({"source_file": "a\0"}, "source_file"),
        ({"occurred_at": "08.05.2026"}, "occurred_at"),
        ({"occurred_at": "2026-13-01"}, "occurred_at"),
        ({"occurred_at": "2026-05-08T25:00"}, "occurred_at"),
        ({"occurred_at": "9" * 1_000_000}, "occurred_at"),
        ({"metadata": {"a": "x" * 17_000}}, "metadata"),
        ({"metadata": {"a": "\ud800"}}, "metadata"),
        ({"metadata": {"\ud800": 1}}, "metadata"),
        ({"metadata": {"a": float("inf")}}, "metadata"),
        ({"metadata": {"a": 10**5000}}, "metadata"),
        ({"text": "tea"}, "text"),
    ],
)
def test_refused_drawers(empty: Client, changes: dict[str, Any], argument: str) -> None:
    shown = empty.refuse("add_drawer", **{**DRAWER, **changes})
    assert shown["code"] == "invalid_argument"
    assert shown["argument"] == argument
    assert shown["hint"]
    assert empty.call("list_drawers")["total"] == 0


def test_get_drawers_names_the_missing(client: Client) -> None:
    one, two = client.add(), client.add(content="Two.")
    answer = client.call("get_drawers", drawer_ids=[two, NOWHERE, one])
    assert [drawer["drawer_id"] for drawer in answer["drawers"]] == [two, one]
    assert answer["missing"] == [NOWHERE]
    assert answer["count"] == 2
    assert client.refuse("get_drawers", drawer_ids=[])["argument"] == "drawer_ids"
    assert client.refuse("get_drawers", drawer_ids=[one, "x' OR 1=1"])["argument"] == "drawer_ids[1]"


def test_listing_pages_through_everything_once(client: Client) -> None:
    filed = [client.add(content=f"Cup {number} " + "x" * 300) for number in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = client.call("list_drawers", limit=3, cursor=cursor)
        assert page["total"] == 7
        assert page["count"] == len(page["drawers"])
        seen += [drawer["drawer_id"] for drawer in page["drawers"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(filed)
    drawer = client.call("list_drawers", limit=1)["drawers"][0]
    assert len(drawer["preview"]) == 200
    assert drawer["characters"] == 306
    assert "content" not in drawer


def test_a_listing_is_filtered(client: Client) -> None:
    client.add()
    office = client.add(wing="Office", source_file="s", occurred_at="2020-01-01")
    for filters in (
        {"wing": "office"},
        {"source_file": "s"},
        {"before": "2020-01-02"},
        {"wing": "Office", "room": "TEA"},
    ):
        page = client.call("list_drawers", **filters)
        assert [drawer["drawer_id"] for drawer in page["drawers"]] == [office]
        assert page["total"] == 1
    assert client.call("list_drawers", wing="nowhere") == {"drawers": [], "count": 0, "total": 0, "next_cursor": None}


def test_refused_listings(client: Client) -> None:
    assert client.refuse("list_drawers", cursor="nonsense")["argument"] == "cursor"
    assert client.refuse("list_drawers", cursor="x" * 5_000_000)["argument"] == "cursor"
    assert client.refuse("list_drawers", cursor="\ud800")["argument"] == "cursor"
    assert client.refuse("list_drawers", limit=101)["argument"] == "limit"
    assert client.refuse("list_drawers", offset=20)["argument"] == "offset"


def test_an_update_keeps_the_id(client: Client) -> None:
    drawer_id = client.add()
    answer = client.call("update_drawer", drawer_id=drawer_id, content="Ada drinks coffee.", room="coffee")
    assert answer["drawer_id"] == drawer_id
    assert answer["version"] == 2
    assert answer["room"] == "coffee"
    drawer = drawer_of(client, drawer_id)
    assert drawer["content"] == "Ada drinks coffee."
    assert drawer["updated_at"] == answer["updated_at"]
    assert client.call("search", query="Darjeeling", mode="keyword")["results"] == []


def test_refused_updates(client: Client) -> None:
    drawer_id = client.add()
    client.settle()
    assert client.refuse("update_drawer", drawer_id=drawer_id)["code"] == "invalid_argument"
    assert client.refuse("update_drawer", drawer_id=NOWHERE, content="c")["code"] == "not_found"
    assert client.refuse("update_drawer", drawer_id="", content="c")["argument"] == "drawer_id"
    assert client.refuse("update_drawer", drawer_id="x" * 5_000_000, content="c")["argument"].startswith("drawer_id")
    assert client.refuse("update_drawer", drawer_id=drawer_id, content="a\0b")["argument"] == "content"
    assert client.refuse("update_drawer", drawer_id=drawer_id, content="x" * 5_000_000)["argument"] == "content"
    assert drawer_of(client, drawer_id)["version"] == 1


def test_deleting_by_ids_is_done_at_once_and_undone(client: Client) -> None:
    one, two = client.add(), client.add(content="Two.")
    answer = client.call("delete_drawers", drawer_ids=[one, NOWHERE])
    assert (answer["matched"], answer["deleted"], answer["dry_run"]) == (1, 1, False)
    assert answer["missing"] == [NOWHERE]
    assert [drawer["drawer_id"] for drawer in answer["sample"]] == [one]
    assert "restored" in answer["hint"]
    assert client.call("get_drawers", drawer_ids=[one, two])["missing"] == [one]
    assert client.call("restore_drawers", drawer_ids=[one, two]) == {"restored": [one], "missing": [two]}
    assert drawer_of(client, one)["content"] == DRAWER["content"]


def test_deleting_by_filter_is_a_dry_run_first(client: Client) -> None:
    client.add()
    client.add(wing="Office")
    client.settle()
    before = client.seq
    answer = client.call("delete_drawers", wing="Kitchen")
    assert (answer["matched"], answer["deleted"], answer["dry_run"]) == (1, 0, True)
    assert "dry_run false" in answer["hint"]
    assert client.seq == before
    answer = client.call("delete_drawers", wing="Kitchen", dry_run=False)
    assert (answer["matched"], answer["deleted"], answer["dry_run"]) == (1, 1, False)
    assert client.call("list_drawers")["total"] == 1


def test_a_dry_run_shows_the_instants_that_words_were_taken_for(client: Client) -> None:
    client.add(occurred_at="2024-03-10T12:00Z")
    answer = client.call("delete_drawers", since="March 2024", before="April 2024")
    assert answer["matched"] == 1
    assert re.search("delete 1 since 2024-0(2-29|3-01)T.* before 2024-0(3-31|4-01)T", answer["hint"])
    assert "since" not in client.call("delete_drawers", wing="Kitchen")["hint"]
    assert client.refuse("delete_drawers", since="some day", dry_run=False)["argument"] == "since"


def test_deleting_nothing_claims_nothing(client: Client) -> None:
    answer = client.call("delete_drawers", wing="nowhere", dry_run=False)
    assert (answer["matched"], answer["deleted"]) == (0, 0)
    assert "hint" not in answer


def test_refused_deletions(client: Client) -> None:
    drawer_id = client.add()
    client.settle()
    assert client.refuse("delete_drawers")["code"] == "invalid_argument"
    assert client.refuse("delete_drawers", dry_run=False)["code"] == "invalid_argument"
    assert client.refuse("delete_drawers", wing="", room="", drawer_ids="", dry_run=False)["code"] == "invalid_argument"
    assert client.refuse("delete_drawers", drawer_ids=[drawer_id], wing="Kitchen")["code"] == "invalid_argument"
    assert client.refuse("delete_drawers", drawer_ids=[drawer_id] * 501)["argument"] == "drawer_ids"
    assert client.refuse("delete_drawers", wing="Kitchen", dry_run="no")["argument"] == "dry_run"
    assert client.refuse("delete_drawers", wing="Kitchen", since="one day", dry_run=False)["argument"] == "since"
    assert client.refuse("restore_drawers", drawer_ids=["d_1"])["argument"] == "drawer_ids[0]"
    assert client.call("list_drawers")["total"] == 1
