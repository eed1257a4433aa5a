"""Encoded pictures and keys are kept with their text, and are neither indexed nor embedded nor drawers of their own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

from mempalace_mcp.core.model import Drawer, SearchMode
from mempalace_mcp.palace.chunking import split
from mempalace_mcp.palace.importers.cutting import cut, fits
from mempalace_mcp.runtime.app import App
from tests.palace.support import opened

DICE = Random(41)
SENTENCE = "The keeper climbed all of the steps and lit the lamp before the fog came in. "


def encoded(size: int) -> str:
    return base64.b64encode(DICE.randbytes(size)).decode()


def picture(alt: str, size: int = 60_000) -> str:
    return f"![{alt}](data:image/png;base64,{encoded(size)})"


def indexed(app: App) -> list[tuple[str, str]]:
    """Of each chunk the text that is embedded and the one that is found by words."""
    with app.database.read() as connection:
        return connection.execute(
            "SELECT substr(d.content, c.start + 1, c.stop - c.start), p.text FROM chunks c"
            " JOIN drawers d ON d.id = c.drawer JOIN passages p ON p.rowid = c.id WHERE d.deleted_at IS NULL"
        ).fetchall()


def everything(app: App) -> list[Drawer]:
    return list(app.palace.list_drawers(limit=100).items)


def run(app: App, *paths: Path) -> None:
    for _ in app.palace.import_paths(list(paths), turn_ended=True):
        pass


def test_chunks_end_before_a_blob_and_begin_behind_it() -> None:
    text = f"Before it. {picture('Sketch', 900)} Behind it.\n\n{picture('', 900)}\n\n---\n\n{picture('', 900)}"
    passages = [text[span.start : span.stop] for span in split(text)]
    link = "](data:image/png;base64,"
    assert passages == [f"Before it. ![Sketch{link}", f"Behind it.\n\n![{link}", f"---\n\n![{link}"]


def test_what_is_around_a_blob_is_cut_as_other_texts_are() -> None:
    prose = SENTENCE * 60
    text = prose + picture("x", 9000) + prose
    spans = split(text)
    assert len(spans) == 2 * len(split(prose + "x"))
    covered = "".join(text[span.start : span.stop] for span in spans)
    assert all(word in covered for word in SENTENCE.split())
    assert max(span.stop - span.start for span in spans) <= 1000


def test_a_note_full_of_pictures_is_one_drawer_with_few_chunks(tmp_path: Path) -> None:
    note = "# The lamp\n\n" + "".join(f"{SENTENCE}\n\n{picture(f'Figure {n}')}\n\n" for n in range(5)) + "The end.\n"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "lamp.md").write_text(note, encoding="utf-8")
    assert len(note) > 400_000
    with opened(tmp_path / "palace") as app:
        run(app, tmp_path / "notes")
        (drawer,) = everything(app)
        assert drawer.content == note
        texts = indexed(app)
        assert len(texts) == 6
        assert all(len(embedded) < 250 and len(words) < 400 for embedded, words in texts)
        (hit, *_) = app.palace.search("who lit the lamp before the fog").hits
        assert len(hit.passage) < 250
        assert "lit the lamp" in hit.passage


def test_a_long_note_is_cut_as_if_the_pictures_were_not_there(tmp_path: Path) -> None:
    chapters = [f"# Chapter {n}\n{SENTENCE * 150}\n{picture(str(n), 30_000)}\n" for n in range(3)]
    (tmp_path / "book.md").write_text("".join(chapters), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, tmp_path / "book.md")
        assert sorted(drawer.content for drawer in everything(app)) == chapters


def test_a_drawer_or_diary_may_hold_blobs_and_identifiers_beside_them_are_found(tmp_path: Path) -> None:
    digest, blob = DICE.randbytes(32).hex(), encoded(3000)
    key = "-----BEGIN CERTIFICATE-----\n" + "\n".join(encoded(48) for _ in range(20)) + "\n-----END CERTIFICATE-----"
    with opened(tmp_path) as app:
        content = f"sha256 {digest}\npayload={blob}\n{key}\nexpires in May"
        first = app.palace.add_drawer("w", "r", content).drawer_id
        app.palace.diary_write("mira", f"Kept {blob} for later.")
        assert app.palace.get_drawers([first]).drawers[0].content == content
        assert not any(blob[:40] in embedded or blob[:40] in words for embedded, words in indexed(app))
        assert [hit.drawer.drawer_id for hit in app.palace.search(digest, mode=SearchMode.KEYWORD).hits] == [first]
        assert [hit.drawer.drawer_id for hit in app.palace.search("expires", mode=SearchMode.KEYWORD).hits] == [first]
        assert app.palace.search(blob[:60], mode=SearchMode.KEYWORD).hits == []


def test_a_drawer_that_is_nothing_but_a_blob_is_kept(tmp_path: Path) -> None:
    blob, other = encoded(30_000), encoded(500)
    with opened(tmp_path) as app:
        drawer_id = app.palace.add_drawer("w", "r", blob).drawer_id
        assert app.palace.get_drawers([drawer_id]).drawers[0].content == blob
        assert indexed(app) == []
        assert [match.kind for match in app.palace.check_duplicate(blob).matches] == ["exact"]
        assert app.palace.check_duplicate(other).matches == []
        app.palace.update_drawer(drawer_id, content="words alone")
        assert [hit.drawer.drawer_id for hit in app.palace.search("words").hits] == [drawer_id]
        app.palace.update_drawer(drawer_id, content=other)
        assert indexed(app) == []
        app.palace.delete_drawers(drawer_ids=[drawer_id])
        app.palace.restore_drawers([drawer_id])
        assert app.palace.get_drawers([drawer_id]).drawers[0].content == other


def test_the_first_line_is_no_heading_of_the_others_where_it_is_a_blob(tmp_path: Path) -> None:
    blob = encoded(900)
    with opened(tmp_path, started=False) as app:
        app.palace.add_drawer("w", "r", f"Key {blob}\n\n{SENTENCE * 40}")
        words = [words for _, words in indexed(app)]
        assert len(words) > 3
        assert all(blob[:8] not in text for text in words)
        assert all(text.startswith("Key") for text in words[1:])


def test_a_turn_with_a_pasted_picture_is_one_drawer(tmp_path: Path) -> None:
    pasted = f"What is in this? {picture('paste', 90_000)}"
    records = [
        {"type": "user", "uuid": "u1", "sessionId": "s", "message": {"role": "user", "content": pasted}},
        {"type": "assistant", "uuid": "a1", "sessionId": "s", "message": {"role": "assistant", "content": "A lamp."}},
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, tmp_path / "s.jsonl")
        drawers = everything(app)
        assert len(drawers) <= 2
        assert any(pasted in drawer.content for drawer in drawers)


def test_a_blob_is_cut_only_where_it_is_too_large_for_a_drawer() -> None:
    blob = encoded(1_500_000)
    text = f"{SENTENCE * 20}{blob} {SENTENCE * 20}"
    parts = list(cut(text, 16_000))
    assert "".join(parts) == text
    assert len(parts) == 3
    assert all(len(part.encode()) <= 2**20 for part in parts)
    assert not fits(text, 16_000)
    assert fits(text[:900_000], 16_000)


def test_cutting_counts_readable_characters_and_spares_wrapped_blobs() -> None:
    lines = "\n".join(encoded(48) for _ in range(400))
    text = "".join(f"{SENTENCE * 8}\n{lines}\n" for _ in range(6))
    parts = list(cut(text, 1_000))
    assert "".join(parts) == text
    assert 4 <= len(parts) <= 7
    assert sum(part.count(lines) for part in parts) == 6
