"""Exports of Claude.ai: conversations and their branches, projects, memories, archives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.claude_ai import NO_TEXT, NOTHING, UNKNOWN
from mempalace_mcp.palace.importers.documents import Document
from mempalace_mcp.palace.importers.json_stream import DAMAGED as CUT
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import reader_of
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.support import documents, found, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

Json = dict[str, Any]
ROOT = "00000000-0000-4000-8000-000000000000"
PROJECT = "5e1a0000-1111-4222-8333-444455556666"


def message(sender: str, uuid: str, parent: str, text: str, second: int = 0, **fields: Any) -> Json:
    known = {"uuid": uuid, "sender": sender, "parent_message_uuid": parent, "text": text}
    blocks = [{"type": "text", "text": text}]
    return {**known, "content": blocks, "created_at": f"2026-10-01T08:00:{second:02}.5Z", **fields}


def talk(*messages: Any, uuid: str = "c-1", **fields: Any) -> Json:
    known = {"uuid": uuid, "name": "Piers", "created_at": "2026-10-01T07:00:00Z", "account": {"uuid": "me"}}
    return {**known, "chat_messages": list(messages), **fields}


QUESTION = message("human", "m1", ROOT, "Who owns pier 4?", 1)
ANSWER = message("assistant", "m2", "m1", "The harbour.", 2)
MEMORIES = {
    "account_uuid": "me",
    "conversations_memory": "Works at the harbour.\n\n**Work context**\n\nLeads the ledger.\n\n## Tastes\nLikes rye.",
    "project_memories": {PROJECT: "The bridge opens at 9.", "gone": "Of a project that is gone."},
}
BRIDGE = {
    "uuid": PROJECT,
    "name": "Old Bridge",
    "description": "",
    "prompt_template": "Be brief about bridges.",
    "created_at": "2026-09-01T00:00:00Z",
    "docs": [{"uuid": "d1", "filename": "plan.md", "content": "Steel, 40 m.", "created_at": "2026-09-02T00:00:00Z"}],
}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def export(folder: Path, *talks: Any) -> Path:
    return write(folder / "conversations.json", talks)


def zipped(path: Path, **members: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(f"{name.replace('__', '/')}.json", json.dumps(value))
    return path


def contents(path: Path, include_tools: bool = False) -> list[str]:
    return [each.content for each in read_real(path, include_tools=include_tools) if isinstance(each, Document)]


def test_a_conversation_is_filed_by_exchange(tmp_path: Path) -> None:
    more = (message("human", "m3", "m2", "Since when?", 3), message("assistant", "m4", "m3", "1911.", 4))
    first, second = documents(export(tmp_path, talk(QUESTION, ANSWER, *more)))
    assert first.content == "User: Who owns pier 4?\n\nAssistant: The harbour."
    assert second.content == "User: Since when?\n\nAssistant: 1911."
    assert (first.wing, first.room, first.occurred_at) == ("claude", "claude-ai", 1_790_841_601_500_000)
    assert not second.may_grow
    assert first.metadata == {
        "agent": "claude-ai",
        "session_id": "c-1",
        "message_id": "m1",
        "title": "Piers",
        "source_format": "claude-ai-export",
    }


def test_the_branch_of_the_newest_message_is_read(tmp_path: Path) -> None:
    edited = message("human", "m3", ROOT, "Who built pier 4?", 5)
    built = message("assistant", "m4", "m3", "Mira.", 6)
    again = message("assistant", "m5", "m3", "Mira did.", 7)
    path = export(tmp_path, talk(QUESTION, ANSWER, edited, again, built))
    assert contents(path) == ["User: Who built pier 4?\n\nAssistant: Mira did."]
    path = export(tmp_path, talk(QUESTION, ANSWER, edited, again, built, current_leaf_message_uuid="m2"))
    assert contents(path) == ["User: Who owns pier 4?\n\nAssistant: The harbour."]


@pytest.mark.parametrize("parents", [(None, None), ("", ""), ("m2", "m1"), (ROOT, "gone"), ("m1", ["m1"])])
def test_messages_that_do_not_hang_together_are_read_in_their_order(tmp_path: Path, parents: tuple[Any, Any]) -> None:
    first, second = (
        {**each, "parent_message_uuid": parent} for each, parent in zip((QUESTION, ANSWER), parents, strict=True)
    )
    assert contents(export(tmp_path, talk(first, second))) == ["User: Who owns pier 4?\n\nAssistant: The harbour."]


UNSUPPORTED = "```\nThis block is not supported on your current device yet.\n```"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": f"Mixed thoughts {UNSUPPORTED} Yes."}, "Yes."),
        ({"text": f"Before\n\n{UNSUPPORTED}\n\nafter.", "content": []}, "Before\n\n\n\nafter."),
        ({"text": "Only text.", "content": None}, "Only text."),
        ({"content": [{"type": "voice_note", "text": "Spoken."}]}, "Spoken."),
    ],
)
def test_of_blocks_only_the_text_is_read(tmp_path: Path, fields: Json, text: str) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm"},
        {"type": "tool_use", "name": "web_search", "input": {"query": "pier"}},
        {"type": "tool_result", "content": [{"type": "text", "text": "Result of a search"}]},
        {"type": "text", "text": "Yes."},
    ]
    answer = {**message("assistant", "m2", "m1", "", 2), "content": blocks, **fields}
    path = export(tmp_path, talk(QUESTION, answer))
    assert contents(path) == [f"User: Who owns pier 4?\n\nAssistant: {text}"]
    if "content" not in fields:
        assert "Tool: Result of a search" in contents(path, include_tools=True)[0]


def test_attachments_are_read_when_that_is_asked_for(tmp_path: Path) -> None:
    attached = {"file_name": "tides.csv", "file_type": "csv", "extracted_content": "9:00 high"}
    path = export(tmp_path, talk({**QUESTION, "attachments": [attached, {}, 7]}, ANSWER))
    assert len(contents(path)) == 1
    entries = [each for each in read_real(path, include_tools=True) if isinstance(each, Document)]
    assert (entries[1].content, entries[1].room, entries[1].metadata["title"]) == (
        "9:00 high",
        "attachments",
        "tides.csv",
    )


def test_empty_conversations_are_counted(tmp_path: Path) -> None:
    blank = talk(message("human", "x", ROOT, "  "), uuid="c-3")
    path = export(tmp_path, talk(QUESTION, ANSWER), talk(uuid="c-2"), blank, {"a": 1}, "x")
    assert len(documents(path)) == 1
    assert sorted(reasons(path)) == sorted([NO_TEXT, UNKNOWN])


def test_documents_of_projects_are_in_the_wing_of_the_project(tmp_path: Path) -> None:
    for path in (
        write(
            tmp_path / "a" / "projects.json",
            [BRIDGE, {**BRIDGE, "uuid": "p2", "name": "Empty", "docs": [], "prompt_template": ""}],
        ),
        write(tmp_path / "b" / "projects" / f"{PROJECT}.json", BRIDGE),
    ):
        instructions, plan = documents(path)
        assert (instructions.content, instructions.wing, instructions.room) == (
            "Be brief about bridges.",
            "Old Bridge",
            "instructions",
        )
        assert (plan.content, plan.wing, plan.room) == ("Steel, 40 m.", "Old Bridge", "documents")
        assert (plan.metadata["title"], plan.metadata["project"]) == ("plan.md", "Old Bridge")
        assert plan.occurred_at == 1_788_307_200_000_000
        assert not reasons(path)


@pytest.mark.parametrize("name", ["", "  ", None, 7, "\n\n", "x" * 4_000, "bad\0name", "Brücke / alt"])
def test_any_name_of_a_project_is_a_wing(tmp_path: Path, name: Any) -> None:
    path = write(tmp_path / "projects.json", [{**BRIDGE, "name": name}])
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 2


def test_memories_are_filed_by_heading(tmp_path: Path) -> None:
    write(tmp_path / "projects" / f"{PROJECT}.json", BRIDGE)
    for value in (MEMORIES, [MEMORIES]):
        path = write(tmp_path / "memories.json", value)
        assert [(each.content, each.wing, each.room) for each in documents(path)] == [
            ("Works at the harbour.", "claude", "memory"),
            ("**Work context**\n\nLeads the ledger.", "claude", "memory"),
            ("## Tastes\nLikes rye.", "claude", "memory"),
            ("The bridge opens at 9.", "Old Bridge", "memory"),
            ("Of a project that is gone.", "claude", "memory"),
        ]
    apart = write(tmp_path / "memories" / "m-1.json", MEMORIES)
    assert [each.wing for each in documents(apart)].count("Old Bridge") == 1
    files = {"account_uuid": "me", "conversations_memory": "", "memory_files": [{"path": "a.md", "content": "Knots."}]}
    assert contents(write(tmp_path / "other.json", files)) == ["Knots."]


def test_archives_are_read_without_what_is_said_of_users(tmp_path: Path) -> None:
    users = [{"uuid": "me", "full_name": "Mira Sand", "email_address": "mira@example.org"}]
    path = zipped(
        tmp_path / "data-2026-batch-0000.zip",
        conversations=[talk(QUESTION, ANSWER)],
        **{f"projects__{PROJECT}": BRIDGE},
        memories=[MEMORIES],
        users=users,
    )
    assert found(tmp_path) == [path.name]
    entries = documents(path)
    assert len(entries) == 8
    assert {each.wing for each in entries} == {"claude", "Old Bridge"}
    assert "Sand" not in str(entries)
    assert not reasons(path)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    assert found(unpacked) == ["conversations.json", "memories.json", f"{PROJECT}.json"]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 8
        assert run(app, path)["unchanged"] == 8
        assert run(app, unpacked)["filed"] == 0
    newer = zipped(tmp_path / "newer.zip", memories__m_1=MEMORIES, conversations__c_1=talk(QUESTION, ANSWER), x__y={})
    assert len(documents(newer)) == 6
    assert reasons(zipped(tmp_path / "nothing.zip", conversations=[], users=users)) == [NOTHING]


def test_a_later_export_adds_what_is_new(tmp_path: Path) -> None:
    old = zipped(tmp_path / "old.zip", conversations=[talk(QUESTION, ANSWER)], memories=[MEMORIES], users=[])
    more = (message("human", "m3", "m2", "Since when?", 3), message("assistant", "m4", "m3", "1911.", 4))
    memories = {**MEMORIES, "conversations_memory": MEMORIES["conversations_memory"].replace("rye", "oats")}  # type: ignore[attr-defined]
    new = zipped(tmp_path / "new.zip", conversations=[talk(QUESTION, ANSWER, *more)], memories=[memories], users=[])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, old)
        told = run(app, new)
        assert (told["filed"], told["updated"]) == (2, 0)
        assert run(app, new)["filed"] == 0


def test_an_export_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = export(tmp_path, talk(QUESTION, ANSWER), talk(QUESTION, ANSWER, uuid="c-2"))
    path.write_bytes(path.read_bytes()[:-60])
    assert (len(documents(path)), reasons(path)) == (1, [CUT])


def test_an_export_is_known_by_what_it_holds(tmp_path: Path) -> None:
    for number, value in enumerate(
        ([talk(QUESTION, ANSWER)], talk(QUESTION, ANSWER), [BRIDGE], BRIDGE, [MEMORIES], MEMORIES)
    ):
        reader = reader_of(Candidate(write(tmp_path / f"of another name {number}.json", value)))
        assert reader is not None
        assert reader.name == "claude-ai"
    users = [{"uuid": "me", "full_name": "Mira Sand", "email_address": "mira@example.org"}]
    for value in (users, [], {"docs": "https://example.org", "name": "package"}, {"prompt_template": "x"}):
        assert reader_of(Candidate(write(tmp_path / "other.json", value))) is None
