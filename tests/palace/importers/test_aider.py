"""Chats with Aider, as version 0.86.2 writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, Machine, histories
from mempalace_mcp.palace.importers.aider import AIDER
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import append, write_json
from tests.palace.importers.support import documents, found, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

FILE = ".aider.chat.history.md"


def start(when: str) -> str:
    return f"""
# aider chat started at {when}

> /usr/bin/aider --model x --message Which moss
grows here? moss.py{"  "}
> Aider v0.86.2{"  "}
> Model: openai/gpt-6 with diff edit format{"  "}
> Git repo: .git with 12 files{"  "}
> Would you like to see what's new in this version? (Y)es/(N)o [Yes]: y{"  "}
"""


def user(text: str) -> str:
    """As the program writes what was typed."""
    return "\n#### " + "  \n#### ".join(text.splitlines()).rstrip() + "  \n"


def assistant(text: str) -> str:
    return f"\n{text.strip()}\n\n"


def program(*lines: str) -> str:
    return "".join(f"> {line.strip()}  \n" for line in lines)


FIRST = start("2026-03-01 10:00:00") + user("Which moss grows here?\n\n## Near the well") + assistant("Bog moss.")
SECOND = start("2026-07-01 18:30:05") + user("Is it rare?") + assistant("No.") + program("Tokens: 9 sent, 2 received.")


def write(folder: Path, *parts: str, name: str = FILE) -> Path:
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    return write_json(folder / name, "".join(parts))


def contents(path: Path) -> list[str]:
    return [each.content for each in documents(path)]


def test_the_sessions_of_a_repository(tmp_path: Path) -> None:
    path = write(tmp_path / "mosses", FIRST, SECOND)
    berlin = clock.read_zone("Europe/Berlin")
    first, second = (each for each in read_real(path, zone=berlin) if isinstance(each, Document))
    assert first.content == "User: Which moss grows here?\n\n## Near the well\n\nAssistant: Bog moss."
    assert second.content == "User: Is it rare?\n\nAssistant: No."
    assert (first.wing, first.room) == ("mosses", "aider")
    assert first.occurred_at == clock.parse("2026-03-01T09:00:00Z", "time")
    assert second.occurred_at == clock.parse("2026-07-01T16:30:05Z", "time")
    assert first.metadata == {
        "agent": "aider",
        "session_id": "2026-03-01 10:00:00",
        "cwd": str(tmp_path / "mosses"),
        "model": "openai/gpt-6",
        "title": "Which moss grows here? ## Near the well",
        "source_format": "aider-history",
        "cli_version": "0.86.2",
        "time_source": "session",
    }
    assert (first.may_grow, second.may_grow) == (False, True)


def test_headings_and_quotations_in_answers_are_part_of_them(tmp_path: Path) -> None:
    answer = "# Mosses\n\n#### Of bogs\n\n> Moss is old.\n> It is soft.\n\n```\n#### not typed\n```\n\nEnd."
    path = write(tmp_path, start("2026-03-01 10:00:00"), user("Tell me."), assistant(answer), user("Thanks."))
    assert contents(path) == [f"User: Tell me.\n\nAssistant: {answer}", "User: Thanks."]


def test_what_the_program_says_is_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        start("2026-03-01 10:00:00"),
        user("Rename it."),
        program("moss.py", "Add file to the chat? (Y)es/(N)o [Yes]: y"),
        assistant("I rename it."),
        program("Applied edit to moss.py", "Attempt to fix lint errors? (Y)es/(N)o [Yes]: y"),
        assistant("And fix it."),
        program("Commit 1a2b3c4 rename"),
    )
    assert contents(path) == ["User: Rename it.\n\nAssistant: I rename it.\n\nAnd fix it."]


def test_commands_to_the_program_are_left_out_but_for_what_they_ask(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        start("2026-03-01 10:00:00"),
        user("/add moss.py"),
        program("Added moss.py to the chat"),
        user("!ls"),
        user("<blank>"),
        user("/ask # wet or dry?"),
        user("# wet or dry?"),
        assistant("Wet."),
        user("/architect Drain it."),
        assistant("Drained."),
        user("/tokens"),
        program("$ 0.0000      462 system messages"),
        user("/code Refill it."),
        user("/exit"),
    )
    assert contents(path) == [
        "User: # wet or dry?\n\nAssistant: Wet.",
        "User: Drain it.\n\nAssistant: Drained.",
        "User: Refill it.",
    ]


def test_a_file_that_grows(tmp_path: Path) -> None:
    path = write(tmp_path / "mosses", FIRST, start("2026-07-01 18:30:05"), user("Is it rare?"))
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 2
        append(path, assistant("No.") + user("Is it rare?") + assistant("Still not."))
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (1, 1)
        texts = [each.content for each in app.palace.list_drawers(limit=9).items]
        assert "User: Is it rare?\n\nAssistant: No." in texts
        assert "User: Is it rare?\n\nAssistant: Still not." in texts
        assert run(app, path)["unchanged"] == 3


def test_a_file_that_was_moved_or_cut_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "mosses", FIRST, SECOND)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 2
        path.unlink()
        moved = write(tmp_path / "lichens", SECOND)
        told = run(app, moved)
        assert (told["filed"], told["removed"], told["moved"]) == (0, 0, 1)


def test_a_file_without_its_beginning_and_a_damaged_one(tmp_path: Path) -> None:
    cut = write(tmp_path, user("Ignored."), SECOND)
    assert [each.occurred_at is None for each in documents(cut)] == [True, False]
    damaged = write(tmp_path)
    damaged.write_bytes(FIRST.replace("\n", "\r\n").encode() + b"\n#### caf\xe9?  \n\n\0yes\n")
    assert contents(damaged)[1] == "User: caf\N{REPLACEMENT CHARACTER}?\n\nAssistant: \N{REPLACEMENT CHARACTER}yes"
    for text in ("", start("2026-03-01 10:00:00"), "# Notes\n\nA note."):
        assert reasons(write(tmp_path, text)) == ["no text"]
    impossible = write(tmp_path, start("2026-13-01 10:00:00"), user("When?"))
    assert [each.occurred_at for each in documents(impossible)] == [None]


@pytest.mark.parametrize("ignored", ["", ".aider*\n"])
def test_the_file_is_found_though_it_is_hidden_and_ignored(tmp_path: Path, ignored: str) -> None:
    write(tmp_path / "mosses", FIRST)
    (tmp_path / "mosses" / ".gitignore").write_text(ignored)
    (tmp_path / "mosses" / ".aider.input.history").write_text("+Which moss?\n")
    assert found(tmp_path / "mosses") == [FILE]
    (tmp_path / "mosses" / ".palaceignore").write_text(".aider*\n")
    assert found(tmp_path / "mosses") == []


def test_places_and_other_files(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    named = write(tmp_path, SECOND, name="aider-chats.md")
    places = [place for reader, place in histories(Machine(tmp_path)) if reader is AIDER]
    assert places == [path]
    moved = Machine(tmp_path, {"AIDER_CHAT_HISTORY_FILE": str(named)})
    assert [place for reader, place in histories(moved) if reader is AIDER] == [named]
    assert [each.wing for each in documents(named)] == ["aider"]
    assert not AIDER.recognizes(Candidate(write(tmp_path, "# About aider\n", name="aider.md")))
    assert not AIDER.recognizes(Candidate(write(tmp_path, FIRST, name="note.md")))
