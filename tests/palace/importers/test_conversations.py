"""Turns of any agent become exchanges with keys, metadata, wing and room."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers.conversations import (
    LONGEST_DOCUMENT,
    Session,
    Speaker,
    Turn,
    epoch_time,
    hashed,
    iso_time,
    read_conversation,
    read_note,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Source

SOURCE = Source(Path("/srv/chats/lamp.json"))
SESSION = Session("tern", "s-7", cwd="/home/mira/code/lighthouse", git_branch="main", model="tern-2")


def user(text: str, message_id: str | None = None) -> Turn:
    return Turn(Speaker.USER, text, message_id=message_id)


def assistant(text: str, message_id: str | None = None) -> Turn:
    return Turn(Speaker.ASSISTANT, text, message_id=message_id)


def documents(*turns: Turn, session: Session = SESSION) -> list[Document]:
    return list(read_conversation(SOURCE, session, turns))


def keys(*turns: Turn, session: Session = SESSION) -> list[int]:
    return [piece.key for document in documents(*turns, session=session) for piece in document.pieces]


def test_an_exchange_says_where_it_comes_from() -> None:
    first, second = documents(
        user("How tall is the lighthouse?", "m1"), assistant("31 metres."), user("And its lamp?"), assistant("Two.")
    )
    assert first.content == "User: How tall is the lighthouse?\n\nAssistant: 31 metres."
    assert (first.wing, first.room, first.source_file) == ("lighthouse", "tern", "/srv/chats/lamp.json")
    assert first.metadata == {
        "agent": "tern",
        "session_id": "s-7",
        "message_id": "m1",
        "cwd": "/home/mira/code/lighthouse",
        "git_branch": "main",
        "model": "tern-2",
        "title": "How tall is the lighthouse?",
    }
    assert second.metadata["title"] == first.metadata["title"]
    assert "message_id" not in second.metadata
    assert (first.may_grow, second.may_grow) == (False, True)


def test_a_conversation_that_is_over_does_not_grow() -> None:
    (document,) = read_conversation(SOURCE, SESSION, [user("Over?"), assistant("Over.")], is_ended=True)
    assert not document.may_grow


def test_a_web_chat_has_a_wing_of_its_own() -> None:
    (plain,) = documents(user("Hello"), session=Session("tern", "s"))
    (project,) = documents(user("Hello"), session=Session("tern", "s", wing="Garden", room="plants", title="Roses"))
    assert (plain.wing, plain.room) == ("tern", "tern")
    assert (project.wing, project.room, project.metadata["title"]) == ("Garden", "plants", "Roses")


def test_a_message_has_one_key_wherever_it_is() -> None:
    assert keys(user("A", "m1")) == [hashed("tern:s-7:m1", "0")]
    moved = Source(Path("/elsewhere.zip"))
    (document,) = read_conversation(moved, SESSION, [user("A", "m1")])
    assert [piece.key for piece in document.pieces] == keys(user("A", "m1"))
    copied = Turn(Speaker.USER, "A", message_id="m1", session_id="s-7")
    assert keys(copied, session=Session("tern", "s-8")) == keys(user("A", "m1"))
    assert keys(user("A", "m1"), session=Session("tern", "s-8")) != keys(user("A", "m1"))


def test_messages_without_ids_are_known_by_their_place() -> None:
    assert len(set(keys(user("Go on."), assistant("1"), user("Go on."), assistant("1")))) == 4
    assert keys(user("A"), assistant("B"))[:1] == keys(user("A"))


def test_a_message_that_is_repeated_counts_once() -> None:
    (document,) = documents(user("A", "m1"), assistant("B", "m2"), user("A", "m1"), assistant("B", "m2"))
    assert document.content == "User: A\n\nAssistant: B"


def test_a_message_that_is_written_again_at_greater_length_replaces_itself() -> None:
    (document,) = documents(user("A", "m1"), assistant("The lamp", "m2"), assistant("The lamp is lit.", "m2"))
    assert document.content == "User: A\n\nAssistant: The lamp is lit."


@pytest.mark.parametrize("text", ["", " \n", "<environment_context>\n<cwd>/srv</cwd>\n</environment_context>"])
def test_what_nobody_typed_opens_no_exchange(text: str) -> None:
    assert [each.content for each in documents(user(text), assistant("Hello."))] == ["Assistant: Hello."]


def test_a_session_stands_for_the_time_of_its_turns() -> None:
    session = Session("tern", "s", started_at=clock.parse("2026-03-02T10:00:00Z", "time"))
    (document,) = documents(user("When?"), session=session)
    assert document.occurred_at == session.started_at
    assert document.metadata["time_source"] == "session"
    (timed,) = documents(Turn(Speaker.USER, "When?", time=5), session=session)
    assert timed.occurred_at == 5
    assert "time_source" not in timed.metadata


def test_a_long_exchange_is_several_documents_with_one_beginning() -> None:
    parts = documents(
        user("Tell me.", "q"), *(assistant(f"{number} " + "word " * 900, str(number)) for number in range(4))
    )
    assert len(parts) == 4
    assert all(len(part.content) < LONGEST_DOCUMENT + 100 for part in parts)
    assert {part.metadata["message_id"] for part in parts} == {"q"}
    assert [part.may_grow for part in parts] == [False, False, False, True]


def test_tools_are_named() -> None:
    (document,) = documents(user("Run it."), Turn(Speaker.TOOL, "ok"), assistant("It runs."))
    assert document.content == "User: Run it.\n\nTool: ok\n\nAssistant: It runs."


def test_a_note_is_known_by_its_name() -> None:
    first, *rest = read_note(SOURCE, "tern:memory:1", "word " * 4000, wing="Garden", room="memory", time=7)
    assert rest
    assert first.content.startswith("word word")
    assert (first.wing, first.room, first.occurred_at) == ("Garden", "memory", 7)
    assert first.pieces[0].key == hashed("tern:memory:1", "0")


@pytest.mark.parametrize(
    ("value", "per_second", "shown"),
    [
        (1_761_900_000.5, 1, "2025-10-31T08:40:00.500000Z"),
        (1_761_900_000_500, 1000, "2025-10-31T08:40:00.500000Z"),
        (0, 1, "1970-01-01T00:00:00Z"),
        (float("nan"), 1, None),
        (float("inf"), 1, None),
        (10**40, 1, None),
        (True, 1, None),
        ("1761900000", 1, None),
        (None, 1, None),
    ],
)
def test_times_in_numbers(value: object, per_second: int, shown: str | None) -> None:
    assert clock.format_optional_instant(epoch_time(value, per_second)) == shown


def test_times_in_text() -> None:
    assert clock.format_optional_instant(iso_time("2026-10-01T08:00:00.250Z")) == "2026-10-01T08:00:00.250000Z"
    assert [iso_time(value) for value in ("yesterday noon", 17, None, "")] == [None] * 4


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (" plain ", "plain"),
        (["a", {"type": "text", "text": "b"}, {"type": "Text", "text": "c"}, {"text": "d"}], "a\n\nb\n\nc\n\nd"),
        ([{"type": "image", "text": "no"}, None, 5, {"type": "text", "text": None}], ""),
        ({"text": "one"}, "one"),
        (None, ""),
    ],
)
def test_the_text_of_messages(content: object, text: str) -> None:
    assert text_of(content) == text
