"""Dates as the people of a palace mean them: in its zone, from the first instant to the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import read_zone
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import SearchMode
from tests.palace.support import opened

FACT = ("Ada", "is at", "sea")
FAR_APART = ("+14:00", "-12:00", "Asia/Kathmandu")


@pytest.mark.parametrize("zone", FAR_APART)
def test_what_is_true_since_today_is_current_and_can_be_ended(tmp_path: Path, zone: str) -> None:
    """Wherever it is already tomorrow, or still yesterday, by UTC."""
    with opened(tmp_path, started=False, PALACE_TIMEZONE=zone) as app:
        today = clock.Calendar(read_zone(zone)).show_day(clock.now())
        for day in (today, "today"):
            fact = app.palace.kg_add(*FACT, valid_from=day).fact
            assert fact.holds_at(clock.now())
            assert app.palace.kg_query("Ada", as_of="now").facts == [fact]
            ended = app.palace.kg_invalidate(*FACT)
            assert ended.valid_to is not None
            assert not ended.holds_at(clock.now())
            app.palace.kg_invalidate(*FACT, retract=True)


@pytest.mark.parametrize("zone", FAR_APART)
def test_a_date_is_one_day_wherever_it_is_written(tmp_path: Path, zone: str) -> None:
    with opened(tmp_path, started=False, PALACE_TIMEZONE=zone) as app:
        begun = app.palace.kg_add(*FACT, valid_from="2026-05-08").fact
        ended, following = app.palace.kg_supersede(*FACT, "shore", at="2026-05-08")
        assert ended.fact_id == begun.fact_id
        assert ended.valid_from is not None
        assert ended.valid_to == following.valid_from == ended.valid_from + clock.DAY
        for day, place in (("2026-05-07", []), ("2026-05-08", ["sea"]), ("2026-05-09", ["shore"])):
            assert [fact.object for fact in app.palace.kg_query("Ada", as_of=day).facts] == place
        assert app.palace.kg_query("Ada", known_at="yesterday").total == 0
        assert app.palace.kg_query("Ada", known_at="today").total == 2


@pytest.mark.parametrize("zone", FAR_APART)
def test_drawers_are_found_by_the_day_they_were_given(tmp_path: Path, zone: str) -> None:
    with opened(tmp_path, started=False, PALACE_TIMEZONE=zone) as app:
        palace = app.palace
        filed = palace.add_drawer("w", "r", "The harbour froze.", occurred_at="2026-05-08")
        palace.add_drawer("w", "r", "The harbour thawed.", occurred_at="2026-05-09")
        wanted = [filed.drawer_id]
        for since, before in (("2026-05-08", "2026-05-09"), ("2026-05-07T12:00", "2026-05-09"), ("2025", "2026-05-09")):
            assert [drawer.drawer_id for drawer in palace.list_drawers(since=since, before=before).items] == wanted
        assert palace.list_drawers(since="2026-05", before="2026-06").total == 2
        assert palace.list_drawers(since="2027").total == palace.list_drawers(before="2026-05").total == 0
        assert palace.search("2026-05-08", mode=SearchMode.KEYWORD).hits[0].drawer.drawer_id == wanted[0]
        hits = palace.search("harbour", mode=SearchMode.KEYWORD, before="2026-05-09").hits
        assert [hit.drawer.drawer_id for hit in hits] == wanted
        assert "2026-05-08 w/r" in palace.wake_up().text
        palace.update_drawer(wanted[0], occurred_at="2026-04")
        assert palace.list_drawers(before="2026-04-02").total == 1


def test_notes_are_of_the_day_they_name(tmp_path: Path) -> None:
    note = tmp_path / "notes" / "trip.md"
    note.parent.mkdir()
    note.write_text("---\ndate: 2026-05-08\n---\nAcross the strait.\n")
    with opened(tmp_path / "palace", started=False, PALACE_TIMEZONE="-10:00") as app:
        list(app.palace.import_paths([note], wing="w"))
        assert app.palace.list_drawers(since="2026-05-08", before="2026-05-09").total == 1


def test_pages_of_a_listing_until_now_go_on(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        filed = [app.palace.add_drawer("w", "r", f"{n}", occurred_at=f"2026-0{n}").drawer_id for n in range(1, 6)]
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = app.palace.list_drawers(before="now", since="2026", limit=2, cursor=cursor)
            found += [drawer.drawer_id for drawer in page.items]
            cursor = page.next_cursor
        assert found == filed[::-1]
        first = app.palace.list_drawers(before="now", limit=2)
        with pytest.raises(InvalidArgument, match="other filters"):
            app.palace.list_drawers(before="2027", limit=2, cursor=first.next_cursor)


def test_the_zone_is_shown(tmp_path: Path) -> None:
    with opened(tmp_path, started=False, PALACE_TIMEZONE="Asia/Kathmandu") as app:
        assert app.status()["palace"]["timezone"] == "Asia/Kathmandu"
