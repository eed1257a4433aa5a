"""Pages, totals and cursors; every listing is answered from an index."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Drawer, DrawerFilter, NewDrawer, RoomCount
from mempalace_mcp.storage.queries import ALL, condition_of, conditions_by_room
from tests.storage.drawer_support import EVERY, Cabinet, cabinet, place, whole
from tests.storage.support import plan


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


PLANS = [
    (EVERY, "drawers_by_when"),
    (DrawerFilter(since=1), "drawers_by_when"),
    (DrawerFilter(wing="one"), "drawers_by_wing"),
    (DrawerFilter(wing="one", since=1, before=9), "drawers_by_wing"),
    (DrawerFilter(wing="one", within=("one",)), "drawers_by_wing"),
    (DrawerFilter(room="a"), "drawers_by_room"),
    (DrawerFilter(source_file="x"), "drawers_by_source"),
    (DrawerFilter(source_file="x", since=1), "drawers_by_source"),
]


@pytest.mark.parametrize(("filter", "index"), PLANS, ids=str)
def test_listings_and_counts_follow_one_index_and_sort_nothing(filter: DrawerFilter, index: str) -> None:
    with cabinet() as palace:
        palace.write(
            lambda tx: palace.drawers.file(tx, NewDrawer(place("One", "A"), "text", source_file="x"), whole("text"))
        )
        (condition,) = conditions_by_room(palace.connection, filter)
        listed = plan(
            palace.connection,
            f"SELECT d.when_at, d.id FROM {condition.source} AND (d.when_at, d.id) < (:after, 1)"
            " ORDER BY d.when_at DESC, d.id DESC LIMIT 3",
            condition.values | {"after": 9},
        )
        every = condition_of(filter, palace.connection.dialect)
        counted = plan(palace.connection, f"SELECT count(*) FROM {every.source}", every.values)
    for found in (listed, counted):
        steps = " / ".join(found)
        assert f"INDEX {index} (" in steps
        assert "TEMP B-TREE" not in steps
