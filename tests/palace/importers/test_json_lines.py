"""Of damaged lines whatever is whole is kept, and the rest is told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import SkippedFile, SkippedLines, read
from mempalace_mcp.palace.importers.claude_code import LARGEST_TRANSCRIPT
from mempalace_mcp.palace.importers.json_lines import LONGEST_LINE
from tests.palace.importers.support import (
    assistant,
    documents,
    problems,
    reasons,
    user,
    write_transcript,
)


def line(text: str, number: int) -> bytes:
    return json.dumps(user(text, uuid=f"u-{number}"), ensure_ascii=False).encode()


NUL = "NUL bytes between records"
BROKEN = "not JSON"


@pytest.mark.parametrize(
    ("damaged", "said", "reason"),
    [
        (b"\0" * 4096 + line("one", 1), ["one"], NUL),
        (line("one", 1) + b"\0" * 512, ["one"], NUL),
        (line("one", 1) + line("two", 2), ["one", "two"], None),
        (line("one", 1) + b"  " + line("two", 2) + b"\0" + line("three", 3), ["one", "two", "three"], NUL),
        (line("lost", 1)[:-40] + line("two", 2), ["two"], BROKEN),
        (line("one", 1) + line("lost", 2)[:90] + line("three", 3), ["one", "three"], BROKEN),
        (b'{"type":"user","message":{"role":"user","content":"ab' + line("two", 2), ["two"], BROKEN),
        (b"rubbish " + line("one", 1) + b" rubbish", ["one"], BROKEN),
        (b"\xef\xbb\xbf" + line("one", 1), ["one"], None),
        (line("one", 1) + b",", ["one"], BROKEN),
        (b"[" + line("one", 1) + b"," + line("two", 2) + b"]", ["one", "two"], None),
        (b"[" + line("one", 1) + b"," + line("two", 2) + b"," + line("lost", 3)[:60], ["one", "two"], BROKEN),
        (line("one two", 1).replace(b" ", b"\t"), ["one\ttwo"], None),
        (line("lost", 1).replace(b"os", b"o\0\0\0s") + line("two", 2), ["two"], BROKEN),
        (line("one", 1).replace(b"one", b"caf\xe9"), ["caf\ufffd"], "not UTF-8, replaced by U+FFFD"),
        (
            line("caf\u00e9", 1) + line("x", 2).replace(b'"x"', b'"\xff"'),
            ["caf\u00e9", "\ufffd"],
            "not UTF-8, replaced by U+FFFD",
        ),
    ],
)
def test_of_a_damaged_line_every_whole_record_is_kept(
    tmp_path: Path, damaged: bytes, said: list[str], reason: str | None
) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("before"), damaged, user("after"))
    (document,) = documents(path)
    assert document.content == "\n\n".join(["User: before", *said, "after"])
    assert [problem.reason for problem in problems(path)] == ([] if reason is None else [reason])


@pytest.mark.parametrize("rest", ['}, "cut', ', "toolUseID": "t', "]"])
def test_what_lies_inside_a_broken_record_is_no_record(tmp_path: Path, rest: str) -> None:
    inner = json.dumps(user("inner", uuid="u-1"))
    path = write_transcript(
        tmp_path / "s.jsonl", user("before"), f'{{"type":"progress","sessionId":"s","data":{inner}{rest}'
    )
    assert [document.content for document in documents(path)] == ["User: before"]


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
    assert reasons(path) == ["larger than 2048 MiB"]


@pytest.mark.parametrize("line", ['{"name": "Ada"}', '{"type": "Feature", "geometry": null}', "nothing"])
def test_other_json_lines_are_not_a_transcript(tmp_path: Path, line: str) -> None:
    path = write_transcript(tmp_path / "data.jsonl", *[line] * 3000)
    assert list(read(path)) == [SkippedFile(str(path), "not a transcript")]
