"""Each reader knows its own files, under any name where their content tells, and leaves the files of others alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import READERS
from tests.palace.importers import (
    test_chatgpt,
    test_claude_ai,
    test_cline,
    test_codex,
    test_continue_dev,
    test_copilot_cli,
    test_cursor,
    test_gemini_cli,
    test_goose,
    test_opencode,
    test_vscode_chat,
    test_zed,
)
from tests.palace.importers.editors import write_json, write_lines
from tests.palace.importers.support import assistant, documents, user, write_transcript


def codex(folder: Path) -> Path:
    return test_codex.rollout(folder, test_codex.meta(), test_codex.asked("Q"), test_codex.answered("A"))


def first_codex(folder: Path) -> Path:
    head = {"id": test_codex.FIRST, "timestamp": "2025-06-01T10:00:00.000Z", "instructions": None}
    messages = [{**test_codex.sent(role, "Q")["payload"]} for role in ("user", "assistant")]
    return test_codex.rollout(folder, head, *messages)


def gemini(folder: Path) -> Path:
    return test_gemini_cli.session(folder, test_gemini_cli.user("m1", "Q"), test_gemini_cli.model("m2", "A"))


def first_gemini(folder: Path) -> Path:
    messages = [test_gemini_cli.user("m1", "Q"), test_gemini_cli.model("m2", "A")]
    return write_json(folder / "session.json", {**test_gemini_cli.HEAD, "messages": messages})


def opencode(folder: Path) -> Path:
    store = test_opencode.Store(folder / "opencode.db")
    with closing(store.connection):
        store.session("ses_1")
        store.message("msg_1", "user", "Q")
    return store.path


def chatgpt(folder: Path) -> Path:
    return test_chatgpt.export(folder, test_chatgpt.bread())


def zipped_chatgpt(folder: Path) -> Path:
    return test_chatgpt.zipped(folder / "a.zip", conversations=json.dumps([test_chatgpt.bread()]))


def claude_ai(folder: Path) -> Path:
    return test_claude_ai.export(folder, test_claude_ai.talk(test_claude_ai.QUESTION, test_claude_ai.ANSWER))


def memories(folder: Path) -> Path:
    return write_json(folder / "memories.json", [test_claude_ai.MEMORIES])


def projects(folder: Path) -> Path:
    return write_json(folder / "projects.json", [test_claude_ai.BRIDGE])


def zipped_claude_ai(folder: Path) -> Path:
    return test_claude_ai.zipped(folder / "b.zip", memories=[test_claude_ai.MEMORIES], users=[])


def claude_code(folder: Path) -> Path:
    return write_transcript(folder / "s.jsonl", user("Q"), assistant("A"))


SAMPLES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "codex": ("codex", codex),
    "codex, its first versions": ("codex", first_codex),
    "gemini": ("gemini-cli", gemini),
    "gemini, its first versions": ("gemini-cli", first_gemini),
    "opencode": ("opencode", opencode),
    "opencode, its first versions": ("opencode", test_opencode.files),
    "chatgpt": ("chatgpt", chatgpt),
    "chatgpt, zipped": ("chatgpt", zipped_chatgpt),
    "claude.ai": ("claude-ai", claude_ai),
    "claude.ai, memories": ("claude-ai", memories),
    "claude.ai, projects": ("claude-ai", projects),
    "claude.ai, zipped": ("claude-ai", zipped_claude_ai),
    "claude code": ("claude-code", claude_code),
    "copilot": ("copilot-cli", lambda folder: write_lines(folder / "events.jsonl", *test_copilot_cli.SESSION)),
    "goose": ("goose", test_goose.database),
    "zed": ("zed", lambda folder: test_zed.database(folder, test_zed.thread(*test_zed.THREAD))),
    "continue": ("continue", lambda folder: test_continue_dev.session(folder, *test_continue_dev.HISTORY)),
    "vs code": (
        "vscode-chat",
        lambda folder: test_vscode_chat.chat(folder, test_vscode_chat.session(test_vscode_chat.ASKED)),
    ),
    "cline": ("cline", lambda folder: test_cline.task(folder, *test_cline.TASK)),
    "cursor": ("cursor", lambda folder: test_cursor.database(folder, test_cursor.herring())),
    "cursor, its transcripts": (
        "cursor",
        lambda folder: test_cursor.transcript(folder, "c-1", *test_cursor.HERRING_TRANSCRIPT),
    ),
}
UNUSUAL = {"opencode, its first versions", "goose", "zed", "cline"}
"""Of these, the name or the folder belongs to what they are known by."""


def recognized(path: Path) -> list[str]:
    """All readers that take the file for their own, whatever their order."""
    suffix = path.suffix.lower()
    asked = [each for each in READERS if suffix in each.suffixes or path.name in each.hidden_names]
    return [each.name for each in asked if each.recognizes(Candidate(path))]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_has_one_reader(tmp_path: Path, name: str) -> None:
    agent, make = SAMPLES[name]
    path = make(tmp_path)
    assert recognized(path) == [agent]
    assert documents(path)


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - UNUSUAL))
def test_a_file_is_known_under_another_name(tmp_path: Path, name: str) -> None:
    agent, make = SAMPLES[name]
    path = make(tmp_path)
    other = path.rename(tmp_path / f"other name{path.suffix}")
    assert recognized(other) == [agent]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package.json", '{"name": "lamp", "docs": "x", "version": "1.0.0"}'),
        ("conversations.json", '{"messages": [{"role": "user", "content": "Q"}]}'),
        ("list.json", "[]"),
        ("broken.json", '[{"mapping": {"a": '),
        ("index.json", '{"mappings": {"properties": {"parent": {}, "children": {}}}}'),
        ("events.jsonl", '{"type": "user", "name": "x"}\n{"type": "event", "payload": 5}\n'),
        ("log.jsonl", '{"timestamp": "2026-10-01T08:00:00Z", "level": "info", "payload": {"type": "message"}}\n'),
        ("memory.jsonl", '{"type":"entity","name":"Mira","entityType":"person","observations":["x"]}\n'),
        ("empty.jsonl", ""),
        ("broken.zip", "PK\x03\x04 and nothing"),
        ("rollout.zst", "nothing"),
    ],
)
def test_a_file_that_holds_no_conversations_has_no_reader(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert recognized(tmp_path / name) == []


def test_another_database_has_no_reader(tmp_path: Path) -> None:
    for name in ("other.db", "state.sqlite"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute("CREATE TABLE message (id, session_id, data)")
        assert recognized(tmp_path / name) == []
