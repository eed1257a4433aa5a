"""Sessions of Gemini CLI: lines are replayed as the program replays them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.documents import Document
from mempalace_mcp.palace.importers.gemini_cli import SUBAGENT
from mempalace_mcp.palace.importers.json_stream import DAMAGED
from mempalace_mcp.palace.importers.reader import Candidate, Machine
from mempalace_mcp.palace.importers.readers import histories, reader_of
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

Line = dict[str, Any]

HEAD: Line = {
    "sessionId": "s-1",
    "projectHash": sha256(b"/srv/quay").hexdigest(),
    "startTime": "2026-10-01T08:00:00.000Z",
    "lastUpdated": "2026-10-01T08:00:00.000Z",
    "kind": "main",
}


def said(kind: str, name: str, text: Any, second: int = 1, **fields: Any) -> Line:
    return {"id": name, "timestamp": f"2026-10-01T08:00:{second:02}.000Z", "type": kind, "content": text, **fields}


def user(name: str, text: str, second: int = 1, **fields: Any) -> Line:
    return said("user", name, [{"text": text}], second, **fields)


def model(name: str, text: str, second: int = 2, **fields: Any) -> Line:
    return said("gemini", name, text, second, **{"model": "g-2", "thoughts": [], **fields})


CONTEXT = user(
    "m0", "<session_context>\nThis is the Gemini CLI.\n- **Workspace Directories:**\n  - /srv/mole\n</session_context>"
)


def session(folder: Path, *lines: Line | str, head: Line | None = HEAD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "session-2026-10-01T08-00-s1.jsonl"
    all_lines = [*([] if head is None else [head]), *lines]
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in all_lines))
    return path


def contents(path: Path, include_tools: bool = False) -> list[str]:
    return [each.content for each in read_real(path, include_tools=include_tools) if isinstance(each, Document)]


def exchange(question: str, answer: str) -> str:
    return f"User: {question}\n\nAssistant: {answer}"


def setting(**changes: Any) -> Line:
    return {"$set": changes}


def test_what_hooks_told_nobody_has_said(tmp_path: Path) -> None:
    told = (
        "<hook_context>&lt;mempalace-memory&gt;\nThe palace holds 3 drawers.\n&lt;/mempalace-memory&gt;</hook_context>"
    )
    tide = {"text": "<hook_context>It is high tide.</hook_context>"}
    question = "What does <hook_context>x</hook_context> mean?"
    path = session(
        tmp_path,
        user("m1", told),
        user("m2", f"{told}\n\nWho owns pier 4?"),
        model("m3", "The harbour."),
        said("user", "m4", [{"text": "And pier 5?"}, tide], 4),
        model("m5", f"{tide['text']} That is what I was told.", 5),
        said("user", "m6", [{"text": f"{told} @ledger.csv"}], 6, displayContent=[{"text": f"{told} @ledger.csv"}]),
        model("m7", "I read it.", 7),
        user("m8", question, 8),
        model("m9", "It is a tag.", 9),
    )
    assert contents(path) == [
        exchange("Who owns pier 4?", "The harbour."),
        exchange("And pier 5?", f"{tide['text']} That is what I was told."),
        exchange("@ledger.csv", "I read it."),
        exchange(question, "It is a tag."),
    ]


def test_a_session_is_filed_by_exchange(tmp_path: Path) -> None:
    call = {"name": "ls", "result": [{"functionResponse": {"response": {"output": "ledger.csv"}}}]}
    path = session(
        tmp_path,
        setting(messages=[CONTEXT]),
        user("m1", "Who owns pier 4?"),
        setting(lastUpdated="2026-10-01T08:00:01.000Z"),
        model("m2", "I look."),
        model("m2", "I look.", toolCalls=[call]),
        said("user", "m3", [{"functionResponse": {"response": {"output": "ledger.csv"}}}], 3),
        said("info", "m4", "Update available"),
        said("error", "m5", "Quota"),
        model("m6", "The harbour.", 4),
        user("m7", "Since when?", 5),
        model("m8", "1911.", 6),
    )
    first, second = documents(path)
    assert first.content == exchange("Who owns pier 4?", "I look.\n\nThe harbour.")
    assert second.content == exchange("Since when?", "1911.")
    assert (first.wing, first.room, first.occurred_at) == ("mole", "gemini-cli", 1_790_841_601_000_000)
    assert second.may_grow
    assert first.metadata == {
        "agent": "gemini-cli",
        "session_id": "s-1",
        "message_id": "m1",
        "cwd": "/srv/mole",
        "model": "g-2",
        "title": "Who owns pier 4?",
        "source_format": "gemini-cli-session",
    }
    assert "Tool: ledger.csv" in contents(path, include_tools=True)[0]
    assert contents(path, include_tools=True)[0].count("ledger.csv") == 1


def test_what_was_typed_is_read_without_the_files_that_it_names(tmp_path: Path) -> None:
    parts = [{"text": "Sum up @a.md"}, {"text": "\n--- Content from referenced files ---"}, {"text": "Of the file"}]
    shown = [{"text": "Sum up @a.md"}]
    again = setting(messages=[CONTEXT, said("user", "m1", [{"text": "Sum up @a.md\nOf the file"}], 30)])
    path = session(
        tmp_path,
        said("user", "m1", parts, displayContent=shown),
        again,
        model("m2", "Short."),
        user("m3", "Ok", displayContent="Ok!"),
    )
    assert contents(path) == [exchange("Sum up @a.md", "Short."), "User: Ok!"]
    assert documents(path)[0].occurred_at == 1_790_841_601_000_000
    assert contents(session(tmp_path, said("user", "m1", parts), model("m2", "Short."))) == [
        exchange("Sum up @a.md", "Short.")
    ]


def test_a_session_that_is_resumed_is_one(tmp_path: Path) -> None:
    whole = [
        CONTEXT,
        user("m1", "One", 20),
        said(
            "gemini",
            "m2",
            [{"text": "thinking", "thought": True}, {"text": "Fi"}, {"text": "rst"}, {"functionCall": {}}],
            20,
        ),
        said("user", "m2", [{"functionResponse": {"response": {"output": "x"}}}], 20),
    ]
    begun = [setting(messages=[CONTEXT]), user("m1", "One"), model("m2", "First")]
    again = [HEAD, setting(messages=[CONTEXT]), setting(sessionId="s-1"), setting(messages=whole)]
    path = session(tmp_path, *begun, *again, user("m5", "Two", 21), model("m6", "Second", 22))
    assert contents(path) == [exchange("One", "First"), exchange("Two", "Second")]
    assert documents(path)[0].occurred_at == 1_790_841_601_000_000
    stopped = session(tmp_path, user("m1", "One"), model("m2", "First"), HEAD, setting(messages=[CONTEXT]))
    assert contents(stopped) == [exchange("One", "First")]


def test_messages_that_are_set_replace_the_others(tmp_path: Path) -> None:
    path = session(
        tmp_path,
        user("m1", "Old"),
        model("m2", "Old answer"),
        setting(messages=[user("n1", "New"), model("n2", "New answer")]),
    )
    assert contents(path) == [exchange("New", "New answer")]


def test_a_summary_takes_nothing_away(tmp_path: Path) -> None:
    summary = [
        user("x1", "<state_snapshot>\nThey spoke of piers.\n</state_snapshot>"),
        model("x2", "Got it."),
        model("m2", "Sure", 2),
    ]
    path = session(
        tmp_path,
        user("m1", "Piers?"),
        model("m2", "Sure"),
        setting(messages=summary),
        user("m3", "Go on", 5),
        model("m4", "Yes", 6),
    )
    assert contents(path) == [exchange("Piers?", "Sure\n\nGot it."), exchange("Go on", "Yes")]


def test_what_was_rewound_is_left_out(tmp_path: Path) -> None:
    lines = [user("m1", "One"), model("m2", "First"), user("m3", "Wrong"), model("m4", "No")]
    path = session(tmp_path, *lines, {"$rewindTo": "m3"}, user("m5", "Right"), model("m6", "Yes"))
    assert contents(path) == [exchange("One", "First"), exchange("Right", "Yes")]
    for unknown in ("gone", 7, None):
        assert len(contents(session(tmp_path, *lines, {"$rewindTo": unknown}))) == 2


def test_sessions_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = tmp_path / "session-2026-10-01T08-00-s1.json"
    whole = {**HEAD, "messages": [CONTEXT, user("m1", "One"), model("m2", "First")]}
    old.write_text(json.dumps(whole, indent=2), encoding="utf-8")
    assert contents(old) == [exchange("One", "First")]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, old, turn_ended=True)["filed"] == 1
        new = session(
            tmp_path, CONTEXT, user("m1", "One"), model("m2", "First"), user("m3", "Two"), model("m4", "Second")
        )
        told = run(app, old, new, turn_ended=True)
        assert (told["filed"], told["updated"]) == (1, 0)
        assert run(app, old, new, turn_ended=True)["filed"] == 0
    old.write_text(json.dumps(whole)[:-30], encoding="utf-8")
    assert reasons(old) == [DAMAGED]


def test_the_folder_is_known_by_what_lies_around(tmp_path: Path) -> None:
    chats = tmp_path / ".gemini" / "tmp" / "quay-2" / "chats"
    path = session(chats, user("m1", "One"), model("m2", "First"))
    assert documents(path)[0].wing == "gemini-cli"
    (tmp_path / ".gemini" / "projects.json").write_text('{"projects": {"/srv/quay": "another", "/srv/tide": "quay-2"}}')
    assert documents(path)[0].metadata["cwd"] in ("/srv/quay", "/srv/tide")
    (tmp_path / ".gemini" / "projects.json").write_text('{"projects": {"/srv/tide": "quay-2"}}')
    assert documents(path)[0].wing == "tide"
    hashed = session(
        tmp_path / ".gemini" / "tmp" / sha256(b"/srv/kelp").hexdigest() / "chats", user("m1", "One"), model("m2", "1")
    )
    (tmp_path / ".gemini" / "projects.json").write_text('{"projects": {"/srv/kelp": "k", "/x": 7}}')
    assert documents(hashed)[0].wing == "kelp"
    (chats.parent / ".project_root").write_text("/srv/lamp\n")
    assert documents(path)[0].wing == "lamp"
    (tmp_path / ".gemini" / "projects.json").write_text("[broken")
    assert documents(hashed)[0].wing == "gemini-cli"


def test_sessions_of_sub_agents_are_left_out(tmp_path: Path) -> None:
    path = session(
        tmp_path / "chats" / "s-1", user("m1", "Look"), model("m2", "Found"), head={**HEAD, "kind": "subagent"}
    )
    assert (contents(path), reasons(path)) == ([], [SUBAGENT])


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = session(
        tmp_path,
        "{broken",
        user("m1", "One"),
        setting(messages={"a": 1}),
        setting(messages=[7, {"id": 5}, {"id": "x", "type": ["user"], "content": {"text": ["y"]}}]),
        said("gemini", "m2", None),
        {"id": "m3", "type": "user", "content": 7},
        model("m2", "First", toolCalls=[{"result": 5}, 7]),
        {"$set": 9},
    )
    assert contents(path) == [exchange("One", "First")]
    assert reasons(path) == ["not JSON"]
    assert reasons(session(tmp_path, CONTEXT)) == ["no text"]


def test_a_session_that_grows_is_read_on(tmp_path: Path) -> None:
    path = session(tmp_path, user("m1", "One"), model("m2", "First"))
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path, turn_ended=True)["filed"] == 1
        with path.open("a") as file:
            file.write(json.dumps(model("m2", "First, and more")) + "\n" + json.dumps(user("m3", "Two"))[:40])
        told = run(app, path, turn_ended=True)
        assert (told["filed"], told["updated"]) == (0, 1)
        assert [item.content for item in app.palace.list_drawers().items] == [exchange("One", "First, and more")]


def test_a_session_is_known_by_what_it_holds(tmp_path: Path) -> None:
    path = session(tmp_path, user("m1", "One"), model("m2", "First"))
    tail = session(tmp_path / "tail", user("m1", "One"), model("m2", "First"), head=None)
    for each in (path, tail):
        copy = each.rename(each.with_name("copy.jsonl"))
        reader = reader_of(Candidate(copy))
        assert reader is not None
        assert reader.name == "gemini-cli"
        assert contents(copy) == [exchange("One", "First")]
    (tmp_path / "logs.json").write_text('[{"sessionId": "s-1", "messageId": 0, "type": "user", "message": "One"}]')
    assert reader_of(Candidate(tmp_path / "logs.json")) is None


@pytest.mark.parametrize("variable", [None, "GEMINI_CLI_HOME"])
def test_sessions_are_found_where_the_program_keeps_them(tmp_path: Path, variable: str | None) -> None:
    home = tmp_path / "elsewhere" if variable else tmp_path
    chats = home / ".gemini" / "tmp" / "quay" / "chats"
    chats.mkdir(parents=True)
    machine = Machine(tmp_path, {variable: str(home)} if variable else {})
    assert [place for reader, place in histories(machine) if reader.name == "gemini-cli"] == [chats]


def test_what_a_hook_puts_before_the_prompt_is_nobodys_words(tmp_path: Path) -> None:
    context = "<hook_context>&lt;mempalace-memory&gt;\nkelp\n&lt;/mempalace-memory&gt;</hook_context>"
    path = session(
        tmp_path,
        user("m1", context),
        user("m2", f"{context}\n\nWho owns pier 4?", 2),
        model("m3", "The harbour does.", 3),
    )
    assert contents(path) == [exchange("Who owns pier 4?", "The harbour does.")]
