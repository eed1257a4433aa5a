"""Notes say when they are from, by their properties or by their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import read_zone
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.palace.importers.dates import DateFault
from mempalace_mcp.palace.importers.documents import SkippedLines
from mempalace_mcp.palace.importers.note_dates import DATE_REASONS, date_note, date_of_name
from tests.palace.importers.support import documents, problems
from tests.palace.support import opened

NAMELESS = "/vault/trip.md"


def at(shown: str) -> clock.Instant:
    return clock.parse(shown, "date")


def instant_of(reading: str | DateFault | None) -> clock.Instant:
    assert isinstance(reading, str), reading
    return at(reading)


DAY = "2023-11-07"


@pytest.mark.parametrize(
    "content",
    [
        f"---\ntitle: x\ndate: {DAY} # when\n---\ntext",
        f'---\ndate: "{DAY}" # the day\n---\ntext',
        f"---\ncreated: {DAY}\nupdated: 2024-01-01\n---\ntext",
        f"---\r\nDate Created: {DAY}\r\n---\r\ntext",
        f"---\ncreated_at:\n  - {DAY}\n---\ntext",
        f"---\ntitle: a: b\n\ttabs: here\n{{{{broken\ncreation-date: '{DAY}'\n...\ntext",
        f"---\npublished: true\npublishedAt: {DAY}\n---\ntext",
        "---\npubDate: 'Nov 07 2023'\ntags: [a, b]\nextra:\n  date: 2020-01-01\n---\ntext",
        f"---\ndate: {DAY}\ncreated: 2020-01-01\n---\ntext",
        f"---\npublished: 2020-01-01\ncreated: {DAY}\n---\ntext",
        f"---\ndate: last spring\ncreated: {DAY}\n---\ntext",
        f"+++\ntitle = 'x'\ndate = {DAY} # toml\n[extra]\ncreated = 2020-01-01\n+++\ntext",
        f'{{\n  "title": "x",\n  "date": "{DAY}"\n}}\n\ntext',
        f"#+TITLE: x\n#+DATE: <{DAY} Tue>\n\n* Heading\ntext",
        f":PROPERTIES:\n:ID: 7\n:CREATED: [{DAY} Tue]\n:END:\n#+title: x\ntext",
        f"Title\n=====\n\n:date: {DAY}\n:author: x\n\ntext",
        f".. title: x\n.. date: {DAY}\n\ntext",
        f"<!--\n.. title: x\n.. date: {DAY}\n-->\n\ntext",
        f"title:: x\ndate:: [[{DAY}]]\n\n- text",
        f"- created:: {DAY}\n- text",
        "# Trip\n\nCreated: November 7, 2023\nTags: a, b\n\ntext",
        f"Title: x\nDate: {DAY}\n\ntext",
        f"# Meeting\n\n**Date:** {DAY}\n**With:** Anna\n\ntext",
        f"# Meeting\n- Date: {DAY}\n",
    ],
)
def test_a_note_says_its_date_in_the_form_of_its_program(content: str) -> None:
    assert date_note(content, "/vault/2019-01-01.md").instant == at(DAY)


@pytest.mark.parametrize(
    "content",
    [
        '+++\ndate = "2023-11-07T08:05:30Z"\n+++\ntext',
        "Title\n\ntext: a\n\nid: 12ab\nparent_id: \ncreated_time: 2023-11-07T08:05:30.000Z\nis_conflict: 0\ntype_: 1",
        "---\ncreated: 1699344330000\n---\ntext",
        '{"date": 1699344330}\ntext',
        "#+DATE: <2023-11-07 Tue 09:05:30 +0100>\n",
    ],
)
def test_a_note_says_its_time(content: str) -> None:
    assert date_note(content, NAMELESS).instant == at("2023-11-07T08:05:30Z")


@pytest.mark.parametrize(
    "content",
    [
        "text\n\ndate: 2023-11-07\n\n",
        "Anna: hello\nDate: 2023-11-07\nand so on",
        "---\nnever: closed\ndate: 2023-11-07\n",
        "---\ntitle: x\n---\nDate: 2023-11-07\n\n",
        "---\nupdated: 2023-11-07\nmodified: 2023-11-07\n---\n",
        "---\nnested:\n  date: 2023-11-07\n---\n",
        "+++\n[extra]\ndate = 2023-11-07\n+++\n",
        '{"date": ["2023-11-07"], "created": null}',
        '{"date": "2023-11-07"',
        "---\ndate:\n---\n",
        "",
    ],
)
def test_what_is_no_property_of_the_note_does_not_date_it(content: str) -> None:
    assert date_note(content, NAMELESS) == date_note("text", NAMELESS)
    assert date_note(content, NAMELESS).instant is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("2023-11-07-trip.md", "2023-11-07"),
        ("2023-11-07.md", "2023-11-07"),
        ("2023_11_07.md", "2023-11-07"),
        ("20231107 trip.txt", "2023-11-07"),
        ("202311070805.md", "2023-11-07T08:05:00"),
        ("202311070805 A thought.md", "2023-11-07T08:05:00"),
        ("20231107080530.md", "2023-11-07T08:05:30"),
        ("2023-11-07T0805.md", "2023-11-07T08:05:00"),
        ("2023-11-07 08.05.30 call.md", "2023-11-07T08:05:30"),
        ("2023-11-07_08-05-30.md", "2023-11-07T08:05:30"),
        ("Screenshot 2023-11-07 at 08.05.30.md", "2023-11-07T08:05:30"),
        ("2023-11-07 1200 calories.md", "2023-11-07"),
        ("2023-11-07 to 2023-11-09.md", "2023-11-07"),
        ("Meeting 2023-11-07.md", "2023-11-07"),
        ("IMG_20231107_080530.txt", "2023-11-07T08:05:30"),
        ("07.11.2023.md", "2023-11-07"),
        ("27-11-2023 walk.md", "2023-11-27"),
        ("Nov 7th, 2023.md", "2023-11-07"),
        ("7 November 2023 trip.md", "2023-11-07"),
        ("tuesday_7_nov_2023.md", "2023-11-07"),
        ("2023-11-07", "2023-11-07"),
        ("posts/2023-11-07-trip/index.md", "2023-11-07"),
        ("journal/2023/11/07.md", "2023-11-07"),
        ("2023-11.md", "2023-11-01"),
    ],
)
def test_a_name_dates_a_note_that_says_nothing(name: str, shown: str) -> None:
    assert date_note("text", f"/vault/{name}").instant == at(shown)


@pytest.mark.parametrize(
    "name",
    [
        "trip.md", "1984.md", "12345678.md", "20231399.md", "v1.2.3.md", "from 2023-11-07 to 2023-11-09 x.md",
        "1a2b20231107c4d5.md", "10.20.30.md", "ISBN 978-3-16-148410-0.md", "may 2.md", "2023/13/45.md",
    ],
)  # fmt: skip
def test_other_names_do_not(name: str) -> None:
    assert date_of_name(f"/vault/{name}") is None


def test_what_could_not_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "03-04-2024.md"
    path.write_text(
        "---\ntitle: x\ndate: 2024-02-31\ncreated: 30.02.2024\npublished: soon\n---\ntext", encoding="utf-8"
    )
    (document,) = documents(path)
    assert document.occurred_at is None
    assert problems(path) == [
        SkippedLines(str(path), "a date in the text does not exist", 1, (3,)),
        SkippedLines(str(path), "a date in the text is not understood", 1, (5,)),
        SkippedLines(str(path), "a date in the name may have day and month in either order", 1, ()),
    ]


def test_all_kinds_of_notes_are_dated(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "c.org", "d.rst", "e"):
        (tmp_path / name).write_text(f"Title: x\nDate: {DAY}\n\ntext", encoding="utf-8")
        assert [document.occurred_at for document in documents(tmp_path / name)] == [at(DAY)]


def test_each_kind_of_fault_is_listed_once_and_counted(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.md").write_text(f"---\ndate: 2024-02-{30 + number % 2}\n---\ntext", encoding="utf-8")
    (tmp_path / "other.md").write_text("---\ndate: 1/2/2024\n---\ntext", encoding="utf-8")
    with opened(tmp_path / "palace", started=False) as app:
        summary = ImportSummary()
        for step in app.palace.import_paths([tmp_path / f"{name}.md" for name in [*range(30), "other"]]):
            summary.add(step)
    told = summary.as_dict(complete=True)
    assert told["files"] == 31
    assert {reason: count for reason, count in told["skipped"].items() if reason in DATE_REASONS} == {
        "a date in the text does not exist": 30,
        "a date in the text may have day and month in either order": 1,
    }
    assert [problem["reason"] for problem in told["problems"]] == [
        "a date in the text does not exist",
        "a date in the text may have day and month in either order",
    ]


def test_what_has_no_offset_is_of_the_zone_of_the_palace() -> None:
    kiritimati = read_zone("+14:00")
    assert date_note("---\ncreated: 2024-05-03 09:30\n---\n", "x.md", kiritimati).instant == at("2024-05-02T19:30Z")
    assert date_note("---\ncreated: 2024-05-03 09:30 +02:00\n---\n", "x.md", kiritimati).instant == at(
        "2024-05-03T07:30Z"
    )
    for name in ("2024-05-03.md", "20240503 trip.md", "03.05.2024.md", "3 May 2024.md", "2024/05/03.md"):
        assert date_note("Text.", name, kiritimati).instant == at("2024-05-02T10:00Z"), name
