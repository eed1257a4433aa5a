"""Tasks of Cline, Roo Code and Kilo Code, and sessions of Cline's program as version 3.0.65 writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers import Document, Machine, histories
from mempalace_mcp.palace.importers.cline import CLINE, KILO_CODE, ROO_CODE
from mempalace_mcp.palace.importers.reader import Reader
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import NOON, write_json
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

DAMAGED = "JSON that is damaged or cut off"
CLINE_ID, ROO_ID, KILO_ID = "saoudrizwan.claude-dev", "rooveterinaryinc.roo-cline", "kilocode.kilo-code"


def say(number: int, kind: str, text: str = "", **fields: Any) -> dict[str, Any]:
    return {"ts": NOON + number * 1000, "type": "say", "say": kind, "text": text, **fields}


def ask(number: int, kind: str, text: Any = "", **fields: Any) -> dict[str, Any]:
    asked = text if isinstance(text, str) else json.dumps(text)
    return {"ts": NOON + number * 1000, "type": "ask", "ask": kind, "text": asked, **fields}


REQUEST = {
    "request": "<task>\nPaint it.\n</task>\n\n# Current Working Directory (/home/vera/code/kiln) Files\nglaze.py"
}
TASK = (
    say(0, "task", "Which glaze is left?"),
    say(1, "api_req_started", json.dumps({"request": "<task>\nWhich glaze is left?\n</task>", "tokensIn": 9})),
    say(2, "reasoning", "I think."),
    say(3, "text", "I look", partial=True),
    say(4, "text", "I look.", modelInfo={"providerId": "x", "modelId": "glm-6", "mode": "act"}),
    ask(5, "command", "ls shelf"),
    say(6, "command_output", "celadon"),
    ask(7, "followup", {"question": "The old one too?", "options": ["yes", "no"]}),
    say(8, "user_feedback", "No, only new ones."),
    say(9, "completion_result", "Celadon is left.HAS_CHANGES"),
    ask(10, "completion_result", ""),
)


def task(folder: Path, *messages: Any, extension: str = CLINE_ID, name: str = "1778068800000", **item: Any) -> Path:
    storage = folder / "Code" / "User" / "globalStorage" / extension
    if item:
        write_json(storage / "tasks" / name / "history_item.json", {"id": name, "ts": NOON, **item})
    return write_json(storage / "tasks" / name / "ui_messages.json", list(messages))


def contents(path: Path, **options: Any) -> list[str]:
    return [each.content for each in read_real(path, **options) if isinstance(each, Document)]


def test_a_task(tmp_path: Path) -> None:
    path = task(tmp_path, *TASK)
    index = [{"id": "1778068800000", "task": "x", "cwdOnTaskInitialization": "/home/vera/code/kiln"}, 7]
    write_json(path.parent.parent.parent / "state" / "taskHistory.json", index)
    first, second = documents(path)
    assert first.content == "User: Which glaze is left?\n\nAssistant: I look.\n\nThe old one too?"
    assert second.content == "User: No, only new ones.\n\nAssistant: Celadon is left."
    assert (first.wing, first.room, first.occurred_at) == ("kiln", "cline", NOON * 1000)
    assert first.metadata == {
        "agent": "cline",
        "session_id": "1778068800000",
        "message_id": f"{NOON}:task",
        "cwd": "/home/vera/code/kiln",
        "model": "glm-6",
        "title": "Which glaze is left?",
        "source_format": "cline-task",
    }
    assert not second.may_grow
    assert documents(task(tmp_path, *TASK[:-1]))[1].may_grow


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    assert contents(task(tmp_path, *TASK), include_tools=True)[0] == (
        "User: Which glaze is left?\n\nAssistant: I look.\n\nTool: celadon\n\nAssistant: The old one too?"
    )


def test_an_answer_that_was_chosen_from_a_list(tmp_path: Path) -> None:
    path = task(
        tmp_path,
        say(0, "task", "Fire it."),
        ask(1, "plan_mode_respond", {"response": "How hot?", "options": ["900", "1250"], "selected": "1250"}),
        ask(2, "followup", {"question": "How long?", "selected": "9 hours"}),
        ask(3, "followup", "In one go?"),
        ask(4, "followup", [1]),
        say(5, "completion_result", "It is fired."),
    )
    assert contents(path) == [
        "User: Fire it.\n\nAssistant: How hot?\n\nUser: 1250\n\nAssistant: How long?\n\nUser: 9 hours\n\n"
        "Assistant: In one go?\n\n[1]\n\nIt is fired."
    ]


def test_the_first_text_of_roo_code_is_the_users(tmp_path: Path) -> None:
    path = task(
        tmp_path,
        say(0, "text", "Wedge the clay."),
        say(1, "text", "I wedge it."),
        say(2, "subtask_result", "10 kg are wedged."),
        say(3, "user_edit_todos", "x"),
        say(4, "user_feedback", "Thanks!"),
        extension=ROO_ID,
        workspace="c:\\Users\\vera\\studio",
        task="Wedging",
    )
    first, second = documents(path)
    assert first.content == "User: Wedge the clay.\n\nAssistant: I wedge it.\n\nReport: 10 kg are wedged."
    assert second.content == "User: Thanks!"
    assert (first.wing, first.room, first.metadata["title"]) == ("studio", "roo-code", "Wedging")
    child = task(tmp_path, *TASK, extension=ROO_ID, name="c", parentTaskId="1778068800000")
    assert reasons(child) == ["a sub-agent's task"]


def test_the_folder_that_a_request_names(tmp_path: Path) -> None:
    path = task(tmp_path, TASK[0], say(1, "api_req_started", json.dumps(REQUEST)), extension=KILO_ID)
    assert [(each.wing, each.room) for each in documents(path)] == [("kiln", "kilo-code")]
    assert [each.wing for each in documents(task(tmp_path, *TASK))] == ["cline", "cline"]


def test_a_task_that_goes_on_and_one_that_is_cut_off(tmp_path: Path) -> None:
    path = task(tmp_path, *TASK[:5])
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        task(tmp_path, *TASK)
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (1, 1)
        write_json(path, path.read_text()[:-40])
        told = run(app, path)
        assert (told["filed"], told["removed"], told["skipped"]) == (0, 0, {DAMAGED: 1})
        task(tmp_path, *TASK)
        assert (run(app, path)["filed"], run(app, path)["unchanged"]) == (0, 2)
        assert len(app.palace.list_drawers(limit=9).items) == 2


@pytest.mark.parametrize("text", ["[]", "{}", "[1, null, [], {}]", '[{"type": "say", "say": ["x"], "text": 1}]'])
def test_tasks_without_text(tmp_path: Path, text: str) -> None:
    path = task(tmp_path)
    path.write_text(text)
    assert (documents(path), reasons(path)) == ([], ["no text"])
    path.write_text("")
    assert reasons(path) == ["no text"]
    path.write_text("[{")
    assert reasons(path) == [DAMAGED]


def test_messages_without_times(tmp_path: Path) -> None:
    messages = [{"type": "say", "say": "task", "text": "Hello."}, {**say(0, "text", "Good day."), "ts": "x"}]
    (document,) = documents(task(tmp_path, *messages))
    assert (document.content, document.occurred_at) == ("User: Hello.\n\nAssistant: Good day.", None)


def session(folder: Path, *messages: Any, name: str = "1_ab", **fields: Any) -> Path:
    home = folder / ".cline" / "data" / "sessions" / "1_ab"
    known: dict[str, Any] = {
        "session_id": "1_ab",
        "started_at": "2026-05-06T12:00:00Z",
        "status": "completed",
        "model": "glm-6",
    }
    known |= {"cwd": "/home/vera/code/kiln", "metadata": {"title": "Cones"}}
    write_json(home / "1_ab.json", known)
    whole = {
        "version": 1,
        "agent": "lead",
        "sessionId": "1_ab",
        "messages": list(messages),
        "system_prompt": "You are.",
    }
    return write_json(home / f"{name}.messages.json", {**whole, **fields})


def message(number: int, role: str, *blocks: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "role": role, "content": list(blocks), "ts": NOON + number * 1000}


def block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


RESULT = {
    "type": "tool_result",
    "tool_use_id": "c",
    "content": [{"query": "ls", "result": "cone 6\n", "success": True}],
}
SESSION = (
    message(
        0, "user", block('<user_input mode="act">Which cone?</user_input>'), block("<file_content>x</file_content>")
    ),
    message(1, "assistant", {"type": "thinking", "thinking": "hm"}, block("I look."), {"type": "tool_use", "id": "c"}),
    message(2, "user", RESULT),
    message(3, "assistant", block("Cone 6.")),
)


def test_a_session_of_the_program(tmp_path: Path) -> None:
    (document,) = documents(session(tmp_path, *SESSION))
    assert document.content == "User: Which cone?\n\nAssistant: I look.\n\nCone 6."
    assert (document.wing, document.room, document.occurred_at) == ("kiln", "cline", NOON * 1000)
    assert document.metadata["title"] == "Cones"
    assert not document.may_grow
    assert contents(session(tmp_path, *SESSION), include_tools=True) == [
        "User: Which cone?\n\nAssistant: I look.\n\nTool: cone 6\n\nAssistant: Cone 6."
    ]


def test_notices_of_the_program_are_left_out(tmp_path: Path) -> None:
    notice = "<mode_notice>The user switched from plan mode to act mode before sending this message.</mode_notice>"
    switched = message(0, "user", block(f'<user_input mode="act">{notice}\nFire <b>it</b>.</user_input>'))
    plain = {**message(1, "user"), "content": "Without a wrapper."}
    assert contents(session(tmp_path, switched, plain)) == ["User: Fire <b>it</b>.\n\nWithout a wrapper."]


def test_teammates_and_damaged_sessions(tmp_path: Path) -> None:
    teammate = session(tmp_path, *SESSION, name="potter__1", origin={"subagent": "potter"})
    assert reasons(teammate) == ["a sub-agent's task"]
    path = session(tmp_path)
    assert reasons(path) == ["no text"]
    path.write_text('{"messages": [')
    assert reasons(path) == [DAMAGED]
    path = session(tmp_path, *SESSION)
    (path.parent / "1_ab.json").unlink()
    assert [each.wing for each in documents(path)] == ["cline"]


def test_a_session_that_is_written_anew(tmp_path: Path) -> None:
    path = session(tmp_path, *SESSION)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        session(tmp_path, *SESSION, message(4, "user", block("Thanks.")))
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (1, 0, 1)


@pytest.mark.parametrize("reader", [CLINE, ROO_CODE, KILO_CODE])
def test_places(tmp_path: Path, reader: Reader) -> None:
    machine = Machine(tmp_path)
    paths = {
        "cline": [task(machine.applications, *TASK)],
        "roo-code": [task(machine.applications, *TASK, extension=ROO_ID)],
        "kilo-code": [task(tmp_path / ".vscode-server" / "data", *TASK, extension=KILO_ID)],
    }
    moved = tmp_path / ".vscode-server" / "data" / "User" / "globalStorage" / KILO_ID
    (tmp_path / ".vscode-server" / "data" / "User" / "globalStorage").mkdir(parents=True)
    (paths["kilo-code"][0].parents[2]).rename(moved)
    paths["kilo-code"] = [next(moved.glob("tasks/*/ui_messages.json"))]
    paths["cline"].append(session(tmp_path, *SESSION))
    write_json(paths["cline"][0].with_name("api_conversation_history.json"), [])
    assert [place for found, place in histories(machine) if found is reader] == paths[reader.name]
    assert {each.room for path in paths[reader.name] for each in documents(path)} == {reader.name}
