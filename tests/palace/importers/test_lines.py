"""Of damaged lines whatever is whole is kept, and the rest is told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.palace.importers.support import documents, problems, user, write_transcript


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
