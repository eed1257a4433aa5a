"""Diaries: entries by agent and topic, which are drawers too."""

from __future__ import annotations

import pytest

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import DiaryEntry, DrawerFilter
from mempalace_mcp.core.text import Name
from tests.storage.drawer_support import START, Cabinet, cabinet, name, whole

pytestmark = pytest.mark.usefixtures("each_store")


def write(palace: Cabinet, agent: str, entry: str, topic: str = "general", wing: str | None = None) -> DiaryEntry:
    place: Name | None = name(wing) if wing else None
    return palace.write(lambda tx: palace.diary.write(tx, name(agent), entry, topic, place, whole(entry)))


def entries(palace: Cabinet, agent: str, topic: str | None = None) -> list[str]:
    page = palace.diary.page(palace.connection, agent, topic, 100, None)
    assert page.total == len(page.items)
    return [entry.content for entry in page.items]


def test_an_entry_is_a_dated_drawer_of_its_agent() -> None:
    with cabinet() as palace:
        entry = write(palace, "Scribe", "Learned about tides.", "Sea")
        drawer = palace.get(entry.drawer_id)
        assert entry == DiaryEntry(drawer.drawer_id, "Scribe", "Sea", "Learned about tides.", START)
        assert (drawer.wing, drawer.room, drawer.added_by) == ("wing_Scribe", "diary", "Scribe")
        assert (drawer.content, drawer.occurred_at) == ("Learned about tides.", START)
        assert palace.found("tides") == palace.found("november 2023") == [drawer.drawer_id]
        assert list(palace.diary.page(palace.connection, "scribe", None, 5, None).items) == [entry]


def test_agents_and_topics_are_compared_without_case() -> None:
    with cabinet() as palace:
        write(palace, "Scribe", "one", "Sea")
        write(palace, "SCRIBE", "two", "SEA")
        write(palace, "Other", "three", "sea")
        assert entries(palace, "scribe") == ["two", "one"]
        assert entries(palace, "scribe", "sea") == ["two", "one"]
        assert entries(palace, "scribe", "Land") == []
        assert entries(palace, "nobody") == []


def test_the_same_words_twice_are_two_entries() -> None:
    with cabinet() as palace:
        assert write(palace, "a", "Session began.").drawer_id != write(palace, "a", "Session began.").drawer_id
        assert len(entries(palace, "a")) == 2


def test_two_entries_of_one_unit_of_work() -> None:
    with cabinet() as palace:
        palace.write(
            lambda tx: [palace.diary.write(tx, name("a"), text, "t", None, whole(text)) for text in ("one", "two")]
        )
        assert entries(palace, "a") == ["two", "one"]


def test_a_wing_may_be_named() -> None:
    with cabinet() as palace:
        write(palace, "Scribe", "one", wing="Work")
        assert palace.drawers.count(palace.connection, DrawerFilter(wing="work", room="diary")) == 1


def test_pages_follow_one_another_and_skip_the_trash() -> None:
    with cabinet() as palace:
        ids = [write(palace, "a", f"entry {n}", "odd" if n % 2 else "even").drawer_id for n in range(7)]
        palace.delete(ids[5])
        first = palace.diary.page(palace.connection, "a", None, 2, None)
        second = palace.diary.page(palace.connection, "a", None, 4, first.next_cursor)
        assert first.total == second.total == 6
        assert [entry.drawer_id for entry in [*first.items, *second.items]] == [ids[n] for n in (6, 4, 3, 2, 1, 0)]
        assert second.next_cursor is None
        assert entries(palace, "a", "odd") == ["entry 3", "entry 1"]
        for agent, topic in (("b", None), ("a", "odd")):
            with pytest.raises(InvalidArgument):
                palace.diary.page(palace.connection, agent, topic, 2, first.next_cursor)


def test_a_purged_entry_leaves_the_diary() -> None:
    with cabinet() as palace:
        palace.delete(write(palace, "a", "gone").drawer_id)
        palace.purge()
        assert entries(palace, "a") == []
        assert palace.row("SELECT count(*) FROM diary")[0] == 0


def test_the_longest_agent_name_has_a_wing_that_can_be_asked_for() -> None:
    with cabinet() as palace:
        drawer = palace.get(write(palace, "n" * 128, "text").drawer_id)
        assert len(drawer.wing) == 128
        assert palace.drawers.count(palace.connection, DrawerFilter(wing=name(drawer.wing).key)) == 1
