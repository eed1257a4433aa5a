"""Whatever the files and databases of agents hold, documents are yielded that can be stored, or what was left out."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.importers import Document, read_real
from tests.fuzz.support import SEEDS, any_json, any_text, compact, damage, examples, promptly

TEXT = {"type": "text", "text": "An answer."}
EVENTS = (
    {
        "type": "session.start",
        "data": {"sessionId": "s", "startTime": "2026-05-06T12:00:00Z", "context": {"cwd": "/a"}},
    },
    {
        "type": "user.message",
        "data": {"content": "Q", "source": "user"},
        "id": "e1",
        "timestamp": "2026-05-06T12:00:00Z",
    },
    {"type": "assistant.message", "data": {"content": "A", "parentToolCallId": None}, "id": "e2", "agentId": None},
    {"type": "tool.execution_complete", "data": {"result": {"content": "R"}}, "id": "e3"},
)
CHAT = {
    "sessionId": "s", "creationDate": 1, "customTitle": "T", "responderUsername": "x",
    "requests": [{
        "requestId": "r", "timestamp": 1, "message": {"text": "Q"}, "modelState": {"value": 1}, "response": [
            {"value": "A"}, {"kind": "inlineReference", "inlineReference": {"path": "/a", "uri": {"path": "/b"}}},
            {"kind": "toolInvocationSerialized", "resultDetails": {"output": [{"isText": True, "value": "R"}]},
             "toolSpecificData": {"terminalCommandOutput": {"text": "R"}}},
        ]}],
}  # fmt: skip
CHANGES = (
    {"kind": 0, "v": CHAT},
    {"kind": 1, "k": ["requests", 0, "response", 0], "v": {"value": "B"}},
    {"kind": 2, "k": ["requests", 0, "response"], "v": [{"value": "C"}], "i": 1},
    {"kind": 3, "k": ["customTitle"]},
)
TASK = [
    {"ts": 1, "type": "say", "say": "task", "text": "Q", "modelInfo": {"modelId": "m"}},
    {"ts": 2, "type": "say", "say": "api_req_started", "text": '{"request": "# Current Working Directory (/a) Files"}'},
    {"ts": 3, "type": "ask", "ask": "followup", "text": '{"question": "Q?", "selected": "A"}', "partial": False},
    {"ts": 4, "type": "say", "say": "completion_result", "text": "A"},
]
SESSION = {
    "sessionId": "s", "origin": {"subagent": None},
    "messages": [
        {"id": "1", "role": "user", "content": [{"text": "<user_input mode='act'>Q</user_input>"}], "ts": 1},
        {"id": "2", "role": "user", "content": [{"type": "tool_result", "content": [{"result": "R"}]}], "ts": 2},
        {"id": "3", "role": "assistant", "content": [TEXT], "ts": 3},
    ],
}  # fmt: skip
CONTINUE = {
    "sessionId": "s", "title": "T", "workspaceDirectory": "file:///c%3A/a",
    "history": [
        {"message": {"role": "user", "content": "Q", "id": "1"}},
        {"message": {"role": "assistant", "content": [TEXT]}, "toolCallStates": [{"output": [{"content": "R"}]}]},
    ],
}  # fmt: skip
TRANSCRIPT = (
    {
        "role": "user",
        "message": {"content": [{"type": "text", "text": "<timestamp>x</timestamp><user_query>Q</user_query>"}]},
    },
    {"role": "assistant", "message": {"content": [TEXT, {"type": "tool_result", "content": "R"}]}},
    {"type": "turn_ended", "status": "success"},
)
GOOSE = (
    {"working_dir": "/a", "description": "T"},
    {"role": "user", "created": 1, "content": [TEXT], "metadata": {"userVisible": True}},
    {
        "role": "assistant",
        "created": 2,
        "content": [{"type": "toolResponse", "toolResult": {"value": {"content": [TEXT]}}}],
    },
)
AIDER = (
    "\n# aider chat started at 2026-05-06 12:00:00\n", "> Model: m with diff edit format  \n", "\n#### Q  \n####   \n",
    "\n#### /ask Q  \n", "\nAn answer.\n\n", "> Tokens: 1  \n", "#### A heading\n", "\r\n",
)  # fmt: skip
COMPOSER = {
    "name": "T", "createdAt": 1, "lastUpdatedAt": 2, "status": "completed", "modelConfig": {"modelName": "m"},
    "workspaceIdentifier": {"id": "w", "uri": {"fsPath": "/a"}}, "subagentComposerIds": ["x"],
    "trackedGitRepos": [{"repoPath": "/a"}], "agentLocation": {"environment": {"uri": {"path": "/a"}}},
    "conversation": [{"type": 1, "text": "Q"}],
    "fullConversationHeadersOnly": [{"bubbleId": "b0", "type": 1}, {"bubbleId": "b1", "type": 2}],
}  # fmt: skip
BUBBLE = {"type": 2, "text": "A", "createdAt": "2026-05-06T12:00:00Z", "toolFormerData": {"result": "R"}}
THREAD = {
    "title": "T", "model": {"model": "m"},
    "initial_project_snapshot": {"worktree_snapshots": [{"worktree_path": "/a"}]},
    "messages": [
        {"User": {"id": "1", "content": [{"Text": "Q"}, {"Mention": {"uri": {"File": {"abs_path": "/a"}}}}]}},
        {"Agent": {"content": [{"Text": "A"}], "tool_results": {"t": {"content": [{"Text": "R"}]}}}},
        {"role": "user", "segments": [TEXT]},
    ],
}  # fmt: skip


def distorted(dice: Random, value: Any) -> Any:
    """The value, some parts of it being anything."""
    if dice.random() < 0.04:
        return any_json(dice)
    if isinstance(value, dict):
        return {name: distorted(dice, each) for name, each in value.items() if dice.random() > 0.02}
    if isinstance(value, list | tuple):
        return [distorted(dice, each) for each in value for _ in range(dice.choice((1, 1, 1, 0, 2)))]
    return value


def document(dice: Random, sample: Any) -> bytes:
    return damage(dice, compact(distorted(dice, sample)), dice.choice((0, 0, 3)))


def lines(dice: Random, sample: Sequence[Any]) -> bytes:
    written = [damage(dice, compact(distorted(dice, each)), dice.choice((0, 0, 0, 2))) for each in sample]
    return b"\n".join(written) + dice.choice((b"\n", b""))


def history(dice: Random, sample: Sequence[str]) -> bytes:
    text = "".join(dice.choice((*sample, any_text(dice, 20))) for _ in range(dice.randint(0, 30)))
    return damage(dice, text.encode("utf-8", "replace"), 2)


FILES: dict[str, tuple[Callable[[Random, Any], bytes], Any]] = {
    "session-state/s/events.jsonl": (lines, EVENTS),
    "chatSessions/s.json": (document, CHAT),
    "chatSessions/s.jsonl": (lines, CHANGES),
    "tasks/1/ui_messages.json": (document, TASK),
    "sessions/s/s.messages.json": (document, SESSION),
    ".continue/sessions/s.json": (document, CONTINUE),
    "agent-transcripts/s/s.jsonl": (lines, TRANSCRIPT),
    "goose/s.jsonl": (lines, GOOSE),
    ".aider.chat.history.md": (history, AIDER),
}
BESIDE = {
    "workspace.json": {"folder": "file:///a"},
    "tasks/1/history_item.json": {"workspace": "/a", "task": "T"},
    "state/taskHistory.json": [{"id": "1", "cwdOnTaskInitialization": "/a"}],
    "sessions/s/s.json": {"cwd": "/a", "started_at": "2026-05-06T12:00:00Z", "metadata": {"title": "T"}},
    ".continue/sessions/sessions.json": [{"sessionId": "s", "dateCreated": "1"}],
}


def verify(path: Path, include_tools: bool) -> int:
    """Read the file, and look at what comes of it."""
    with promptly():
        entries = list(read_real(path, include_tools=include_tools))
    documents = [entry for entry in entries if isinstance(entry, Document)]
    assert entries
    assert all(entry.reason for entry in entries if not isinstance(entry, Document))
    for each in documents:
        assert each.content.strip()
        assert "\0" not in each.content
        each.content.encode("utf-8")
        assert each.wing is None or each.wing.strip()
        json.dumps(each.metadata, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert list(read_real(path, include_tools=include_tools)) == entries
    return len(documents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("histories")


@examples(150)
@given(SEEDS, st.sampled_from(sorted(FILES)), st.booleans())
def test_every_file_of_an_agent_is_read_or_left_out(
    folder: Path, tally: Counter[str], seed: int, name: str, include_tools: bool
) -> None:
    dice = Random(seed)
    for beside, sample in BESIDE.items():
        (folder / beside).parent.mkdir(parents=True, exist_ok=True)
        (folder / beside).write_bytes(document(dice, sample))
    make, sample = FILES[name]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make(dice, sample))
    tally["histories"] += 1
    tally["documents of histories"] += verify(path, include_tools)


def cursor(dice: Random, connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE cursorDiskKV (key TEXT UNIQUE, value BLOB)")
    connection.execute("CREATE TABLE composerHeaders (composerId TEXT, isSubagent INTEGER, value TEXT)")
    rows = {"composerData:c": COMPOSER, "composerData:d": COMPOSER, "bubbleId:c:b0": BUBBLE, "bubbleId:c:b1": BUBBLE}
    for key, sample in rows.items():
        connection.execute("INSERT INTO cursorDiskKV VALUES (?, ?)", (key, scalar(dice, document(dice, sample))))
    connection.execute("INSERT INTO composerHeaders VALUES ('c', ?, ?)", (scalar(dice, 0), document(dice, COMPOSER)))


def goose(dice: Random, connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE sessions (id, name, working_dir, session_type, updated_at, model_config_json)")
    connection.execute(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id, role, content_json, created_timestamp)"
    )
    told = ("s", "T", "/a", "user", "2026-05-06 12:00:00", '{"model_name": "m"}')
    connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", [scalar(dice, each) for each in told])
    for role in ("user", "assistant"):
        row = [scalar(dice, each) for each in ("s", role, compact(distorted(dice, [TEXT])).decode(), 1)]
        connection.execute("INSERT INTO messages VALUES (NULL, ?, ?, ?, ?)", row)


def zed(dice: Random, connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE threads (id, summary, updated_at, data_type, data, folder_paths, folder_paths_order)"
    )
    data = document(dice, THREAD)
    row = ("t", "T", "2026-05-06T12:00:00Z", dice.choice(("json", "json", "zstd")), data, "/a\n/b", "1,0")
    connection.execute("INSERT INTO threads VALUES (?, ?, ?, ?, ?, ?, ?)", [scalar(dice, each) for each in row])


def scalar(dice: Random, value: Any) -> Any:
    """The value, or now and then another one that a column may hold."""
    others = (None, 5, -1, 0.5, 2**62, b"\xff\0", "", "x", any_text(dice).encode("utf-8", "replace").decode())
    return value if dice.random() > 0.05 else dice.choice(others)


DATABASES: dict[str, Callable[[Random, sqlite3.Connection], None]] = {
    "Cursor/globalStorage/state.vscdb": cursor,
    "goose/sessions.db": goose,
    "zed/threads.db": zed,
}


@examples(60)
@given(SEEDS, st.sampled_from(sorted(DATABASES)), st.booleans())
def test_every_database_of_an_agent_is_read_or_left_out(
    folder: Path, tally: Counter[str], seed: int, name: str, include_tools: bool
) -> None:
    dice = Random(seed)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        DATABASES[name](dice, connection)
    if dice.random() < 0.2:
        data = path.read_bytes()
        path.write_bytes(data[:16] + damage(dice, data[16:], 2))
    tally["databases"] += 1
    tally["documents of databases"] += verify(path, include_tools)
