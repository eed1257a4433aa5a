"""Transcripts become exchanges: both sides kept, noise left out, broken lines reported, keys that stay."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.importers import SkippedFile, SkippedLines, default_wing, read
from mempalace_mcp.palace.importers.lines import LONGEST_LINE
from mempalace_mcp.palace.importers.transcript import LARGEST_TRANSCRIPT, LONGEST_DOCUMENT
from mempalace_mcp.palace.importers.turns import turn_of
from tests.palace.importers.support import (
    assistant,
    documents,
    problems,
    reasons,
    record,
    user,
    write_transcript,
)

EXAMPLES = Path(__file__).parents[3] / "examples" / "texts" / "transcripts"


def test_an_exchange_is_what_the_user_said_and_all_that_followed(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "session.jsonl",
        {"type": "summary", "summary": "A title", "leafUuid": "x"},
        user("Who keeps the lamp?"),
        assistant("Let me look."),
        assistant([{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}]),
        user([{"type": "tool_result", "tool_use_id": "t", "content": "noise"}]),
        assistant("The keeper does."),
        user([{"type": "text", "text": "And at night?"}], gitBranch="fix/lamp", timestamp="2026-05-17T12:05:00.000Z"),
        assistant("Also the keeper."),
    )
    first, second = documents(path)
    assert first.content == "User: Who keeps the lamp?\n\nAssistant: Let me look.\n\nThe keeper does."
    assert second.content == "User: And at night?\n\nAssistant: Also the keeper."
    assert first.key != second.key
    assert first.source_file == str(path)
    assert first.room == "sessions"
    assert second.occurred_at == clock.parse("2026-05-17T12:05:00Z", "")
    assert second.metadata == {
        "session_id": "s-1",
        "git_branch": "fix/lamp",
        "cwd": "/home/mira/code/harbour",
    }
    assert problems(path) == []


NOISE = [
    user("meta", isMeta=True),
    user("a sub-agent's task", isSidechain=True),
    user("summary of what was", isCompactSummary=True),
    user("done in the background", origin={"kind": "task-notification"}),
    user(
        "<command-name>/clear</command-name>\n  <command-message>clear</command-message>\n<command-args></command-args>"
    ),
    user("<local-command-stdout>Goodbye</local-command-stdout>"),
    user("<bash-input>ls</bash-input>"),
    user("<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>"),
    user("<system-reminder>\nThe date has changed.\n</system-reminder>"),
    user("[Request interrupted by user for tool use]"),
    user('<teammate-message teammate_id="b">ready</teammate-message>'),
    user("This session is being continued from a previous conversation that ran out of context."),
    user([{"type": "image", "source": {"type": "base64", "data": "AAAA"}}]),
    user([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "result"}]}]),
    user(None),
    user(17),
    user([None, 1, {"type": "text"}, {"type": "text", "text": 5}]),
    assistant([{"type": "thinking", "thinking": "secret", "signature": "x"}]),
    assistant("API Error: overloaded", isApiErrorMessage=True),
    {**assistant("x"), "message": {"role": "assistant", "model": "<synthetic>", "content": "You've hit your limit"}},
    assistant("(no content)"),
    assistant("   "),
    {"type": "system", "subtype": "turn_duration", "sessionId": "s-1", "content": "noise"},
    {"type": "progress", "data": {"type": "hook_progress"}, "sessionId": "s-1"},
    {"type": "queue-operation", "operation": "enqueue", "content": "noise", "sessionId": "s-1"},
    {"type": "attachment", "attachment": {"type": "skill_listing", "prompt": "noise"}, "sessionId": "s-1"},
    {
        "type": "attachment",
        "attachment": {"type": "queued_command", "prompt": "noise", "commandMode": "task-notification"},
        "sessionId": "s-1",
    },
    {"type": "file-history-snapshot", "snapshot": {}, "messageId": "m"},
    {"type": "user", "message": None},
    {"type": "user", "message": "noise"},
    {"type": ["user"], "message": {"content": "noise"}},
    {"no": "type"},
]


@pytest.mark.parametrize("noise", NOISE, ids=lambda noise: json.dumps(noise)[-60:])
def test_what_nobody_said_is_left_out(noise: dict[str, object]) -> None:
    assert turn_of(noise) is None


def test_noise_does_not_break_an_exchange(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "session.jsonl", user("Question"), *NOISE, assistant("Answer"), *NOISE)
    assert [document.content for document in documents(path)] == ["User: Question\n\nAssistant: Answer"]
    assert problems(path) == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Before\n<system-reminder>x</system-reminder>\nAfter", "Before\n<system-reminder>x</system-reminder>\nAfter"),
        ("```\n<bash-stdout>ok</bash-stdout>\n```", "```\n<bash-stdout>ok</bash-stdout>\n```"),
        ("<task-notification>done</task-notification> is new", "<task-notification>done</task-notification> is new"),
        ("[Request interrupted by user] - why?", "[Request interrupted by user] - why?"),
        ("<user-memory-input>tests first</user-memory-input>", "tests first"),
        ("<ide_selection>a</ide_selection>\n<ide_diagnostics>b</ide_diagnostics>\nWhy?", "Why?"),
        ("Why <ide_selection>a</ide_selection>?", "Why <ide_selection>a</ide_selection>?"),
        ("<command-name>/review</command-name>\n<command-args>look at AUTH-4127</command-args>", "look at AUTH-4127"),
        ("What does <system-reminder> mean?", "What does <system-reminder> mean?"),
        ("<system-reminder>never closed", "<system-reminder>never closed"),
        ("<b>bold</b> is <i>fine</i>", "<b>bold</b> is <i>fine</i>"),
        ("<ide_opened_file>x.py</ide_opened_file>What is this?", "What is this?"),
    ],
)
def test_of_wrapped_text_the_users_own_words_are_kept(said: str, kept: str) -> None:
    turn = turn_of(user(said))
    assert turn is not None
    assert turn.text == kept


def test_the_assistant_may_quote_any_tag() -> None:
    turn = turn_of(assistant("<system-reminder>quoted</system-reminder>"))
    assert turn is not None
    assert turn.text == "<system-reminder>quoted</system-reminder>"


def test_a_prompt_typed_while_the_assistant_was_busy_is_a_turn() -> None:
    attachment = {"type": "queued_command", "prompt": "and the tests?", "origin": {"kind": "human"}}
    turn = turn_of({"type": "attachment", "attachment": attachment, "sessionId": "s-1"})
    assert turn is not None
    assert (turn.speaker, turn.text) == ("User", "and the tests?")


def test_what_is_said_before_an_answer_belongs_together(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("One."), user("Wait, two."), assistant("Both."), user("Three."))
    assert [document.content for document in documents(path)] == [
        "User: One.\n\nWait, two.\n\nAssistant: Both.",
        "User: Three.",
    ]


def test_answers_without_a_question_end_with_the_next_question(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", assistant("As I said."), user("Go on."), assistant("Then."))
    assert [document.content for document in documents(path)] == [
        "Assistant: As I said.",
        "User: Go on.\n\nAssistant: Then.",
    ]


def test_a_growing_session_changes_only_its_last_exchange(tmp_path: Path) -> None:
    turns = [user("a " * 1500), assistant("b " * 2000), assistant("c " * 3000), user("d"), assistant("e " * 5000)]
    records = turns * 3
    path = tmp_path / "s.jsonl"
    before: list[tuple[str, str]] = []
    for count in range(1, len(records) + 1):
        write_transcript(path, *records[:count])
        now = [(document.key, document.content) for document in documents(path)]
        assert len({key for key, _ in now}) == len(now)
        assert now[: len(before) - 1] == before[:-1]
        if before:
            assert now[len(before) - 1][0] == before[-1][0]
            assert now[len(before) - 1][1].startswith(before[-1][1].rstrip())
        before = now


def test_long_exchanges_are_split_between_turns(tmp_path: Path) -> None:
    answers = [f"{number} " + "word " * 500 for number in range(9)]
    path = write_transcript(tmp_path / "s.jsonl", user("Tell me all."), *map(assistant, answers))
    parts = documents(path)
    assert len({part.key for part in parts}) == len(parts) == 3
    assert all(len(part.content) < LONGEST_DOCUMENT + 100 for part in parts)
    assert all(part.content.startswith("Assistant: ") for part in parts[1:])
    text = "\n\n".join(part.content.removeprefix("Assistant: ") for part in parts)
    assert all(answer.strip() in text for answer in answers)


def test_a_turn_that_is_too_long_is_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    log = "\n".join(f"line {number} of the log" for number in range(90_000))
    path = write_transcript(tmp_path / "s.jsonl", user(log), assistant("Long."))
    parts = documents(path)
    assert max(len(part.content) for part in parts) < LONGEST_DOCUMENT + 100
    assert log in "\n".join(part.content.removeprefix("User: ").rstrip("\n") for part in parts)


def test_what_is_pasted_as_encoded_bytes_does_not_part_an_exchange(tmp_path: Path) -> None:
    pasted = base64.b64encode(Random(5).randbytes(60_000)).decode()
    question, answer = f"What is on this chart?\n{pasted}\nThe harbour, I think.", "The harbour at low tide."
    path = write_transcript(tmp_path / "session.jsonl", user(question), assistant(answer), assistant(pasted))
    assert [part.content for part in documents(path)] == [f"User: {question}\n\nAssistant: {answer}\n\n{pasted}"]


def test_many_encoded_bytes_are_several_documents_that_the_palace_takes(tmp_path: Path) -> None:
    dice = Random(6)
    pasted = [base64.b64encode(dice.randbytes(300_000)).decode() for _ in range(8)]
    path = write_transcript(tmp_path / "session.jsonl", user("Compare them."), *map(assistant, pasted))
    parts = documents(path)
    assert 1 < len(parts) < len(pasted) + 1
    assert all(len(part.content.encode()) <= MAX_CONTENT_BYTES for part in parts)
    assert all(sum(part.content.count(each) for part in parts) == 1 for each in pasted)


def test_broken_lines_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("Question"),
        "{not json",
        "",
        b'{"type": "user", "message": {"content": "\xff\xfe"}}',
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        "[1, 2]",
        "9" * 10_000,
        assistant("Answer"),
    )
    assert [document.content for document in documents(path)] == ["User: Question\n\n\ufffd\ufffd\n\nAssistant: Answer"]
    assert problems(path) == [
        SkippedLines(str(path), "not JSON", 4, (2, 5, 6, 8)),
        SkippedLines(str(path), "not UTF-8, replaced by U+FFFD", 1, (4,)),
        SkippedLines(str(path), "not a JSON object", 1, (7,)),
    ]


def test_many_broken_lines_are_one_problem(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("Question"), *["broken"] * 5000)
    (problem,) = problems(path)
    assert problem == SkippedLines(str(path), "not JSON", 5000, tuple(range(2, 12)))


@pytest.mark.parametrize("ending", [b'{"type": "assistant", "mess', b'{"type":"user","message":{"content":"\xe4\xbc'])
def test_a_half_written_last_line_is_no_problem(tmp_path: Path, ending: bytes) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("Question"), assistant("Answer"))
    path.write_bytes(path.read_bytes() + ending)
    assert len(documents(path)) == 1
    assert problems(path) == []


def test_a_last_line_without_newline_counts_when_it_is_whole(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("Question"), assistant("Answer"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert documents(path)[0].content.endswith("Answer")


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        ('"bad \\ud83d emoji"', "bad \ufffd emoji", "holds a lone surrogate, replaced by U+FFFD"),
        ('"\\udc00\\ud800"', "\ufffd\ufffd", "holds a lone surrogate, replaced by U+FFFD"),
        ('"a\\u0000b"', "a\ufffdb", "holds a NUL character, replaced by U+FFFD"),
    ],
)
def test_characters_that_cannot_be_stored_are_replaced_and_reported(
    tmp_path: Path, text: str, kept: str, reason: str
) -> None:
    line = json.dumps(user("PLACEHOLDER")).replace('"PLACEHOLDER"', text)
    path = write_transcript(tmp_path / "s.jsonl", user("One"), assistant("First."), line, assistant("Second."))
    assert [document.content for document in documents(path)] == [
        "User: One\n\nAssistant: First.",
        f"User: {kept}\n\nAssistant: Second.",
    ]
    assert problems(path) == [SkippedLines(str(path), reason, 1, (3,))]


def test_labels_that_cannot_be_stored_are_left_out(tmp_path: Path) -> None:
    odd = user("Q", sessionId="\ud83d", gitBranch="x" * 5000, cwd=["no"], timestamp="yesterday")
    (document,) = documents(write_transcript(tmp_path / "s.jsonl", odd))
    assert document.metadata == {}
    assert document.occurred_at is None


def test_of_duplicate_keys_the_last_counts(tmp_path: Path) -> None:
    line = '{"type":"system","type":"user","sessionId":"s","message":{"content":"no","content":"yes"}}'
    assert documents(write_transcript(tmp_path / "s.jsonl", line))[0].content == "User: yes"


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    lines = [json.dumps(user("Question")), json.dumps(assistant("Answer"))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    assert documents(path)[0].content == "User: Question\n\nAssistant: Answer"
    assert problems(path) == []


def test_a_line_that_is_too_long_is_skipped_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    huge = json.dumps(user("x")).encode().replace(b'"x"', b'"' + b"x" * LONGEST_LINE + b'"')
    path.write_bytes(huge + b"\n" + json.dumps(user("Question")).encode() + b"\n" + huge)
    assert [document.content for document in documents(path)] == ["User: Question"]
    assert problems(path) == [SkippedLines(str(path), "longer than 16 MiB", 2, (1, 3))]


def test_a_transcript_that_is_too_large_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGEST_TRANSCRIPT + 1)
    assert reasons(path) == ["larger than 256 MiB"]


@pytest.mark.parametrize("line", ['{"name": "Ada"}', '{"type": "Feature", "geometry": null}', "nothing"])
def test_other_json_lines_are_not_a_transcript(tmp_path: Path, line: str) -> None:
    path = write_transcript(tmp_path / "data.jsonl", *[line] * 3000)
    assert list(read(path)) == [SkippedFile(str(path), "not a transcript")]


def test_a_transcript_in_which_nobody_speaks_has_no_text(tmp_path: Path) -> None:
    assert reasons(write_transcript(tmp_path / "s.jsonl", user("said by the client", isMeta=True))) == ["no text"]


def test_unclosed_tags_by_the_thousand_take_linear_time() -> None:
    said = "<system-reminder>\n" * 100_000 + "<bash-input>\n" * 100_000
    turn = turn_of(user(said))
    assert turn is not None
    assert turn.text == said.strip()


@pytest.mark.parametrize(
    ("cwd", "wing"),
    [
        ("/home/mira/code/harbour", "harbour"),
        ("C:\\Users\\mira\\harbour\\", "harbour"),
        ("/", "files"),
        ("/srv/" + "x" * 300, "x" * 128),
        ("/srv/a\nb", "a b"),
    ],
)
def test_the_wing_is_the_folder_where_the_conversation_began(tmp_path: Path, cwd: str, wing: str) -> None:
    snapshot = {"type": "file-history-snapshot", "snapshot": {}}
    path = write_transcript(tmp_path / "s.jsonl", snapshot, user("Q", cwd=cwd), user("Q", cwd="/elsewhere"))
    assert default_wing(path) == wing


def test_without_a_working_folder_the_wing_is_the_files_folder(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "s.jsonl", {"type": "user", "message": {"content": "Q"}})
    assert default_wing(path) == tmp_path.name
    assert default_wing(tmp_path / "missing.jsonl") == tmp_path.name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["type", "message", "attachment", "origin", "timestamp", "cwd", "isMeta", "sessionId"])


@given(st.dictionaries(FIELDS, JSON | st.sampled_from(["user", "assistant", "attachment"])), JSON)
def test_no_shape_of_a_record_crashes_the_reader(fields: dict[str, object], content: object) -> None:
    turn_of(fields)
    turn_of({**record("user", content), **fields})
    turn_of({"type": "assistant", "message": {"content": [content, {"type": "text", "text": content}]}})


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_example_transcripts_read_well(path: Path) -> None:
    exchanges = documents(path)
    assert problems(path) == []
    for exchange in exchanges:
        assert exchange.content.startswith("User: ")
        assert "\n\nAssistant: " in exchange.content
        assert not any(noise in exchange.content for noise in ("<command", "<system", "harbourctl", "toolu_"))
    assert all(before.occurred_at < after.occurred_at for before, after in pairwise(exchanges))  # type: ignore[operator]
