"""Imports file no secrets and no private passages, and what was filed before stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.palace.importers.conversations import Session, Speaker, Turn, read_conversation, read_note
from mempalace_mcp.palace.importers.documents import Source
from mempalace_mcp.runtime.app import App
from tests.palace.importers.support import assistant, documents, user, write_transcript
from tests.palace.support import opened, seq_of
from tests.palace.test_importing import run

TOKEN = "ghp_q7Zk2mVx9LwPt4Rb8NcYh3Ds6Gf1Jj5Ka0Qe"
MASKED = "[secret: github token]"


def contents(app: App) -> set[str]:
    return {item.content for item in app.palace.list_drawers(limit=100).items}


def exchange(path: Path, *more: object) -> Path:
    records = [user(f"Use {TOKEN} there", uuid="u1"), assistant(f"I used {TOKEN}.", uuid="a1"), *more]
    return write_transcript(path, *records)


def test_secrets_of_conversations_and_notes_are_masked_and_counted(tmp_path: Path) -> None:
    exchange(tmp_path / "s.jsonl")
    (tmp_path / "note.md").write_text(f"The key is {TOKEN}.\n<private>My\n\nown</private>\nEnd.", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, tmp_path / "s.jsonl", tmp_path / "note.md")
        assert (told["filed"], told["masked"]) == (2, 3)
        assert contents(app) == {
            f"User: Use {MASKED} there\n\nAssistant: I used {MASKED}.",
            f"The key is {MASKED}.\n\nEnd.",
        }
        before = seq_of(app)
        for options in ({}, {"keep_secrets": True}):
            (tmp_path / "note.md").touch()
            (tmp_path / "s.jsonl").touch()
            told = run(app, tmp_path / "s.jsonl", tmp_path / "note.md", **options)
            assert (told["filed"], told["updated"], told["unchanged"], told["removed"]) == (0, 0, 2, 0)
        assert seq_of(app) - before <= 4  # the new states of the files
        assert all(TOKEN not in content for content in contents(app))


def test_secrets_are_kept_when_that_is_asked_for(tmp_path: Path) -> None:
    exchange(tmp_path / "s.jsonl", user("And <private>this</private> now", uuid="u2"))
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, tmp_path / "s.jsonl", keep_secrets=True)["masked"] == 0
        assert contents(app) == {f"User: Use {TOKEN} there\n\nAssistant: I used {TOKEN}.", "User: And  now"}


def test_what_was_filed_unmasked_is_known_again(tmp_path: Path) -> None:
    path = exchange(tmp_path / "s.jsonl")
    note = tmp_path / "note.md"
    note.write_text(f"The key is {TOKEN}.", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path, note, keep_secrets=True)
        before = contents(app)
        exchange(path, user("Next", uuid="u2"))
        note.touch()
        told = run(app, path, note)
        assert (told["filed"], told["updated"], told["unchanged"]) == (1, 0, 2)
        assert contents(app) == before | {"User: Next"}
        moved = note.rename(tmp_path / "moved.md")
        assert run(app, moved)["moved"] == 1


@pytest.mark.parametrize("kept", [True, False])
def test_an_exchange_with_a_secret_grows_in_its_drawer(tmp_path: Path, kept: bool) -> None:
    path = exchange(tmp_path / "s.jsonl")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path, keep_secrets=kept)
        exchange(path, assistant(f"And {TOKEN} again.", uuid="a2"))
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (0, 1)
        assert contents(app) == {f"User: Use {MASKED} there\n\nAssistant: I used {MASKED}.\n\nAnd {MASKED} again."}


def test_a_note_that_becomes_private_goes_into_the_trash(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("The boat is blue.", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        run(app, note)
        note.write_text("<private>The boat is blue.", encoding="utf-8")
        assert run(app, note)["removed"] == 1
        assert not contents(app)


def test_a_secret_is_not_cut_into_parts_that_are_filed(tmp_path: Path) -> None:
    secret = "-----BEGIN RSA PRIVATE KEY-----\n" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVow\n" * 400
    text = "word " * 1_500 + secret + "-----END RSA PRIVATE KEY-----\n\nAfter it."
    path = write_transcript(tmp_path / "s.jsonl", user(text), assistant("Yes"))
    note = tmp_path / "note.md"
    note.write_text("\n\n".join([text] * 3), encoding="utf-8")
    for file, count in ((path, 1), (note, 3)):
        filed = documents(file)
        assert len(filed) > 1
        assert all("QUJD" not in document.content for document in filed)
        assert sum(document.secrets for document in filed) == count
        assert sum(document.content.count("[secret: private key]") for document in filed) == count
        assert "After it." in filed[-1].content


def test_titles_and_headings_hold_no_secrets(tmp_path: Path) -> None:
    source = Source(tmp_path / "x")
    turns = [Turn(Speaker.USER, f"Use {TOKEN}"), Turn(Speaker.ASSISTANT, "Yes")]
    for session in (Session("tern", "1"), Session("tern", "2", title=f"About {TOKEN} <private>mine</private>")):
        (document,) = read_conversation(source, session, turns)
        assert TOKEN not in str(document.metadata)
        assert "mine" not in str(document.metadata)
    (memory,) = read_note(source, "tern:memory:1", f"Key: {TOKEN}", wing="w", room="memory")
    assert memory.content == f"Key: {MASKED}"
    note = tmp_path / "note.md"
    note.write_text(f"# Key {TOKEN}\n\n{'word ' * 4_000}", encoding="utf-8")
    assert TOKEN not in str([(each.content, each.metadata) for each in documents(note)])


def test_a_user_turn_that_is_private_leaves_the_answer(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("<private>secret plan</private>"), assistant("Noted."))
    assert [document.content for document in documents(path)] == ["Assistant: Noted."]
