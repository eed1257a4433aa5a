"""The facade: texts filed verbatim, changed with their history kept, thrown away and brought back; places and names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.palace.arguments import MAX_ITEMS
from mempalace_mcp.palace.palace import COMPLETIONS
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from tests.palace.support import opened, seq_of

pytestmark = pytest.mark.usefixtures("each_store")

TEXTS = ("Plain.", "Zeilen\r\nmit\tTab\r\n", "绿茶 🍵 é e\u0301", "  spaces kept  ", "\ufeffwith a mark", "x" * 100_000)

UNKNOWN = "d_" + "0" * 24


@pytest.mark.parametrize("content", TEXTS)
def test_a_text_comes_back_byte_for_byte(tmp_path: Path, content: str) -> None:
    with opened(tmp_path, started=False) as app:
        filed = app.palace.add_drawer("Project", "Notes", content, metadata={"k": [1, None, "ü"]})
        (drawer,) = app.palace.get_drawers([filed.drawer_id]).drawers
    assert drawer.content.encode() == content.encode()
    assert (drawer.wing, drawer.room, drawer.version, dict(drawer.metadata)) == (
        "Project",
        "Notes",
        1,
        {"k": [1, None, "ü"]},
    )


def test_the_same_text_twice_is_one_drawer_and_a_similar_one_is_told(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        add = app.palace.add_drawer
        first = add("w", "r", "The deploy failed.", source_file="a.md")
        again = add("W", "R", "The deploy failed.", source_file="a.md")
        elsewhere = add("w", "other room", "The deploy failed.", source_file="a.md")
        like = add("w", "r", "the  deploy failed.", source_file="a.md")
        assert (again.drawer_id, again.created) == (first.drawer_id, False)
        assert elsewhere.created
        assert elsewhere.near_duplicate_of is None
        assert (like.created, like.near_duplicate_of) == (True, first.drawer_id)
        app.palace.update_drawer(first.drawer_id, content="It works.")
        assert add("w", "r", "The deploy failed.", source_file="a.md").created


def test_an_update_keeps_the_id_and_what_was_said_before(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        drawer_id = app.palace.add_drawer("w", "r", "old words alpha").drawer_id
        updated = app.palace.update_drawer(drawer_id, content="new words beta", room="moved")
        assert (updated.drawer_id, updated.version, updated.room) == (drawer_id, 2, "moved")
        (version,) = app.palace.versions(drawer_id)
        assert (version.content, version.room, version.version) == ("old words alpha", "r", 1)
        found = [hit.drawer.content for hit in app.palace.search("beta").hits]
        assert found == ["new words beta"]
        assert not app.palace.search("alpha", mode="keyword").hits  # type: ignore[arg-type]


def test_deleting_by_ids_and_restoring(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        one, two = (app.palace.add_drawer("w", "r", f"number {n}").drawer_id for n in range(2))
        trial = app.palace.delete_drawers(drawer_ids=[one], dry_run=True)
        assert (trial.matched, trial.deleted, trial.dry_run) == (1, 0, True)
        done = app.palace.delete_drawers(drawer_ids=[one, UNKNOWN])
        assert (done.matched, done.deleted, done.missing) == (1, 1, [UNKNOWN])
        assert app.palace.get_drawers([one, two]).missing == [one]
        back = app.palace.restore_drawers([one, two])
        assert (back.restored, back.missing) == ([one], [two])
        assert app.palace.get_drawers([one]).missing == []


def test_deleting_by_filter_is_a_dry_run_unless_told(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        for number in range(7):
            app.palace.add_drawer("w" if number else "keep", "r", f"number {number}")
        trial = app.palace.delete_drawers(wing="W")
        assert (trial.matched, trial.deleted, trial.dry_run, len(trial.sample)) == (6, 0, True, 5)
        assert app.palace.delete_drawers(wing="W", dry_run=False).deleted == 6
        assert [room.wing for room in app.palace.get_taxonomy().rooms if room.drawers] == ["keep"]


@pytest.mark.parametrize(
    "arguments", [{}, {"wing": ""}, {"drawer_ids": [UNKNOWN], "wing": "w"}, {"drawer_ids": [], "wing": "w"}]
)
def test_deleting_needs_ids_or_filters_and_not_both(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with opened(tmp_path, started=False) as app, pytest.raises(InvalidArgument, match="drawer_ids or at least"):
        app.palace.delete_drawers(**arguments, dry_run=False)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("delete_drawers", {"drawer_ids": []}, "drawer_ids"),
    ("add_drawer", {"wing": "", "room": "r", "content": "x"}, "wing"),
    ("add_drawer", {"wing": "w", "room": "a\nb", "content": "x"}, "room"),
    ("add_drawer", {"wing": "w", "room": "r", "content": " "}, "content"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "a\0b"}, "content"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "\udcff"}, "content"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "x" * 5_000_000}, "content"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "x", "occurred_at": "soon"}, "occurred_at"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "x", "metadata": {"k": "y" * 20_000}}, "metadata"),
    ("add_drawer", {"wing": "w", "room": "r", "content": "x", "metadata": {"k": float("nan")}}, "metadata"),
    ("update_drawer", {"drawer_id": UNKNOWN}, "content"),
    ("update_drawer", {"drawer_id": "nonsense", "content": "x"}, "drawer_id"),
    ("get_drawers", {"drawer_ids": []}, "drawer_ids"),
    ("get_drawers", {"drawer_ids": [UNKNOWN] * 501}, "drawer_ids"),
    ("list_drawers", {"limit": -5}, "limit"),
    ("list_drawers", {"limit": 10**9}, "limit"),
    ("list_drawers", {"limit": True}, "limit"),
    ("list_drawers", {"cursor": "nonsense"}, "cursor"),
    ("list_drawers", {"since": "2026-02-02", "before": "2026-01-01"}, "before"),
    ("search", {"query": " "}, "query"),
    ("search", {"query": "q" * 65_537}, "query"),
    ("search", {"query": "q", "max_tokens": 1}, "max_tokens"),
    ("kg_add", {"subject": "s", "predicate": "p", "object": "o", "confidence": 2}, "confidence"),
    (
        "kg_add",
        {"subject": "s", "predicate": "p", "object": "o", "valid_from": "2026-13", "valid_to": ""},
        "valid_from",
    ),
    (
        "kg_add",
        {"subject": "s", "predicate": "p", "object": "o", "valid_from": "2026-02-02", "valid_to": "2026-01-01"},
        "valid_to",
    ),
    ("kg_query", {"entity": "e", "depth": 9}, "depth"),
    ("diary_write", {"agent_name": "a", "entry": ""}, "entry"),
    ("diary_read", {"agent_name": "a", "last_n": 0}, "last_n"),
    ("wake_up", {"max_tokens": 3}, "max_tokens"),
    ("checkpoint", {"items": []}, "items"),
    ("checkpoint", {"items": [{"wing": "w", "room": "r", "content": "x"}] * (MAX_ITEMS + 1)}, "items"),
]


def test_what_is_refused_names_its_argument_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        before = seq_of(app)
        for method, arguments, culprit in REFUSED:
            with pytest.raises(InvalidArgument) as caught:
                getattr(app.palace, method)(**arguments)
            assert caught.value.argument == culprit, method
            assert caught.value.hint, method
        assert seq_of(app) == before


def test_updating_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app, pytest.raises(NotFound):
        app.palace.update_drawer(UNKNOWN, content="x")


def test_a_checkpoint_stores_everything(tmp_path: Path) -> None:
    item = {"wing": "w", "room": "r", "content": "one"}
    with opened(tmp_path, started=False) as app:
        report = app.palace.checkpoint(
            [item, {**item, "content": "two", "added_by": "other"}, item],
            facts=[{"subject": "a", "predicate": "knows", "object": "b"}],
            diary={"agent_name": "Keeper", "entry": "A day."},
            added_by="agent",
        )
        assert [each.created for each in report.drawers] == [True, True, False]
        assert report.drawers[0].id == report.drawers[2].id
        drawers = app.palace.get_drawers([each.id for each in report.drawers[:2]]).drawers
        assert [drawer.added_by for drawer in drawers] == ["agent", "other"]
        assert app.palace.kg_query("a").total == 1
        assert app.palace.diary_read("keeper").items[0].content == "A day."


@pytest.mark.parametrize(
    ("checkpoint", "culprit"),
    [
        (
            {"items": [{"wing": "w", "room": "r", "content": "good"}, {"wing": "w", "room": "r", "content": ""}]},
            "items[1].content",
        ),
        (
            {"items": [], "facts": [{"subject": "s", "predicate": "p", "object": "o", "valid_to": "x"}]},
            "facts[0].valid_to",
        ),
        (
            {
                "items": [{"wing": "w", "room": "r", "content": "good"}],
                "facts": [{"subject": "s", "predicate": "p", "object": "o", "source_drawer_id": UNKNOWN}],
            },
            "facts[0].source_drawer_id",
        ),
        (
            {"items": [{"wing": "w", "room": "r", "content": "good"}], "diary": {"agent_name": "", "entry": "e"}},
            "diary.agent_name",
        ),
    ],
)
def test_a_checkpoint_with_a_fault_stores_nothing(tmp_path: Path, checkpoint: dict[str, Any], culprit: str) -> None:
    with opened(tmp_path, started=False) as app:
        before = seq_of(app)
        with pytest.raises(InvalidArgument) as caught:
            app.palace.checkpoint(**checkpoint)
        assert caught.value.argument == culprit
        assert seq_of(app) == before
        assert app.palace.get_taxonomy().drawers == 0


def test_a_purged_text_leaves_no_byte_behind(tmp_path: Path) -> None:
    secret = "the combination of the safe is 17-4711-23"
    with opened(tmp_path) as app:
        kept = app.palace.add_drawer("w", "r", "what is kept").drawer_id
        app.palace.update_drawer(app.palace.add_drawer("w", "r", secret).drawer_id, content=f"{secret} no more")
        assert app.indexer.wait_until_idle(30)
        app.palace.delete_drawers(drawer_ids=[hit.drawer.drawer_id for hit in app.palace.search("safe").hits][:1])
    with opened(tmp_path, PALACE_TRASH_DAYS="0") as app:
        assert app.indexer.wait_until_idle(30)
        assert app.palace.get_drawers([kept]).missing == []
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"4711" not in file.read_bytes(), file


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path, started=False) as app:
        yield app


def test_a_wing_shows_its_rooms_and_a_room_its_newest_drawers(app: App) -> None:
    first = app.palace.add_drawer("Orion", "auth", "Tokens live an hour.").drawer_id
    second = app.palace.add_drawer("orion", "Auth", "Keys live a day.").drawer_id
    app.palace.add_drawer("orion", "deploy", "On Tuesdays.")
    wing = app.palace.get_wing("ORION")
    assert (wing.name, wing.drawers, [(room.room, room.drawers) for room in wing.rooms]) == (
        "Orion",
        3,
        [("auth", 2), ("deploy", 1)],
    )
    room = app.palace.get_room("orion", "AUTH", limit=1)
    assert (room.wing, room.name, room.drawers.total) == ("Orion", "auth", 2)
    assert [drawer.drawer_id for drawer in room.drawers.items] == [second]
    assert app.palace.get_drawer("orion", "auth", first).content == "Tokens live an hour."


def test_what_is_not_there_is_named_and_what_is_emptied_is_still_a_place(app: App) -> None:
    drawer = app.palace.add_drawer("Orion", "auth", "Tokens live an hour.").drawer_id
    for argument, visit in (
        ("wing", lambda: app.palace.get_wing("vega")),
        ("room", lambda: app.palace.get_room("orion", "deploy")),
        ("drawer_id", lambda: app.palace.get_drawer("orion", "deploy", drawer)),
        ("drawer_id", lambda: app.palace.get_drawer("vega", "auth", drawer)),
    ):
        with pytest.raises(NotFound) as refused:
            visit()
        assert refused.value.argument == argument
    app.palace.delete_drawers(drawer_ids=[drawer])
    with pytest.raises(NotFound):
        app.palace.get_drawer("orion", "auth", drawer)
    assert app.palace.get_wing("orion").drawers == 0
    assert app.palace.get_room("orion", "auth").drawers.items == []


def test_names_are_completed_for_whoever_may_see_them(app: App) -> None:
    for number in range(COMPLETIONS + 5):
        app.palace.add_drawer(f"wing {number:03}", "auth", "Tokens live an hour.")
    app.palace.add_drawer("secret", "vault", "The code is 1234.")
    app.palace.diary_write("Keeper", "Today the cache was cleared.")
    app.palace.kg_add("Mira", "works in", "team Orion")
    wings = app.palace.complete_wing("WING")
    assert (len(wings.values), wings.total) == (COMPLETIONS, COMPLETIONS + 6)
    assert app.palace.complete_room("v", wing="secret").values == ["vault"]
    assert app.palace.complete_room("v", wing="").values == ["vault"]
    assert app.palace.complete_agent("keep").values == ["Keeper"]
    assert app.palace.complete_entity("team").values == ["team Orion"]
    palace = AppContext(app).granted(Principal(wings=("wing 001",))).palace
    assert palace.complete_wing("").values == ["wing 001"]
    assert palace.complete_room("vault").values == palace.complete_entity("").values == []
    assert palace.complete_agent("").values == []
    for forbidden in (lambda: palace.get_wing("secret"), lambda: palace.get_room("secret", "vault")):
        with pytest.raises(NotFound):
            forbidden()


@pytest.mark.parametrize("begun", ["a" * 10_000, "\0", "\ud800"])
def test_what_begins_no_name_is_refused(app: App, begun: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        app.palace.complete_wing(begun)
    assert refused.value.argument == "value"
