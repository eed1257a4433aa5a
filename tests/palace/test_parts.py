"""Turns of one conversation, each a drawer, know what is said around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.palace.access_control import limited
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.palace.parts import REACH, read_parts
from mempalace_mcp.palace.search import POOL
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.drawers import ChunkRow
from tests.palace.support import opened
from tests.storage.drawer_support import EVERY

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]

TALK = (
    "Rosa: Did you see the heron at the weir this morning?",
    "Emil: No, I overslept again.",
    "Rosa: It stood there for an hour.",
    "Emil: What else is new at the weir?",
    "Rosa: They put up a fish ladder.",
    "Emil: Finally!",
    "Rosa: My sister sold her bakery.",
    "Emil: To whom?",
    "Rosa: To a chain from Graz.",
)


def file_turns(app: App, turns: tuple[str, ...], source: str, **details: str) -> None:
    for turn in turns:
        app.palace.add_drawer("talk", "river", turn, source_file=source, **details)  # type: ignore[arg-type]


def rows_of(app: App) -> dict[str, ChunkRow]:
    """The first chunk of each drawer by its text."""
    with app.database.read() as connection:
        chunks = [chunk for (chunk,) in connection.execute("SELECT id FROM chunks WHERE ordinal = 0")]
        rows = app.stores.drawers.chunk_rows(connection, chunks, EVERY)
        contents = app.stores.drawers.get(connection, [row.drawer_id for row in rows])
        return {drawer.content: row for drawer, row in zip(contents, rows, strict=True)}


def part_of(app: App, turn: str) -> list[str]:
    """The texts around a turn, in the order in which they were filed."""
    rows = rows_of(app)
    with app.database.read() as connection:
        around = read_parts(connection, [rows[turn]], EVERY).around
    texts = {row.chunk: text for text, row in rows.items()}
    return [texts[chunk] for chunk in sorted(around.get(rows[turn].chunk, ()))]


def test_a_part_is_what_stands_before_and_after_in_the_same_source(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        file_turns(app, TALK, "talk.md")
        file_turns(app, ("Rosa: Good morning.", "Emil: Good night."), "other.md")
        app.palace.add_drawer("talk", "river", "A note of its own")
        assert part_of(app, TALK[4]) == list(TALK[4 - REACH : 5 + REACH])
        assert part_of(app, TALK[0]) == list(TALK[: 1 + REACH])
        assert part_of(app, "Emil: Good night.") == ["Rosa: Good morning.", "Emil: Good night."]
        assert part_of(app, "A note of its own") == []


def test_the_order_is_that_of_time_and_what_is_deleted_is_no_part(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        file_turns(app, ("later", "latest"), "talk.md", occurred_at="2026-03-02")
        file_turns(app, ("earlier",), "talk.md", occurred_at="2026-03-01")
        assert part_of(app, "earlier") == ["later", "latest", "earlier"]
        (gone,) = [each for each in app.palace.list_drawers().items if each.content == "later"]
        app.palace.delete_drawers(drawer_ids=[gone.drawer_id])
        assert part_of(app, "earlier") == ["latest", "earlier"]


def test_a_long_drawer_is_judged_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        page = "\n\n".join(f"Paragraph {n} of a long page about the weir and the fish in it." for n in range(60))
        file_turns(app, (*TALK[:2], page), "talk.md")
        assert part_of(app, page) == []


def test_an_answer_is_found_by_the_question_before_it(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        file_turns(app, TALK, "talk.md")
        noise = tuple(
            f"Rosa: {word} again, and the weather is as it was." for word in ("Soup", "Bread", "Snow", "Rain")
        )
        file_turns(app, noise, "noise.md")
        assert app.indexer.wait_until_idle(30)
        found = [hit.drawer.content for hit in app.palace.search("who bought the bakery?", limit=3).hits]
        assert TALK[8] in found


def test_what_stands_beside_a_candidate_is_one_too(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        file_turns(app, ("Rosa: Who bought the bakery at the weir?", "Emil: Hm, Kofi Mensah."), "talk.md")
        for number in range(2 * POOL):
            file_turns(app, (f"Rosa: I baked bread for {number} guests.",), f"{number}.md")
        app.palace.add_drawer("talk", "river", "Emil: Hm, Kofi Annan.")
        assert app.indexer.wait_until_idle(60)
        found = [hit.drawer.content for hit in app.palace.search("who bought the bakery at the weir?", limit=5).hits]
        assert "Emil: Hm, Kofi Mensah." in found
        assert "Emil: Hm, Kofi Annan." not in found


def test_words_of_turns_weigh_by_how_many_of_them_hold_them(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        file_turns(app, tuple(f"Rosa: the marimba, take {number}" for number in range(9)), "talk.md")
        file_turns(app, ("Emil: back to the garden",), "talk.md")
        for number in range(40):  # the garden is common in the palace, and rare in the talk
            app.palace.add_drawer("notes", "r", f"garden {number}")
        assert app.indexer.wait_until_idle(30)
        hits = app.palace.search("marimba garden", wing="talk", limit=20, explain=True).hits
        words = {hit.drawer.content: (hit.explanation or {})["words"] for hit in hits}
        assert words["Emil: back to the garden"] > words["Rosa: the marimba, take 4"]


def test_what_a_caller_may_not_see_says_nothing_about_what_it_may(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.palace.add_drawer("open", "r", "Emil: To a chain from Graz.", source_file="talk.md")
        app.palace.add_drawer("open", "r", "Emil: The soup is cold.", source_file="soup.md")
        app.palace.add_drawer("secret", "r", "Rosa: Who bought the bakery of my sister?", source_file="talk.md")
        assert app.indexer.wait_until_idle(30)

        def scores(palace: Palace) -> list[float]:
            return [hit.score for hit in palace.search("the bakery of my sister", wing="open").hits]

        inside = Palace(limited(app.stores, ("open",)), app.chunk_embedder)
        before = scores(inside)
        (secret,) = app.palace.list_drawers(wing="secret").items
        app.palace.delete_drawers(drawer_ids=[secret.drawer_id])
        assert scores(inside) == pytest.approx(before, abs=0.02), "only frequencies of words differ"
