"""What other programs export is left out with a reason, and a transcript is one whatever its file is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import SkippedFile, read
from tests.palace.importers.support import assistant, documents, user, write_transcript

CONVERSATIONS = "a conversation export, which this version does not read"
MEMORIES = "the store of another memory server; `mempalace-mcp migrate` brings it here"
OTHER = "JSON that is no transcript"
CLAUDE = [{"uuid": "c", "name": "Tides", "chat_messages": [{"sender": "human", "text": "When is high tide?"}]}]
CHATGPT = [{"title": "Tides", "create_time": 1.5, "mapping": {"n": {"message": None, "children": []}}}]
OTHERS = [{"id": "c", "messages": [{"role": "user", "content": "When is high tide?"}]}]
ENTITIES = (
    '{"type":"entity","name":"Mira","entityType":"person","observations":["keeps the lamp"]}\n'
    '{"type":"relation","from":"Mira","to":"lamp","relationType":"keeps"}\n'
)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("conversations.json", json.dumps(OTHERS), CONVERSATIONS),
        ("conversations.json", json.dumps(CHATGPT, indent=2), CONVERSATIONS),
        ("CONVERSATIONS.JSON", "\ufeff" + json.dumps(OTHERS), CONVERSATIONS),
        ("conversations", json.dumps(CLAUDE), CONVERSATIONS),
        ("export.backup", json.dumps(CHATGPT, indent=2), CONVERSATIONS),
        ("memory.json", ENTITIES, MEMORIES),
        ("memory", ENTITIES, MEMORIES),
        ("memory.ndjson", ENTITIES, MEMORIES),
        ("package.json", '{"name": "ferry"}', OTHER),
        ("list.json", "[]", OTHER),
        ("broken.json", '{"name": ', OTHER),
        ("empty.json", "", OTHER),
        ("memory.jsonl", ENTITIES, "not a transcript"),
        ("large.json", json.dumps([*OTHERS, "x" * 3_000_000]), CONVERSATIONS),
    ],
)
def test_exports_and_other_json_are_left_out_with_a_reason(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(read(tmp_path / name)) == [SkippedFile(str(tmp_path / name), reason)]


@pytest.mark.parametrize("name", ["s.json", "s.ndjson", "s.JSONL", "s.jsonl.bak", "s.old", "s"])
def test_a_transcript_is_read_whatever_its_file_is_called(tmp_path: Path, name: str) -> None:
    path = write_transcript(tmp_path / name, {"type": "summary", "leafUuid": "x"}, user("Q"), assistant("A"))
    (document,) = documents(path)
    assert (document.content, document.room) == ("User: Q\n\nAssistant: A", "sessions")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("note.md", '{"a": 1}'),
        ("note.txt", json.dumps(CLAUDE)),
        ("NOTES", "[ ] buy oil\n[x] paint"),
        ("NOTES", "{draft} of a letter"),
        ("todo.taskpaper", "[1] See the minutes."),
    ],
)
def test_text_that_only_looks_like_json_and_json_in_a_note_are_notes(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [document.content for document in documents(tmp_path / name)] == [text]
