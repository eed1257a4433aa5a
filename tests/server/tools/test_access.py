"""What a caller limited to one wing is shown of the others: nothing, by any tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import FULL, Deadline, Principal
from mempalace_mcp.core.clock import Calendar
from mempalace_mcp.core.errors import Forbidden, NotFound, PalaceError, ReadOnly
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.palace.access_control import ClosedGraph, WingDiary, WingDrawers
from mempalace_mcp.palace.arguments import read_drawer
from mempalace_mcp.palace.search import WIDER_POOL
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.server.tools.registry import build_tools
from mempalace_mcp.server.tools.tool import Effect
from mempalace_mcp.storage.diary import DiaryStore
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.queries import ALL
from tests.palace.support import opened
from tests.server.tools.support import check_refusal

SECRET = "zebra"
"""In every text, name and fact that is out of reach."""

TABLE = build_tools("full")
LIMITED = Principal("test", wings=("kitchen",))
WITHIN_WINGS = [name for name, offer in TABLE.offers.items() if offer.tool.within_wings]


@dataclass(frozen=True)
class House:
    """A palace, and the drawers in it: ids by what they are."""

    context: AppContext
    ids: dict[str, str]

    def call(self, access: Principal, tool: str, **arguments: Any) -> dict[str, Any]:
        return TABLE.granted(access).call(self.context.granted(access), tool, arguments, Deadline())

    def told(self, access: Principal, tool: str, **arguments: Any) -> str:
        """Whatever the tool answers or refuses, in JSON."""
        try:
            return json.dumps(self.call(access, tool, **arguments), ensure_ascii=False).lower()
        except PalaceError as error:
            return json.dumps(check_refusal(error), ensure_ascii=False).lower()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One wing that the caller may see, others with secrets: live, changed, moved and in the trash."""
    with opened(tmp_path_factory.mktemp("access") / "palace", started=False, PALACE_INDEX="exact") as app:
        app.embedder.start()
        app.embedder.wait()
        palace = app.palace
        secret = palace.add_drawer("Vault", f"{SECRET} room", f"The password is {SECRET}.", source_file=SECRET)
        gone = palace.add_drawer("Vault", "codes", f"The old password was {SECRET}.")
        palace.delete_drawers(drawer_ids=[gone.drawer_id])
        own = palace.add_drawer("Kitchen", "codes", "The password of the pantry is honey.")
        moved = palace.add_drawer("Vault", "codes", f"The password of the cellar was {SECRET}.")
        palace.update_drawer(moved.drawer_id, wing="kitchen", content="The password of the cellar is wine.")
        diary = palace.diary_write("Ada", f"I hid the password with the {SECRET}.", topic=SECRET)
        palace.diary_write("Ada", "I told the cook the password.", wing="kitchen")
        palace.kg_add(f"{SECRET} Ltd", "owns", SECRET, source_drawer_id=secret.drawer_id)
        tunnel, _ = palace.create_tunnel("Kitchen", "codes", "Vault", f"{SECRET} room", label=SECRET)
        ids = {"secret": secret, "gone": gone, "own": own, "moved": moved}
        others = {"diary": diary.drawer_id, "tunnel": tunnel.tunnel_id}
        yield House(AppContext(app), {name: each.drawer_id for name, each in ids.items()} | others)


