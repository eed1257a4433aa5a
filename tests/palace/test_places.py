"""Going to places, and the names on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.palace.palace import COMPLETIONS
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from tests.palace.support import opened


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
