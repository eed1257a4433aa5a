"""Chats of VS Code are read from whole sessions, from logs of changes, and from exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers import Document, Machine, histories, read
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from mempalace_mcp.palace.importers.vscode_chat import VSCODE_CHAT
from tests.palace.importers.editors import MINUTE, NOON, append, write_json, write_lines
from tests.palace.importers.support import documents, problems, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

DAMAGED = "JSON that is damaged or cut off"
COMPLETE, PENDING = {"value": 1, "completedAt": NOON}, {"value": 0}


def markdown(text: str) -> dict[str, Any]:
    return {"value": text, "supportThemeIcons": False, "supportHtml": False, "baseUri": {"path": "/x"}}


def tool(output: str, kind: str = "toolInvocationSerialized") -> dict[str, Any]:
    details = {"input": "{}", "output": [{"type": "embed", "isText": True, "value": output}], "isError": False}
    return {
        "kind": kind,
        "toolId": "copilot_readFile",
        "invocationMessage": {"value": "Reading"},
        "resultDetails": details,
    }


def request(number: int, text: Any, *response: Any, **fields: Any) -> dict[str, Any]:
    return {
        "requestId": f"request_00000000-0000-4000-8000-{number:012}",
        "timestamp": NOON + number * MINUTE,
        "message": {"text": text, "parts": [{"kind": "text", "text": text}]},
        "variableData": {"variables": [{"kind": "file", "value": "the whole file"}]},
        "response": list(response),
        "modelId": "copilot/gpt-6",
        "modelState": COMPLETE,
        **fields,
    }


def session(*requests: Any, **fields: Any) -> dict[str, Any]:
    whole = {"version": 3, "responderUsername": "GitHub Copilot", "sessionId": "s-1", "creationDate": NOON}
    return {**whole, "requests": list(requests), **fields}


ASKED = request(1, "@workspace Who wrote the almanac?", markdown("Ruth "), markdown("Belling did."))


def chat(folder: Path, *lines: Any, name: str = "s-1.json") -> Path:
    """A chat in a window that has `/home/ines/code/almanac` open."""
    window = folder / "Code" / "User" / "workspaceStorage" / "3b1f"
    write_json(window / "workspace.json", {"folder": "file:///home/ines/code/almanac"})
    return write_lines(window / "chatSessions" / name, *lines)


def log(folder: Path, *lines: Any) -> Path:
    return chat(folder, *lines, name="s-1.jsonl")


def contents(path: Path, **options: Any) -> list[str]:
    return [each.content for each in read_real(path, **options) if isinstance(each, Document)]


def test_a_session(tmp_path: Path) -> None:
    second = request(2, "And when?", markdown("In 1781."))
    path = chat(tmp_path, session(ASKED, second, customTitle="Almanac"))
    first, last = documents(path)
    assert first.content == "User: @workspace Who wrote the almanac?\n\nAssistant: Ruth Belling did."
    assert (first.wing, first.room, first.occurred_at) == ("almanac", "vscode-chat", (NOON + MINUTE) * 1000)
    assert first.metadata == {
        "agent": "vscode-chat",
        "session_id": "s-1",
        "message_id": "request_00000000-0000-4000-8000-000000000001",
        "cwd": "/home/ines/code/almanac",
        "model": "copilot/gpt-6",
        "title": "Almanac",
        "source_format": "vscode-chat",
    }
    assert not last.may_grow
    assert documents(chat(tmp_path, session(request(3, "?", modelState=PENDING))))[0].may_grow


def test_the_parts_of_an_answer(tmp_path: Path) -> None:
    answer = (
        {"kind": "mcpServersStarting"},
        {"kind": "thinking", "value": "I wonder."},
        markdown("See "),
        {"kind": "inlineReference", "inlineReference": {"$mid": 1, "path": "/srv/tide%20table.md", "scheme": "file"}},
        markdown(" and "),
        {"kind": "inlineReference", "name": "moon()", "inlineReference": {"uri": {"path": "/srv/a.py"}, "range": {}}},
        {"kind": "codeblockUri", "uri": {"path": "/srv/a.py"}},
        {"value": {"value": "."}},
        tool("springs: 14"),
        {"kind": "textEditGroup", "edits": [[{"text": "secret"}]]},
        {"kind": "progressTaskSerialized", "content": {"value": "Indexing"}},
        {"kind": "markdownContent", "content": markdown("Springs come twice.")},
        {"kind": "warning", "content": {"value": "Careful"}},
        None,
        7,
    )
    path = chat(tmp_path, session(request(1, "When are springs?", *answer)))
    assert contents(path) == [
        "User: When are springs?\n\nAssistant: See `tide table.md` and `moon()`.\n\nSprings come twice."
    ]
    assert contents(path, include_tools=True) == [
        "User: When are springs?\n\nAssistant: See `tide table.md` and `moon()`.\n\nTool: springs: 14\n\n"
        "Assistant: Springs come twice."
    ]


def test_what_terminals_printed_is_read_on_request(tmp_path: Path) -> None:
    printed = {"kind": "terminal", "terminalCommandOutput": {"text": "high water 6:10"}}
    part = {"kind": "toolInvocationSerialized", "toolSpecificData": printed, "resultDetails": {"output": "raw"}}
    path = chat(tmp_path, session(request(1, "Run it.", part)))
    assert contents(path) == ["User: Run it."]
    assert contents(path, include_tools=True) == ["User: Run it.\n\nTool: high water 6:10\n\nraw"]


def test_a_log_is_replayed(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        {"kind": 0, "v": session()},
        {"kind": 2, "k": ["requests"], "v": [request(1, "One?", modelState=PENDING)]},
        {"kind": 2, "k": ["requests", 0, "response"], "v": [markdown("Fir"), tool("x"), markdown("Gone.")]},
        {"kind": 1, "k": ["requests", 0, "response", 0], "v": markdown("First.")},
        {"kind": 2, "k": ["requests", 0, "response"], "v": [markdown("Last.")], "i": 2},
        {"kind": 1, "k": ["customTitle"], "v": "Counting"},
        {"kind": 2, "k": ["requests"], "v": [request(2, "Two?"), request(3, "Three?")]},
        {"kind": 2, "k": ["requests"], "i": 2},
        {"kind": 1, "k": ["requests", 1, "message"], "v": {"text": "Two, then?", "parts": []}},
        {"kind": 1, "k": ["requests", 1, "followups"], "v": []},
        {"kind": 3, "k": ["customTitle"]},
    )
    first, second = documents(path)
    assert first.content == "User: One?\n\nAssistant: First.\n\nLast."
    assert second.content == "User: Two, then?"
    assert first.metadata["title"] == "One?"
    assert reasons(path) == []


def test_a_log_that_begins_anew(tmp_path: Path) -> None:
    path = log(tmp_path, {"kind": 0, "v": session(ASKED)}, {"kind": 0, "v": session(request(2, "New?"))})
    assert contents(path) == ["User: New?"]


def test_changes_that_do_not_fit_and_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        {"kind": 0, "v": session(ASKED)},
        "{damaged",
        {"kind": 1, "k": ["requests", 7, "response"], "v": []},
        {"kind": 1, "k": ["requests", -1, "message"], "v": {"text": "Other?"}},
        {"kind": 1, "k": ["requests", -1], "v": request(3, "Another?")},
        {"kind": 2, "k": ["requests", 0, "timestamp", "x"], "v": [1]},
        {"kind": 9},
        [],
        {"kind": 1, "k": [], "v": 1},
        {"kind": 2, "k": ["requests", 0, "response"], "v": [markdown(" She did.")]},
    )
    assert contents(path) == ["User: @workspace Who wrote the almanac?\n\nAssistant: Ruth Belling did. She did."]
    faults = problems(path)
    assert [(each.reason, getattr(each, "count", 0)) for each in faults] == [
        ("not JSON", 2),
        ("a change that does not fit what stands before it", 6),
    ]
    append(path, '{"kind": 2, "k": ["requests"], "v": [{"mess')
    assert problems(path) == faults


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"kind":1,"k":["requests"],"v":[]}\n', "null"])
def test_files_that_hold_no_session(tmp_path: Path, text: str) -> None:
    for path in (log(tmp_path), chat(tmp_path)):
        path.write_text(text)
        assert reasons(path) == ["no text" if path.suffix == ".json" and "requests" in text else DAMAGED]
        assert documents(path) == []


def test_a_chat_that_was_never_used(tmp_path: Path) -> None:
    assert reasons(chat(tmp_path, session())) == ["no text"]
    assert reasons(log(tmp_path, {"kind": 0, "v": session()})) == ["no text"]


def test_a_session_of_an_earlier_version(tmp_path: Path) -> None:
    old = {"message": "How deep?", "response": [{"value": "Six fathoms."}], "isCanceled": False}
    (document,) = documents(chat(tmp_path, session(old)))
    assert (document.content, document.occurred_at) == ("User: How deep?\n\nAssistant: Six fathoms.", NOON * 1000)


def test_a_session_its_log_and_its_export_are_filed_once(tmp_path: Path) -> None:
    whole = chat(tmp_path, session(ASKED))
    changes = log(tmp_path, {"kind": 0, "v": session(ASKED)})
    exported = write_json(tmp_path / "kept" / "chat.json", {"responderUsername": "x", "requests": [ASKED]})
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, whole)["filed"] == 1
        assert run(app, changes, exported)["filed"] == 0
        told = run(app, whole.parent, exported)
        assert (told["filed"], told["updated"], told["unchanged"], told["skipped"]) == (0, 0, 3, {})


def test_a_chat_that_goes_on(tmp_path: Path) -> None:
    path = log(tmp_path, {"kind": 0, "v": session(request(1, "Why?", markdown("Because of"), modelState=PENDING))})
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        grown = {"kind": 1, "k": ["requests", 0, "response", 0], "v": markdown("Because of the moon.")}
        more = {"kind": 2, "k": ["requests"], "v": [request(2, "Really?", markdown("Yes."))]}
        append(path, f"{json.dumps(grown)}\n{json.dumps(more)}\n")
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (1, 1)
        texts = {each.content for each in app.palace.list_drawers(limit=9).items}
        assert texts == {"User: Why?\n\nAssistant: Because of the moon.", "User: Really?\n\nAssistant: Yes."}


@pytest.mark.parametrize(
    ("window", "folder", "wing"),
    [
        ({"folder": "file:///c%3A/Users/ines/Sea%20charts"}, "c:/Users/ines/Sea charts", "Sea charts"),
        ({"folder": "file://nas/shared/reef"}, "//nas/shared/reef", "reef"),
        ({"folder": "vscode-remote://ssh-remote%2Bbox/srv/buoys"}, "/srv/buoys", "buoys"),
        ({"workspace": "file:///home/ines/code/fleet.code-workspace"}, "/home/ines/code", "fleet"),
        ({"folder": "file://[broken"}, None, "vscode-chat"),
        ([], None, "vscode-chat"),
    ],
)
def test_the_project_of_a_chat(tmp_path: Path, window: Any, folder: str | None, wing: str) -> None:
    path = chat(tmp_path, session(ASKED))
    write_json(path.parent.parent / "workspace.json", window)
    assert [(each.metadata.get("cwd"), each.wing) for each in documents(path)] == [(folder, wing)]


def test_places_and_other_files(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    inside = chat(machine.applications, session(ASKED)).parent
    empty = machine.applications / "VSCodium" / "User" / "globalStorage" / "emptyWindowChatSessions"
    server = tmp_path / ".vscode-server-insiders/data/User/profiles/p/globalStorage/transferredChatSessions"
    for folder in (empty, server):
        write_json(folder / "s.json", session(ASKED))
    assert [place for reader, place in histories(machine) if reader is VSCODE_CHAT] == [inside, empty, server]
    assert [each.wing for each in documents(empty / "s.json")] == ["vscode-chat"]
    others = (
        write_json(tmp_path / "package.json", {"name": "almanac", "requests": []}),
        write_lines(tmp_path / "other.jsonl", {"kind": 0, "v": 1}),
    )
    assert not any(VSCODE_CHAT.recognizes(Candidate(path)) for path in others)
    copied = write_lines(
        tmp_path / "copied.jsonl", '{"kind":0,"v":' + json.dumps(session(ASKED), separators=(",", ":")) + "}"
    )
    assert len(list(read(copied))) == 1