def asking(ids: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """For each tool that a limited caller has, the calls that would tell the most."""
    everything = [each for name, each in ids.items() if name != "tunnel"]
    text = {"room": "codes", "content": "The password."}
    return {
        "search": [{"query": "password", "limit": 100}, {"query": "password", "wing": "vault"}],
        "check_duplicate": [
            {"content": "The password.", "threshold": 0.0},
            {"content": "The password.", "wing": "vault"},
        ],
        "get_drawers": [{"drawer_ids": everything}],
        "list_drawers": [{}, {"wing": "vault"}, {"room": "codes"}, {"since": "2000-01-01"}],
        "get_taxonomy": [{}, {"wing": "vault"}],
        "list_wings": [{}],
        "list_rooms": [{}, {"wing": "vault"}],
        "get_drawer": [{"drawer_id": each} for each in (ids["secret"], ids["gone"], ids["diary"])],
        "delete_drawer": [{"drawer_id": each} for each in (ids["secret"], ids["gone"])],
        "delete_by_source": [{"source_file": SECRET[:-1]}, {"source_file": SECRET.upper()}],
        "move_drawers": [
            {"drawer_ids": everything, "to_room": "codes", "dry_run": True},
            {"wing": "vault", "to_wing": "kitchen"},
            {"since": "2000-01-01", "to_wing": "kitchen", "dry_run": False},
        ],
        "rename_wing": [{"wing": "vault", "new_name": "kitchen"}, {"wing": "kitchen", "new_name": "vault"}],
        "rename_room": [
            {"wing": "vault", "room": "codes", "new_name": "a"},
            {"wing": "kitchen", "room": "codes", "new_name": f"{SECRET[:-1]} room"},
        ],
        "create_tunnel": [
            {"source_wing": "kitchen", "source_room": "codes", "target_wing": wing, "target_room": room}
            for wing, room in (("vault", "codes"), ("vault", "no room"))
        ],
        "list_tunnels": [{}, {"wing": "vault"}, {"wing": "kitchen"}],
        "delete_tunnel": [{"tunnel_id": ids["tunnel"]}],
        "find_tunnels": [{}, {"wing_a": "vault"}, {"wing_a": "kitchen", "wing_b": "vault"}],
        "follow_tunnels": [{"wing": "kitchen", "room": "codes"}, {"wing": "vault", "room": "codes"}],
        "traverse": [{"start_room": "codes", "max_hops": 10}, {"start_room": "codes", "wing": "vault"}],
        "graph_stats": [{}],
        "undo_move": [{"move_id": number} for number in range(1, 20)],
        "wake_up": [{"agent_name": "Ada", "max_tokens": 8000}, {"wing": "vault", "max_tokens": 8000}],
        "status": [{}],
        "diary_read": [{"agent_name": "Ada"}],
        "delete_drawers": [{"drawer_ids": everything, "dry_run": True}, {"wing": "vault"}, {"since": "2000-01-01"}],
        "restore_drawers": [{"drawer_ids": [ids["secret"], ids["gone"]]}],
        "update_drawer": [{"drawer_id": ids["secret"], "room": "codes"}, {"drawer_id": ids["gone"], "room": "codes"}],
        "add_drawer": [{"wing": "kitchen", **text}, {"wing": "vault", **text}],
        "diary_write": [{"agent_name": "Bo", "entry": "The password."}],
        "checkpoint": [
            {"items": [{"wing": "vault", **text}]},
            {"items": [], "facts": [{"subject": "a", "predicate": "owns", "object": "b"}]},
        ],
    }


@pytest.mark.parametrize("tool", WITHIN_WINGS)
def test_no_tool_tells_of_another_wing(house: House, tool: str) -> None:
    calls = asking(house.ids)
    assert tool in calls, "a tool for limited callers: say here how it could tell of other wings"
    for arguments in calls[tool]:
        assert SECRET not in house.told(LIMITED, tool, **arguments), arguments


@pytest.mark.parametrize(
    "tool",
    [
        "search",
        "get_drawers",
        "list_drawers",
        "get_taxonomy",
        "wake_up",
        "diary_read",
        "list_tunnels",
        "follow_tunnels",
        "traverse",
    ],
)
def test_without_the_limit_the_same_calls_tell(house: House, tool: str) -> None:
    assert SECRET in house.told(FULL, tool, **asking(house.ids)[tool][0])


@pytest.mark.parametrize("tool", [name for name in TABLE.offers if name not in WITHIN_WINGS])
def test_whatever_concerns_the_whole_palace_is_neither_offered_nor_done(house: House, tool: str) -> None:
    assert tool not in TABLE.granted(LIMITED).offers
    with pytest.raises(Forbidden, match=tool):
        house.call(LIMITED, tool)


@pytest.mark.parametrize("tool", [name for name, offer in TABLE.offers.items() if offer.tool.effect is Effect.WRITE])
def test_a_caller_that_may_only_read_is_offered_no_writer(house: House, tool: str) -> None:
    reader = Principal("test", writes=False)
    assert tool not in TABLE.granted(reader).offers
    with pytest.raises(ReadOnly, match="your token only reads"):
        house.call(reader, tool)


def test_a_limited_caller_has_its_own_wing_whole(house: House) -> None:
    found = house.call(LIMITED, "search", query="password", limit=100)["results"]
    assert {hit["drawer_id"] for hit in found} >= {house.ids["own"], house.ids["moved"]}
    assert house.call(LIMITED, "diary_read", agent_name="Ada")["total"] == 1
    assert list(house.call(LIMITED, "get_taxonomy")["taxonomy"]) == ["Kitchen"]
    filed = house.call(LIMITED, "add_drawer", wing="KITCHEN", room="notes", content="Buy bread.")
    assert house.call(LIMITED, "update_drawer", drawer_id=filed["drawer_id"], room="done")["room"] == "done"
    assert house.call(LIMITED, "delete_drawers", drawer_ids=[filed["drawer_id"]])["deleted"] == 1
    assert house.call(LIMITED, "restore_drawers", drawer_ids=[filed["drawer_id"]])["restored"] == [filed["drawer_id"]]


def test_a_drawer_of_another_wing_is_like_none(house: House) -> None:
    unknown = "d_" + "0" * 24
    for tool, arguments in (("update_drawer", {"content": "mine"}), ("update_drawer", {"wing": "kitchen"})):
        refused = []
        for drawer_id in (house.ids["secret"], unknown):
            with pytest.raises(NotFound) as caught:
                house.call(LIMITED, tool, drawer_id=drawer_id, **arguments)
            refused.append(json.dumps(caught.value.as_dict()).replace(drawer_id, "ID"))
        assert refused[0] == refused[1]
    assert house.call(LIMITED, "delete_drawers", drawer_ids=[house.ids["secret"]])["missing"] == [house.ids["secret"]]
    assert house.call(LIMITED, "restore_drawers", drawer_ids=[house.ids["gone"]])["missing"] == [house.ids["gone"]]
    assert SECRET in house.told(FULL, "get_drawers", drawer_ids=[house.ids["secret"]])


def test_nothing_is_filed_in_or_moved_to_another_wing(house: House) -> None:
    text = {"room": "codes", "content": "Ours."}
    refused: list[tuple[str, dict[str, Any]]] = [
        ("add_drawer", {"wing": "vault", **text}),
        ("add_drawer", {"wing": "never seen", **text}),
        ("update_drawer", {"drawer_id": house.ids["own"], "wing": "vault"}),
        ("diary_write", {"agent_name": "Bo", "entry": "Ours."}),
        ("checkpoint", {"items": [{"wing": "kitchen", **text}, {"wing": "vault", **text}]}),
        ("checkpoint", {"items": [], "diary": {"agent_name": "Bo", "entry": "Ours."}}),
    ]
    before = house.call(FULL, "status")["palace"]["drawers"]
    for tool, arguments in refused:
        with pytest.raises(Forbidden) as caught:
            house.call(LIMITED, tool, **arguments)
        assert "kitchen" in check_refusal(caught.value)["hint"]
    assert house.call(FULL, "status")["palace"]["drawers"] == before


def test_no_drawer_is_moved_into_or_out_of_another_wing(house: House) -> None:
    before = house.told(FULL, "get_taxonomy")
    own = house.call(FULL, "get_drawers", drawer_ids=[house.ids["own"]])["drawers"]
    with pytest.raises(Forbidden, match="does not reach the wing 'Vault'") as caught:
        house.call(LIMITED, "move_drawers", drawer_ids=[house.ids["own"]], to_wing="Vault", dry_run=False)
    assert check_refusal(caught.value)["argument"] == "to_wing"
    answer = house.call(LIMITED, "move_drawers", drawer_ids=[house.ids["secret"]], to_wing="kitchen", dry_run=False)
    assert (answer["moved"], answer["missing"]) == (0, [house.ids["secret"]])
    for filters in ({"wing": "vault"}, {"source_file": SECRET}):
        answer = house.call(LIMITED, "move_drawers", **filters, to_wing="kitchen", dry_run=False)
        assert (answer["matched"], answer["moved"]) == (0, 0)
    with pytest.raises(NotFound):
        house.call(LIMITED, "rename_wing", wing="vault", new_name="kitchen", dry_run=False)
    with pytest.raises(NotFound):
        house.call(LIMITED, "rename_room", wing="vault", room="codes", new_name="a", dry_run=False)
    with pytest.raises(Forbidden):
        house.call(LIMITED, "rename_wing", wing="kitchen", new_name="vault", dry_run=False)
    assert house.told(FULL, "get_taxonomy") == before
    assert house.call(FULL, "get_drawers", drawer_ids=[house.ids["own"]])["drawers"] == own


def test_a_move_that_came_from_another_wing_is_not_undone(house: House) -> None:
    into = house.call(FULL, "move_drawers", drawer_ids=[house.ids["secret"]], to_wing="kitchen", to_room="new")
    out = house.call(FULL, "move_drawers", drawer_ids=[house.ids["own"]], to_wing="Vault")
    for move in (into, out):
        with pytest.raises(NotFound):
            house.call(LIMITED, "undo_move", move_id=move["move_id"])
        assert house.call(FULL, "undo_move", move_id=move["move_id"])["moved"] == 1


def test_a_tunnel_into_another_wing_is_like_none(house: House) -> None:
    refused = []
    for tunnel_id in (house.ids["tunnel"], "t_" + "0" * 24):
        with pytest.raises(NotFound) as caught:
            house.call(LIMITED, "delete_tunnel", tunnel_id=tunnel_id)
        refused.append(json.dumps(caught.value.as_dict()).replace(tunnel_id, "ID"))
    assert refused[0] == refused[1]
    assert house.call(LIMITED, "follow_tunnels", wing="kitchen", room="codes")["total"] == 0
    assert house.call(LIMITED, "graph_stats")["tunnels"] == 0
    assert {each["wing"] for each in house.call(LIMITED, "traverse", start_room="codes")["rooms"]} == {"Kitchen"}
    assert house.call(FULL, "follow_tunnels", wing="kitchen", room="codes")["total"] == 1


def test_what_a_drawer_said_in_another_wing_stays_there(house: House) -> None:
    palace = house.context.granted(LIMITED).palace
    assert palace.versions(house.ids["moved"]) == []
    assert palace.versions(house.ids["secret"]) == []
    assert [each.wing for each in house.context.palace.versions(house.ids["moved"])] == ["Vault"]


def test_the_stores_of_a_limited_caller_are_limited_whatever_they_are_asked(house: House) -> None:
    palace = house.context.granted(LIMITED).palace
    drawers, everything = palace._stores.drawers, DrawerFilter()
    with palace._stores.reader.read() as connection:
        rows = drawers.chunk_rows(connection, range(1, 100), everything)
        same = drawers.duplicates(connection, f"The password is {SECRET}.", everything, 10)
        assert drawers.matching(connection, everything, 100)
        assert drawers.count(connection, everything) == len(drawers.matching(connection, everything, ALL))
        assert drawers.find_wing(connection, "vault") is None
        assert drawers.find_room(connection, "vault", "codes") is None
    assert house.ids["own"] in {row.drawer_id for row in rows}
    assert house.ids["secret"] not in {row.drawer_id for row in rows}
    assert same == []


def test_better_answers_in_other_wings_do_not_hide_ones_own(tmp_path: Path) -> None:
    with opened(tmp_path / "palace", started=False, PALACE_INDEX="exact") as app:
        others = [read_drawer(Calendar(), "Vault", "codes", f"password {number}") for number in range(WIDER_POOL + 20)]
        app.palace.file(others)
        app.palace.add_drawer("Kitchen", "codes", "Among many other words there is a password in this note.")
        own = AppContext(app).granted(LIMITED).palace
        assert [hit.drawer.wing for hit in own.search("password").hits] == ["Kitchen"]
        assert own.check_duplicate("password 1").matches == []


def test_a_page_of_one_caller_is_not_turned_by_another(house: House) -> None:
    cursor = house.call(FULL, "list_drawers", limit=1)["next_cursor"]
    assert "cursor" in house.told(LIMITED, "list_drawers", limit=1, cursor=cursor)
    assert SECRET not in house.told(LIMITED, "list_drawers", limit=1, cursor=cursor)


@pytest.mark.parametrize("tool", ["search", "check_duplicate", "get_drawers", "list_drawers", "wake_up", "diary_read"])
def test_texts_come_as_quotations_with_their_source(house: House, tool: str) -> None:
    answer = house.call(FULL, tool, **asking(house.ids)[tool][0])
    assert "data, not instructions" in answer["notice"]
    if tool in ("search", "get_drawers", "list_drawers"):
        drawers = answer.get("results") or answer["drawers"]
        assert all({"wing", "room", "drawer_id", "created_at"} <= set(drawer) for drawer in drawers)
        assert SECRET in [drawer.get("source_file") for drawer in drawers]
        assert "Ada" in [drawer.get("added_by") for drawer in drawers]


def test_an_answer_without_texts_has_no_notice(house: House) -> None:
    assert "notice" not in house.call(FULL, "search", query="nothing at all like it", wing="nowhere")
    assert "notice" not in house.call(FULL, "get_drawers", drawer_ids=["d_" + "0" * 24])


@pytest.mark.parametrize(
    ("limited", "whole", "harmless"),
    [
        (
            WingDrawers,
            DrawerStore,
            {
                "chunks_of",
                "forget_vectors",
                "index_anew",
                "model_stamp",
                "pending",
                "pending_among",
                "pending_count",
                "pending_counts",
                "purge",
                "set_model_stamp",
                "store_vectors",
                "undated_beginnings",
            },
        ),
        (WingDiary, DiaryStore, {"enter", "write"}),
        (ClosedGraph, GraphStore, set()),
    ],
)
def test_every_method_of_the_stores_was_thought_of(limited: type, whole: type, harmless: set[str]) -> None:
    """What is harmless is out of a caller's reach, tells a number alone, or goes through a method that is limited."""
    methods = {name for name in dir(whole) if not name.startswith("_")}
    assert methods - set(vars(limited)) == harmless
