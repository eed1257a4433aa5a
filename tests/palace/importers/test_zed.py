"""Threads of Zed, from databases with the schema and the documents of its source."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, Machine, histories, read
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from mempalace_mcp.palace.importers.zed import DAMAGED, ZED
from mempalace_mcp.palace.importers.zstandard_files import NEEDED
from tests.palace.importers.editors import held_open, quiet
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

CREATED, UPDATED = "2026-05-06T12:00:00.250+00:00", "2026-05-06T12:30:00+00:00"
FIRST_SCHEMA = """
    CREATE TABLE IF NOT EXISTS threads (
        id TEXT PRIMARY KEY, summary TEXT NOT NULL, updated_at TEXT NOT NULL, data_type TEXT NOT NULL,
        data BLOB NOT NULL);
"""
SCHEMA = f"""
    {FIRST_SCHEMA}
    ALTER TABLE threads ADD COLUMN parent_id TEXT;
    ALTER TABLE threads ADD COLUMN folder_paths TEXT;
    ALTER TABLE threads ADD COLUMN folder_paths_order TEXT;
    ALTER TABLE threads ADD COLUMN created_at TEXT;
"""


def user(text: Any, message_id: str = "u-1") -> dict[str, Any]:
    content = [{"Text": text}] if isinstance(text, str) else text
    return {"User": {"id": message_id, "content": content}}


def agent(*content: Any, results: dict[str, Any] | None = None) -> dict[str, Any]:
    parts = [{"Text": each} if isinstance(each, str) else each for each in content]
    return {"Agent": {"content": parts, "tool_results": results or {}}}


TOOL = {"ToolUse": {"id": "t", "name": "grep", "input": {}}}
RESULTS = {"t": {"tool_use_id": "t", "tool_name": "grep", "content": [{"Text": "6 strings"}], "output": None}}
THREAD = (
    user("How many strings?"),
    agent({"Thinking": {"text": "hm", "signature": None}}, "I look.", TOOL, "Six.", results=RESULTS),
    "Resume",
    user("Of gut?", "u-2"),
    agent("Of steel."),
)


def thread(*messages: Any, **fields: Any) -> dict[str, Any]:
    model = {"provider": "zed.dev", "model": "sonnet-6"}
    whole = {"title": "Viols", "messages": list(messages), "updated_at": UPDATED, "model": model, "version": "0.3.0"}
    return {**whole, **fields}


def database(folder: Path, *threads: Any, schema: str = SCHEMA, compressed: bool = False, **columns: Any) -> Path:
    """A database with these threads: `t0`, `t1`..."""
    path = folder / "threads" / "threads.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(schema)
        for number, each in enumerate(threads):
            data = each if isinstance(each, bytes) else json.dumps(each).encode()
            data_type = "json"
            if compressed and not isinstance(each, bytes):
                data, data_type = pytest.importorskip("zstandard").ZstdCompressor().compress(data), "zstd"
            row = {
                "id": f"t{number}",
                "summary": "A summary",
                "updated_at": UPDATED,
                "data_type": data_type,
                "data": data,
            }
            if schema is SCHEMA:
                row |= {"created_at": CREATED, "folder_paths": "/home/emil/code/viol", "folder_paths_order": "0"}
            row |= columns
            connection.execute(
                f"INSERT INTO threads ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
    return quiet(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_thread(tmp_path: Path, compressed: bool) -> None:
    first, second = documents(database(tmp_path, thread(*THREAD), compressed=compressed))
    assert first.content == "User: How many strings?\n\nAssistant: I look.\n\nSix."
    assert second.content == "User: Of gut?\n\nAssistant: Of steel."
    assert (first.wing, first.room) == ("viol", "zed")
    assert first.occurred_at == clock.parse("2026-05-06T12:00:00.25Z", "time")
    assert first.metadata == {
        "agent": "zed",
        "session_id": "t0",
        "message_id": "u-1",
        "cwd": "/home/emil/code/viol",
        "model": "sonnet-6",
        "title": "Viols",
        "source_format": "zed-threads",
        "time_source": "session",
    }
    assert not second.may_grow


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    first = next(read_real(database(tmp_path, thread(*THREAD)), include_tools=True))
    assert isinstance(first, Document)
    assert first.content == "User: How many strings?\n\nAssistant: I look.\n\nSix.\n\nTool: 6 strings"


def test_of_mentions_the_names_are_kept(tmp_path: Path) -> None:
    mentions = [
        {"Text": "Compare "},
        {"Mention": {"uri": {"File": {"abs_path": "/home/emil/code/viol/neck.rs"}}, "content": "the whole file"}},
        {"Text": " with "},
        {"Mention": {"uri": {"Symbol": {"abs_path": "C:\\x.rs", "name": "bow", "line_range": {}}}, "content": "fn"}},
        {"Text": " and "},
        {"Mention": {"uri": {"Fetch": {"url": "https://viol.example/a"}}, "content": "a page"}},
        {"Image": {"source": "xx"}},
        {"Mention": {"uri": "x"}},
        {"Text": "."},
    ]
    (document,) = documents(database(tmp_path, thread(user(mentions))))
    assert document.content == "User: Compare @neck.rs with @bow and @https://viol.example/a."


def test_a_thread_of_the_earlier_form_that_is_written_anew_is_filed_once(tmp_path: Path) -> None:
    segments = [{"id": 0, "role": "user", "segments": [{"type": "text", "text": "Is it maple?"}], "context": "a file"},
                {"id": 1, "role": "assistant", "segments": [{"type": "thinking", "text": "hm"},
                                                             {"type": "text", "text": "Yes."}], "tool_uses": []},
                {"id": 2, "role": "system", "segments": [{"type": "text", "text": "Be kind."}]}]  # fmt: skip
    old = {"version": "0.2.0", "summary": "Wood", "updated_at": UPDATED, "messages": segments}
    path = database(tmp_path, old, schema=FIRST_SCHEMA)
    (document,) = documents(path)
    assert document.content == "User: Is it maple?\n\nAssistant: Yes."
    assert (document.wing, document.metadata["title"]) == ("zed", "A summary")
    assert document.occurred_at == clock.parse(UPDATED, "time")
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        database(tmp_path, thread(user("Is it maple?", "new-id"), agent("Yes."), user("And the bow?")))
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("paths", "order", "wing"),
    [
        ("/home/emil/code/bow\n/home/emil/code/viol", "1,0", "viol"),
        ("/home/emil/code/bow\n/home/emil/code/viol", "0,1", "bow"),
        ("/home/emil/code/bow\n/home/emil/code/viol", "0", "bow"),
        ("C:\\Users\\emil\\lute", None, "lute"),
        (None, None, "cello"),
    ],
)
def test_the_folder_that_was_opened_first(tmp_path: Path, paths: str | None, order: str | None, wing: str) -> None:
    snapshot = {"worktree_snapshots": [{"worktree_path": "/home/emil/code/cello", "git_state": None}]}
    whole = thread(*THREAD, initial_project_snapshot=snapshot)
    path = database(tmp_path, whole, folder_paths=paths, folder_paths_order=order)
    assert {each.wing for each in documents(path)} == {wing}


def test_threads_of_agents_and_others_are_left_out(tmp_path: Path) -> None:
    assert reasons(database(tmp_path, thread(*THREAD), parent_id="t9")) == ["no conversations"]
    path = database(tmp_path, thread(*THREAD, imported=True), thread(), thread(user("Mine.")))
    assert [each.content for each in documents(path)] == ["User: Mine."]


def test_damaged_threads_are_counted(tmp_path: Path) -> None:
    path = database(tmp_path, b"{cut", thread(*THREAD), b"[]", b"\xff")
    entries = list(read(path))
    assert len([each for each in entries if isinstance(each, Document)]) == 2
    (problem,) = (each for each in entries if not isinstance(each, Document))
    assert (problem.reason, getattr(problem, "count", 0)) == (DAMAGED, 3)
    assert reasons(database(tmp_path, b"\x28\xb5\x2f\xfd cut", data_type="zstd")) == [DAMAGED]
    assert reasons(database(tmp_path, b"not compressed", data_type="zstd")) == [DAMAGED]


def test_without_a_decompressor_the_threads_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(tmp_path, thread(*THREAD), compressed=True)
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    assert reasons(path) == [NEEDED]


def test_the_database_of_a_running_editor(tmp_path: Path) -> None:
    path = database(tmp_path, thread(*THREAD))
    with opened(tmp_path / "palace", started=False) as app, held_open(path) as zed:
        assert run(app, path)["filed"] == 2
        data = json.dumps(thread(*THREAD, user("And the bow?", "u-3"), agent("Of horse hair.")))
        zed(f"UPDATE threads SET data = '{data}' WHERE id = 't0';")
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (1, 0, 2)
        now = clock.format_instant(clock.now())
        zed(f"UPDATE threads SET updated_at = '{now}' WHERE id = 't0';")
        assert [each.may_grow for each in documents(path)] == [False, False, True]


def test_places_and_other_files(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"LOCALAPPDATA": str(tmp_path / "local")})
    paths = [database(folder, thread(*THREAD)) for folder in (machine.data / "zed", tmp_path / "local" / "Zed")]
    assert [place for reader, place in histories(machine) if reader is ZED] == paths
    other = tmp_path / "threads.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE threads (id)")
    assert not ZED.recognizes(Candidate(other))
