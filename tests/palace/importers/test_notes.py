"""Markdown and plain text: verbatim whatever the encoding, split at headings, dated by the front matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, SkippedFile
from mempalace_mcp.palace.importers.files import LARGEST_TEXT
from mempalace_mcp.palace.importers.notes import LONGEST_DOCUMENT, _sections
from tests.palace.importers.support import documents, reasons

pytestmark = pytest.mark.long

PARAGRAPH = "The ferry leaves at ten past three, whatever the weather says.\n\n"


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("suffix", [".md", ".txt", ".rst", ".org", ".markdown", ""])
def test_a_short_file_is_one_document_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    text = "\r\n # Title\r\n\ttabs, trailing spaces   \n\u2028 and 会議 \n\n"
    path = written(tmp_path / f"note{suffix}", text)
    assert documents(path) == [Document("", "notes", text, str(path), None, {})]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding_and_is_no_text(tmp_path: Path, encoding: str) -> None:
    (document,) = documents(written(tmp_path / "note.md", "Öl für den Leuchtturm\n", encoding))
    assert document.content == "Öl für den Leuchtturm\n"
    assert document.metadata == {"encoding": encoding}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfe\x00\xd8", "not UTF-16"),
        (b"caf\xe9", "not UTF-8"),
        (b"PK\x03\x04\x00\x00", "binary"),
        ("a\0b".encode("utf-16"), "binary"),
        (b"", "no text"),
        (b" \n\t\n", "no text"),
        (b"\xef\xbb\xbf", "no text"),
        (b"x" * (LARGEST_TEXT + 1), "larger than 2 MiB"),
    ],
)
def test_what_is_no_text_is_skipped_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "note.md"
    path.write_bytes(data)
    assert reasons(path) == [reason]
    assert documents(path) == []


def test_a_long_file_is_split_at_its_headings(tmp_path: Path) -> None:
    text = (
        "---\ndate: 2026-05-14\n---\nPreamble.\n\n"
        "# Runbook\n\n## Rotating\n"
        + PARAGRAPH * 100
        + "```sh\n# no heading\n```\n### Deeper\n"
        + PARAGRAPH
        + "## Rolling back ##\n"
        + PARAGRAPH * 100
        + "# Appendix\n"
        + PARAGRAPH * 300
        + "## Rotating\n"
        + PARAGRAPH
        + "# Runbook\n\n## Rotating\nagain"
    )
    path = written(tmp_path / "runbook.md", text)
    parts = documents(path)
    assert [part.key for part in parts] == [
        "#1",
        "Runbook > Rotating#1",
        "Runbook > Rolling back#1",
        "Appendix#1",
        "Appendix#2",
        "Appendix > Rotating#1",
        "Runbook > Rotating#2",
    ]
    assert "".join(part.content for part in parts) == text
    assert parts[1].content.startswith("# Runbook\n\n## Rotating\n")
    assert parts[1].metadata == {"part": "Runbook > Rotating#1", "heading": "Runbook > Rotating"}
    assert all(len(part.content) <= LONGEST_DOCUMENT for part in parts)
    assert {part.occurred_at for part in parts} == {clock.parse("2026-05-14", "date")}


def test_a_change_in_one_section_leaves_the_others_alone(tmp_path: Path) -> None:
    chapters = [f"# Chapter {letter}\n" + PARAGRAPH * 80 for letter in "ABCDE"]
    path = written(tmp_path / "book.md", "".join(chapters))
    before = {part.key: part.content for part in documents(path)}
    written(path, "".join([*chapters[:2], "# Between\n" + PARAGRAPH, *chapters[2:]]))
    after = {part.key: part.content for part in documents(path)}
    assert set(after) - set(before) == {"Between#1"}
    assert all(after[key] == content for key, content in before.items())


def test_long_plain_text_is_cut_at_paragraphs(tmp_path: Path) -> None:
    text = "# no heading here\n" + PARAGRAPH * 1000
    parts = documents(written(tmp_path / "log.txt", text))
    assert "".join(part.content for part in parts) == text
    assert all(part.content.endswith("\n\n") for part in parts)
    assert [part.key for part in parts] == [f"#{number}" for number in range(1, len(parts) + 1)]


LINES = st.sampled_from(
    ["# A", "## B", "## B #", "### C", "#no", "```", "~~~~", "text", "", "  ", "\r", "# ", "##\t#", "#" * 50, "x" * 500]
)


@given(st.lists(LINES, max_size=60).map("\n".join))
@settings(deadline=None)
def test_sections_together_are_the_text(content: str) -> None:
    assert "".join(text for _, text in _sections(content)) == content


@pytest.mark.parametrize(
    ("front_matter", "date"),
    [
        ("---\ndate: 2026-05-14\n---\n", "2026-05-14"),
        ('---\r\ntitle: x\r\nDate: "2026-05-14T09:30:00+02:00"\r\n---\r\n', "2026-05-14T07:30:00Z"),
        ("---\ntitle: x\ndate: '2026-05-14 09:30'\n...\n", "2026-05-14T09:30:00Z"),
        ("---\ndate: last spring\n---\n", None),
        ("---\ndate: 2026-13-45\n---\n", None),
        ("---\ndate:\n---\n", None),
        ("---\ntitle: never closed\ndate: 2026-05-14\n", None),
        ("text\n---\ndate: 2026-05-14\n---\n", None),
        ("---\ntitle: x\n---\ndate: 2026-05-14\n", None),
        ("date: 2026-05-14\n", None),
    ],
)
def test_the_date_of_the_front_matter_is_when_it_occurred(tmp_path: Path, front_matter: str, date: str | None) -> None:
    (document,) = documents(written(tmp_path / "note.md", front_matter + "text"))
    assert document.occurred_at == (clock.parse(date, "date") if date else None)
    assert document.content == front_matter + "text"


@pytest.mark.parametrize(
    "text",
    [
        *("# " * 500_000, "#\n" * 500_000, "# #\n" * 250_000, "```\n# x\n" * 125_000, "x\n# y\n" * 150_000),
        *("`" * 1_000_000, "[" * 1_000_000, "---\n" + "date:\n" * 150_000, "a" + "\n" * 1_000_000 + "b"),
    ],
    ids=lambda text: repr(text[:8]),
)
def test_the_worst_files_are_read_in_linear_time(tmp_path: Path, text: str) -> None:
    parts = documents(written(tmp_path / "worst.md", text))
    assert all(part.content.strip() for part in parts)
    assert len({part.key for part in parts}) == len(parts)
    kept = "".join(part.content for part in parts)
    assert kept.replace("\n", "") == text.replace("\n", "")


def test_rooms_are_folders_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "docs" / "runbooks").mkdir(parents=True)
    deep = written(tmp_path / "docs" / "runbooks" / "a.md", "text")
    top = written(tmp_path / "b.md", "text")
    assert documents(deep, tmp_path)[0].room == "runbooks"
    assert documents(top, tmp_path)[0].room == "notes"
    assert documents(deep)[0].room == "notes"
    (tmp_path / ".git").mkdir()
    assert documents(deep)[0].room == "runbooks"


def test_a_file_of_any_kind_that_is_given_by_name_is_read(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "main.py", "print()\n"))[0].content == "print()\n"


def test_problems_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "missing.md"
    assert reasons(path) == ["unreadable: No such file or directory"]
    assert SkippedFile(str(path), "x").path == str(path)
