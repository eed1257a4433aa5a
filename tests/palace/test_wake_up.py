"""What a new session is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.palace.token_estimate import estimate_tokens
from tests.palace.support import opened

pytestmark = pytest.mark.usefixtures("each_store")


def test_an_empty_palace_says_so(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        assert app.palace.wake_up().text == "The palace is empty."
        app.palace.add_drawer("orion", "auth", "Tokens live an hour.")
        assert app.palace.wake_up(wing="vega").text == "There is no drawer in this wing."


def test_places_diary_facts_and_the_newest_drawers_are_there(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.add_drawer("orion", "auth", "Tokens live an hour.\nMore below.", occurred_at="2026-05-08")
        app.palace.add_drawer("vega", "deploy", "Deploys happen on Tuesdays.")
        app.palace.diary_write("Keeper", "Today the cache was cleared.", topic="work")
        app.palace.kg_add("Mira", "works in", "team Orion", valid_from="2025-09-01", valid_to="2026-05-10")
        app.palace.kg_add("Mira", "works in", "team Vega", valid_from="2026-05-11")
        told = app.palace.wake_up(agent_name="KEEPER", max_tokens=1000)
        assert "Palace: 3 drawers in 3 wings." in told.text
        assert "- orion (1): auth 1" in told.text
        assert "[work] Today the cache was cleared." in told.text
        assert "Mira works in team Vega (since 2026-05-11)" in told.text
        assert "team Orion" not in told.text
        assert "2026-05-08 orion/auth" in told.text
        assert "Tokens live an hour. More below." in told.text
        assert not told.truncated
        one = app.palace.wake_up(wing="VEGA")
        assert one.drawers == 1
        assert "orion" not in one.text


def test_the_budget_holds(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        for number in range(60):
            app.palace.add_drawer(f"wing {number}", "room", f"Drawer {number} speaks of many things. " * 20)
        for tokens in (50, 100, 400):
            told = app.palace.wake_up(max_tokens=tokens)
            assert told.truncated
            assert told.tokens == estimate_tokens(told.text)
            assert 0 < told.tokens <= tokens


def test_many_places_leave_room_for_diary_facts_and_drawers(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        for number in range(12):
            for room in range(6):
                app.palace.add_drawer(f"a long name of wing {number}", f"a long name of room {room}", f"text {number}")
        app.palace.kg_add("Mira", "works in", "team Vega")
        app.palace.diary_write("Keeper", "Today the cache was cleared.")
        told = app.palace.wake_up(agent_name="Keeper")
        assert told.truncated
        for telling in ("73 drawers in 13 wings.", "cache was cleared", "team Vega", "Newest drawers:", "text 11"):
            assert telling in told.text


def test_nothing_is_told_twice_and_nouns_agree(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.diary_write("Keeper", "Today the cache was cleared.")
        app.palace.kg_add("Mira", "works in", "team Vega", valid_from="2026-05-11", valid_to="2999-12-31")
        told = app.palace.wake_up(agent_name="Keeper").text
        assert told.count("Today the cache was cleared.") == 1
        assert "Palace: 1 drawer in 1 wing." in told
        assert "Mira works in team Vega (since 2026-05-11, until 3000-01-01T00:00:00Z)" in told
        assert "Newest drawers:" not in told
        assert "cache was cleared" in app.palace.wake_up().text
