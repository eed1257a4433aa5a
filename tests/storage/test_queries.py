"""Pages, totals, cursors, names and changes; every listing is answered from an index."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Drawer, DrawerChanges, DrawerFilter, RoomCount
from mempalace_mcp.core.text import name_key
from mempalace_mcp.storage.queries import ALL, Names, changes_since
from mempalace_mcp.storage.transactions import Stamp
from tests.storage.drawer_support import EVERY, Cabinet, cabinet, name, whole
from tests.storage.graph_support import fresh_graph

pytestmark = pytest.mark.usefixtures("each_store")


def walk(palace: Cabinet, filter: DrawerFilter, limit: int) -> list[Drawer]:
    """All pages of a listing, one after the other."""
    drawers: list[Drawer] = []
    cursor = None
    while True:
        page = palace.drawers.page(palace.connection, filter, limit, cursor)
        assert page.total == palace.drawers.count(palace.connection, filter)
        drawers += page.items
        if page.next_cursor is None:
            return drawers
        assert len(page.items) == limit
        cursor = page.next_cursor


FILED = st.lists(
    st.tuples(
        st.sampled_from(["One", "Two"]),
        st.sampled_from(["A", "B", "C"]),
        st.sampled_from([None, "x", "y"]),
        st.one_of(st.none(), st.integers(0, 5)),
    ),
    max_size=25,
)

FILTERS = st.builds(
    DrawerFilter,
    wing=st.sampled_from([None, "one", "two", "three"]),
    room=st.sampled_from([None, "a", "b", "z"]),
    source_file=st.sampled_from([None, "x", "y", "z"]),
    since=st.one_of(st.none(), st.integers(0, 6)),
    before=st.one_of(st.none(), st.integers(0, 6)),
    within=st.sampled_from([None, None, (), ("two",), ("one", "three", "two")]),
)


def _matches(drawer: Drawer, filter: DrawerFilter) -> bool:
    when = drawer.created_at if drawer.occurred_at is None else drawer.occurred_at
    return (
        filter.wing in (None, drawer.wing.casefold())
        and (filter.within is None or drawer.wing.casefold() in filter.within)
        and filter.room in (None, drawer.room.casefold())
        and filter.source_file in (None, drawer.source_file)
        and (filter.since is None or when >= filter.since)
        and (filter.before is None or when < filter.before)
    )


@settings(max_examples=150, deadline=None)
@given(FILED, FILTERS, st.integers(1, 4))
def test_pages_hold_every_match_once_newest_first(
    filed: list[tuple[str, str, str | None, int | None]], filter: DrawerFilter, limit: int
) -> None:
    with cabinet() as palace:
        for number, (wing, room, source, when) in enumerate(filed):
            palace.file(f"text {number}", wing=wing, room=room, source_file=source, occurred_at=when)
        everything = [
            palace.get(row[0]) for row in palace.connection.execute("SELECT drawer_id FROM drawers ORDER BY id")
        ]
        palace.delete(*(drawer.drawer_id for drawer in everything[::4]))
        live = [drawer for number, drawer in enumerate(everything) if number % 4 and _matches(drawer, filter)]
        live.reverse()
        live.sort(
            key=lambda drawer: drawer.created_at if drawer.occurred_at is None else drawer.occurred_at, reverse=True
        )
        assert walk(palace, filter, limit) == live
        assert palace.drawers.count(palace.connection, filter) == len(live)
        ids = [drawer.drawer_id for drawer in live]
        assert palace.drawers.matching(palace.connection, filter, ALL) == ids
        assert palace.drawers.matching(palace.connection, filter, limit) == ids[:limit]


def test_drawers_of_one_unit_of_work_are_listed_latest_filed_first() -> None:
    with cabinet() as palace:
        ids = palace.file_all([f"text {n}" for n in range(7)])
        assert [drawer.drawer_id for drawer in walk(palace, EVERY, 3)] == ids[::-1]


def test_a_page_goes_on_where_the_last_one_ended_whatever_is_filed_or_deleted_between() -> None:
    with cabinet() as palace:
        ids = palace.file_all([f"text {n}" for n in range(6)])
        first = palace.drawers.page(palace.connection, EVERY, 2, None)
        palace.file("newer")
        palace.delete(ids[4], ids[2])
        second = palace.drawers.page(palace.connection, EVERY, 2, first.next_cursor)
    assert [drawer.drawer_id for drawer in first.items] == [ids[5], ids[4]]
    assert [drawer.drawer_id for drawer in second.items] == [ids[3], ids[1]]


def test_a_cursor_of_another_filter_is_refused() -> None:
    with cabinet() as palace:
        palace.file_all(["one", "two", "three"])
        cursor = palace.drawers.page(palace.connection, EVERY, 1, None).next_cursor
        for other in (DrawerFilter(wing="work"), DrawerFilter(since=0), DrawerFilter(source_file="\ud800")):
            with pytest.raises(InvalidArgument) as refused:
                palace.drawers.page(palace.connection, other, 1, cursor)
            assert refused.value.argument == "cursor"


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "ü", "=" * 32, "A" * 31, "A" * 32, "A" * 36, base64.b64encode(b"[1, 2]").decode(), "\ud800", "A" * 10**6],
)
def test_garbage_is_no_cursor(cursor: str) -> None:
    with cabinet() as palace, pytest.raises(InvalidArgument) as refused:
        palace.drawers.page(palace.connection, EVERY, 1, cursor)
    assert refused.value.argument == "cursor"
    assert refused.value.hint


@given(st.text(max_size=64))
def test_no_text_breaks_the_reading_of_cursors(cursor: str) -> None:
    with cabinet() as palace, pytest.raises(InvalidArgument):
        palace.drawers.page(palace.connection, EVERY, 1, cursor)


def test_taxonomy_counts_live_drawers_by_room() -> None:
    with cabinet() as palace:
        palace.file_all(["one", "two"], wing="Beta", room="Z")
        palace.file_all(["three"], wing="alpha", room="y")
        palace.delete(*palace.file_all(["four"], wing="Alpha", room="gone"))
        everything = palace.drawers.taxonomy(palace.connection, None)
        assert everything == [RoomCount("alpha", "y", 1), RoomCount("Beta", "Z", 2)]
        assert palace.drawers.taxonomy(palace.connection, "beta") == [RoomCount("Beta", "Z", 2)]
        assert palace.drawers.taxonomy(palace.connection, "gamma") == []


def test_duplicates_are_exact_first_then_normalized_within_the_filter() -> None:
    with cabinet() as palace:
        similar = palace.file("THE  text", room="A").drawer_id
        exact = palace.file("the text", room="B").drawer_id
        later = palace.file("the text", room="C").drawer_id
        palace.file("another text")
        palace.delete(palace.file("the text", room="D").drawer_id)

        def found(filter: DrawerFilter, limit: int = 10) -> list[tuple[str, str]]:
            matches = palace.drawers.duplicates(palace.connection, "the text", filter, limit)
            return [(match.drawer.drawer_id, match.kind) for match in matches]

        assert found(EVERY) == [(later, "exact"), (exact, "exact"), (similar, "normalized")]
        assert found(EVERY, 1) == [(later, "exact")]
        assert found(DrawerFilter(room="a")) == [(similar, "normalized")]


@pytest.fixture
def palace() -> Iterator[Cabinet]:
    with cabinet() as palace:
        yield palace


def test_names_that_begin_so_come_before_those_that_hold_it(palace: Cabinet) -> None:
    for wing in ("Kitchen", "old kit", "Kite", "garden"):
        palace.file("text", wing=wing)
    found = Names().wings(palace.connection, "KIT", 10)
    assert (found.values, found.total) == (["Kitchen", "Kite", "old kit"], 3)
    assert Names().wings(palace.connection, "", 10).values == ["garden", "Kitchen", "Kite", "old kit"]
    assert Names().wings(palace.connection, "%", 10).total == 0


def test_the_total_counts_what_the_limit_leaves_out(palace: Cabinet) -> None:
    for number in range(7):
        palace.file("text", wing=f"wing {number}")
    for begun in ("w", "ing", ""):
        found = Names().wings(palace.connection, begun, 3)
        assert (found.values, found.total) == (["wing 0", "wing 1", "wing 2"], 7)


def test_rooms_are_those_of_the_wing_or_of_all(palace: Cabinet) -> None:
    for wing, room in (("A", "tea"), ("A", "table"), ("B", "Tea"), ("B", "toast")):
        palace.file(f"{wing} {room}", wing=wing, room=room)
    assert Names().rooms(palace.connection, "t", 10, wing="a").values == ["table", "tea"]
    everywhere = Names().rooms(palace.connection, "t", 10)
    assert ([name_key(each) for each in everywhere.values], everywhere.total) == (["table", "tea", "toast"], 3)
    assert Names().rooms(palace.connection, "", 10, wing="nowhere").total == 0


def test_what_holds_no_live_drawer_is_not_named(palace: Cabinet) -> None:
    gone = palace.file("text", wing="Gone", room="gone").drawer_id
    entry = palace.write(lambda tx: palace.diary.write(tx, name("Ada"), "words", "day", None, whole("words")))
    palace.write(lambda tx: palace.drawers.delete(tx, [gone, entry.drawer_id]))
    assert Names().wings(palace.connection, "", 10).values == []
    assert Names().rooms(palace.connection, "", 10).values == []
    assert Names().rooms(palace.connection, "", 10, wing="gone").values == []
    assert Names().agents(palace.connection, "", 10).values == []


def test_each_agent_is_named_once_however_much_it_wrote(palace: Cabinet) -> None:
    for agent, entry in (("Ada", "one"), ("ada", "two"), ("Bob", "three"), ("ADA", "four")):
        palace.write(
            partial(palace.diary.write, agent=name(agent), entry=entry, topic="day", wing=None, spans=whole(entry))
        )
    assert Names().agents(palace.connection, "", 10).values == ["Ada", "Bob"]
    assert Names().agents(palace.connection, "D", 10).values == ["Ada"]


def test_only_the_wings_in_reach_count(palace: Cabinet) -> None:
    for wing, room in (("A", "tea"), ("B", "table")):
        palace.file("text", wing=wing, room=room)
    palace.write(lambda tx: palace.diary.write(tx, name("Ada"), "words", "day", None, whole("words")))
    names = Names(within=["b"])
    assert names.wings(palace.connection, "", 10).values == ["B"]
    assert names.rooms(palace.connection, "", 10).values == ["table"]
    assert names.rooms(palace.connection, "", 10, wing="a").values == []
    assert names.agents(palace.connection, "", 10).values == names.entities(palace.connection, "", 10).values == []
    assert Names(within=["wing_ada"]).agents(palace.connection, "", 10).values == ["Ada"]


def test_entities_are_compared_as_they_are_stored() -> None:
    with fresh_graph() as graph:
        for entity in ("Anna", "ann", "Bob", "ANNABEL", "\u00c5sa", "A\U0010ffff"):
            graph.add(entity, "is", "known")

        def entities(begun: str, limit: int = 100) -> list[str]:
            return list(Names().entities(graph.connection, begun, limit).values)

        assert entities("AN") == ["ann", "Anna", "ANNABEL"]
        assert entities("an", 2) == ["ann", "Anna"]
        assert entities("A\u030a") == ["\u00c5sa"]
        assert entities("")[-1] == "\u00c5sa"
        assert entities("bel") == ["ANNABEL"]
        assert entities("%") == entities("x") == []


@settings(deadline=None)
@given(st.text(max_size=20))
def test_whatever_is_begun_finds_only_what_holds_it(begun: str) -> None:
    with cabinet() as palace:
        for wing in ("Straße", "ÅSA", "i̇stanbul"):
            palace.file("text", wing=wing)
        key = name_key(begun.lstrip())
        if not begun.isprintable():
            return
        assert all(key in name_key(each) for each in Names().wings(palace.connection, begun, 10).values)


def test_places_of_what_was_filed_changed_deleted_and_restored(palace: Cabinet) -> None:
    first = palace.file("one", wing="Work", room="Notes").drawer_id
    for act in (
        lambda: palace.file("two", wing="WORK", room="notes"),
        lambda: palace.write(lambda tx: palace.drawers.update(tx, first, DrawerChanges(content="new"), None)),
        lambda: palace.write(lambda tx: palace.drawers.delete(tx, [first])),
        lambda: palace.write(lambda tx: palace.drawers.restore(tx, [first])),
    ):
        before = Stamp.last(palace.connection)
        act()
        assert changes_since(palace.connection, before, []).places == {("work", "notes")}
        assert changes_since(palace.connection, Stamp.last(palace.connection), []).places == frozenset()


def test_a_drawer_that_moves_changes_every_place_on_its_way(palace: Cabinet) -> None:
    drawer = palace.file("one", wing="Work", room="Notes").drawer_id
    palace.write(lambda tx: palace.drawers.update(tx, drawer, DrawerChanges(room=name("Earlier")), None))
    before = Stamp.last(palace.connection)
    for wing, room in (("Work", "Straße"), ("Home", "Desk")):
        changes = DrawerChanges(wing=name(wing), room=name(room))
        palace.write(partial(palace.drawers.update, drawer_id=drawer, changes=changes, spans=None))
    assert changes_since(palace.connection, before, []).places == {
        ("work", "earlier"),
        ("work", "strasse"),
        ("home", "desk"),
    }


def test_only_the_drawers_in_question_are_named(palace: Cabinet) -> None:
    ids = palace.file_all(["one", "two", "three"])
    before = Stamp.last(palace.connection)
    palace.write(lambda tx: palace.drawers.delete(tx, ids[:2]))
    assert changes_since(palace.connection, before, [ids[0], ids[2], "d_none"]).drawers == {ids[0]}


def test_work_on_other_things_changes_no_place(palace: Cabinet) -> None:
    palace.file("one")
    before = Stamp.last(palace.connection)
    palace.write(lambda tx: tx.stamp)
    assert Stamp.last(palace.connection).seq == before.seq + 1
    assert changes_since(palace.connection, before, []).places == frozenset()
