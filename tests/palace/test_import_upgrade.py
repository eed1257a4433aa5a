"""A palace filed by an earlier version is brought over: ids stay, nothing is filed twice, forks fold."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mempalace_mcp.core.model import Drawer
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.rows import content_hash
from tests.palace import earlier
from tests.palace.support import opened
from tests.palace.test_importing import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    earlier.write_files(tmp_path / "histories")
    earlier.build(tmp_path / "palace", tmp_path / "histories")
    return tmp_path / "histories"


def drawers(app: App) -> list[Drawer]:
    return list(app.palace.list_drawers(limit=100).items)


def saying(app: App, text: str) -> list[Drawer]:
    return [drawer for drawer in drawers(app) if text in drawer.content]


def one(app: App, text: str) -> Drawer:
    (drawer,) = saying(app, text)
    return drawer


def test_the_importers_key_leaves_the_metadata(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        assert len(drawers(app)) == 19
        assert not any("import" in drawer.metadata for drawer in drawers(app))
        assert one(app, "The lamp needs oil").metadata == {"mine": True}
        assert one(app, "Question 100").metadata["session_id"] == "s-2"


def test_nothing_is_filed_twice_and_ids_stay(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        before = {drawer.drawer_id for drawer in drawers(app)}
        told = run(app, folder)
        after = {drawer.drawer_id for drawer in drawers(app)}
        assert (told["filed"], told["removed"], told["in_trash"]) == (0, 0, 1)
        assert told["folded"] == len(before - after)
        assert after <= before
        again = run(app, folder)
        assert (again["filed"], again["updated"], again["folded"]) == (0, 0, 0)
        assert {drawer.drawer_id for drawer in drawers(app)} == after


def test_forks_fold_into_the_drawer_that_a_fact_names(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        (fact,) = app.palace.kg_query("pier 20").facts
        run(app, folder)
        for number in (20, 40, 100):
            assert len(saying(app, f"Question {number}:")) == 1
        assert one(app, "Question 20:").drawer_id == fact.source_drawer_id
        assert app.palace.list_drawers(limit=1).total == 18


def test_every_copy_that_a_fact_names_stays(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        named = {fact.source_drawer_id for fact in app.palace.kg_query("pier 10").facts}
        run(app, folder)
        assert {drawer.drawer_id for drawer in saying(app, "Question 10:")} == named
        assert len(named) == 2


def test_what_somebody_edited_is_known_by_what_it_said(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        assert one(app, "Question 60").content == "User: Question 60, in my own words."
        assert saying(app, "Pier 60 is") == []


def test_a_copy_is_kept_beside_one_that_somebody_edited(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        assert one(app, "Question 30, in my own words.")
        assert one(app, "Pier 30 is 210 metres long."), "the other file's copy still says what was said"


def test_what_the_earlier_version_left_out_is_added(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        decided, tagged = one(app, "Set up the store."), one(app, "Why did it fail?")
        told = run(app, folder)
        assert told["updated"] == 2
        assert "User: Which database? SQLite" in one(app, "Set up the store.").content
        assert "failed at 12:03" in one(app, "Why did it fail?").content
        assert one(app, "Set up the store.").drawer_id == decided.drawer_id
        assert one(app, "Why did it fail?").drawer_id == tagged.drawer_id
        assert one(app, "Why did it fail?").version == tagged.version + 1


def test_what_was_deleted_stays_so(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        assert saying(app, "Question 50:") == []


@pytest.mark.parametrize("order", [["b.jsonl", "a.jsonl"], ["a.jsonl", "b.jsonl"], ["b.jsonl"], ["c.jsonl", "b.jsonl"]])
def test_the_order_of_the_files_does_not_matter(tmp_path: Path, folder: Path, order: list[str]) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        for name in order:
            told = run(app, folder / name)
            assert told["filed"] == 0
        counts = Counter(number for number in (20, 40, 100) for _ in saying(app, f"Question {number}:"))
        assert set(counts.values()) == {1}


def test_files_that_have_grown_since(tmp_path: Path, folder: Path) -> None:
    more = earlier.record("assistant", 53, [{"type": "text", "text": "And it is red."}])
    lamps = [earlier.record("assistant", 104, [{"type": "text", "text": "It has two lamps."}], "s-2")]
    earlier.write(folder / "a.jsonl", [*earlier.first_session()[6:15], more, *earlier.said(300)])
    earlier.write(folder / "b.jsonl", [*earlier.forked_session(), *lamps])
    with opened(tmp_path / "palace", started=False) as app:
        hundred = one(app, "Question 100:")
        told = run(app, folder / "a.jsonl", folder / "b.jsonl")
        assert one(app, "Question 300:")
        assert one(app, "And it is red.").content == "Assistant: And it is red.", "the rest was deleted"
        assert one(app, "It has two lamps.").drawer_id == hundred.drawer_id
        assert (told["filed"], told["updated"], told["removed"]) == (2, 1, 0)
        for number in (20, 40):
            assert len(saying(app, f"Question {number}:")) == 1


def test_metadata_of_somebodys_own_does_not_cut_a_note_from_its_file(tmp_path: Path, folder: Path) -> None:
    (folder / "short.md").write_text("The lamp needs paraffin.\n", encoding="utf-8")
    long = (folder / "long.md").read_text("utf-8")
    (folder / "long.md").write_text(long.replace("Sentence 2 of", "Sentence two of"), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        lamp, two = one(app, "The lamp needs oil"), one(app, "Sentence 2 of")
        told: dict[str, Any] = run(app, folder / "short.md")
        assert (told["filed"], told["updated"]) == (0, 1)
        assert one(app, "The lamp needs paraffin").drawer_id == lamp.drawer_id
        assert one(app, "The lamp needs paraffin").metadata == {"mine": True}
        run(app, folder / "long.md")
        assert one(app, "Sentence two of")
        assert two.drawer_id


def say_instead(palace: Path, before: str, content: str) -> None:
    """Let the earlier version have filed another text in the drawer that holds the first one."""
    connection = sqlite3.connect(palace / "palace.db")
    digest = content_hash(content)
    connection.execute(
        "UPDATE drawers SET content = ?, content_hash = ?, metadata = json_set(metadata, '$.import.digest', ?)"
        " WHERE instr(content, ?)",
        (content, digest, digest.hex(), before),
    )
    connection.commit()
    connection.close()


@pytest.mark.parametrize("is_cut", [False, True])
def test_an_exchange_that_begins_elsewhere_now_is_known_all_the_same(
    tmp_path: Path, folder: Path, is_cut: bool
) -> None:
    first, more = "User: Set up the store.", "Put it on the quay.\n\nAssistant: It is there."
    say_instead(tmp_path / "palace", first, f"{first}\n\n{more}")
    records = earlier.long_session()
    start = next(place for place, each in enumerate(records) if each["uuid"] == "r-0220")
    later = [
        earlier.record("user", 224, "Put it on the quay.", "s-3"),
        earlier.record("assistant", 225, [{"type": "text", "text": "It is there."}], "s-3"),
    ]
    earlier.write(folder / "c.jsonl", [*([] if is_cut else records[: start + 3]), *later])
    with opened(tmp_path / "palace", started=False) as app:
        (before,) = saying(app, "Put it on the quay.")
        for _ in range(2):
            told = run(app, folder / "c.jsonl")
            assert (told["updated"], told["removed"], told["folded"]) == (0, 0, 0)
            assert one(app, "Put it on the quay.") == before
            assert len(saying(app, "Which database? SQLite")) == (0 if is_cut else 1)


def test_a_picture_that_was_several_drawers_is_one(tmp_path: Path, folder: Path) -> None:
    pasted = b64encode(Random(3).randbytes(20_000)).decode()
    question = f"User: Whose is this seal?\n{pasted}"
    pieces = [
        question[:8_000],
        f"User: {question[8_000:16_000]}",
        f"User: {question[16_000:]}\n\nAssistant: It stands.",
    ]
    for before, piece in zip(("Step 0:", "Step 2:", "Step 4:"), pieces, strict=True):
        say_instead(tmp_path / "palace", before, piece)
    records = [
        earlier.record("user", 200, question.removeprefix("User: "), "s-3"),
        earlier.record("assistant", 201, [{"type": "text", "text": "It stands."}], "s-3"),
    ]
    with opened(tmp_path / "palace", started=False) as app:
        run(app, earlier.write(folder / "c.jsonl", records))
        for start in range(0, len(pasted), 1_000):
            assert one(app, pasted[start : start + 100]).content == f"{question}\n\nAssistant: It stands."
