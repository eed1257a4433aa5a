"""Sessions of the GitHub Copilot CLI, as version 1.0.102 writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.palace.importers import Document, Machine, histories
from mempalace_mcp.palace.importers.copilot_cli import COPILOT_CLI
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import append, write_lines
from tests.palace.importers.support import documents, problems, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run


def event(number: int, kind: str, **data: Any) -> dict[str, Any]:
    when = f"2026-05-07T21:16:{number % 60:02}.500Z"
    return {"type": kind, "data": data, "id": f"e-{number}", "timestamp": when, "parentId": f"e-{number - 1}"}


def start(session: str = "s-1", **data: Any) -> dict[str, Any]:
    context = {"cwd": "/home/otto/code/windmill", "gitRoot": "/home/otto/code/windmill", "branch": "sails"}
    told = {"sessionId": session, "version": 1, "producer": "copilot-agent", "copilotVersion": "1.0.102"}
    began = {"startTime": "2026-05-07T21:16:00Z", "selectedModel": "gpt-6", "context": context}
    return event(0, "session.start", **told, **began, **data)


def user(number: int, text: str, **data: Any) -> dict[str, Any]:
    return event(
        number,
        "user.message",
        content=text,
        transformedContent=f"<current_datetime>2026-05-07</current_datetime>\n\n{text}",
        messageId=f"m-{number}",
        delivery="idle",
        **data,
    )


def assistant(number: int, text: str, **data: Any) -> dict[str, Any]:
    return event(number, "assistant.message", messageId=f"a-{number}", content=text, toolRequests=[], **data)


END = event(50, "session.shutdown", shutdownType="routine")
SESSION = (
    start(),
    user(1, "How many sails?"),
    event(2, "system.message", role="system", content="You are the CLI."),
    event(3, "assistant.turn_start", turnId="0"),
    assistant(4, "Let me look."),
    event(5, "tool.execution_complete", toolCallId="t", success=True, result={"content": "sails: 4"}),
    assistant(6, ""),
    assistant(7, "Four."),
    event(8, "assistant.turn_end", turnId="0"),
    END,
)


def write(folder: Path, *lines: Any, session: str = "s-1") -> Path:
    return write_lines(folder / ".copilot" / "session-state" / session / "events.jsonl", *lines)


def test_a_session(tmp_path: Path) -> None:
    (document,) = documents(write(tmp_path, *SESSION))
    assert document.content == "User: How many sails?\n\nAssistant: Let me look.\n\nFour."
    assert (document.wing, document.room) == ("windmill", "copilot-cli")
    assert document.occurred_at == clock.parse("2026-05-07T21:16:01.5Z", "time")
    assert document.metadata == {
        "agent": "copilot-cli",
        "session_id": "s-1",
        "message_id": "e-1",
        "cwd": "/home/otto/code/windmill",
        "git_branch": "sails",
        "model": "gpt-6",
        "title": "How many sails?",
        "source_format": "copilot-events",
        "cli_version": "1.0.102",
    }
    assert not document.may_grow
    assert documents(write(tmp_path, *SESSION[:-1]))[0].may_grow


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    (document,) = read_real(write(tmp_path, *SESSION), include_tools=True)
    assert isinstance(document, Document)
    assert document.content == "User: How many sails?\n\nAssistant: Let me look.\n\nTool: sails: 4\n\nAssistant: Four."


def test_messages_of_programs_and_sub_agents_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        start(),
        user(1, "The skill says: be brief.", source="skill-brief"),
        user(2, "Look at the gears.", source="agent-42"),
        user(3, "Go on.", isAutopilotContinuation=True),
        {**user(4, "Your task: count."), "agentId": "explore-1"},
        assistant(5, "Of a sub-agent.", parentToolCallId="t"),
        user(6, "Grind?", source="user", attachments=[{"type": "file", "path": "/home/otto/rye.txt"}]),
        assistant(7, "Rye."),
        event(8, "session.compaction_complete", success=True, summaryContent="They spoke of rye."),
        event(9, "something.new", content="?"),
        {"type": "user.message", "data": None},
        {"type": "user.message", "data": {"content": 7}},
    )
    assert [each.content for each in documents(path)] == ["User: Grind?\n\nAssistant: Rye."]
    detached = write(tmp_path, start(detachedFromSpawningParentSessionId="s-0"), user(1, "Sum up."), session="s-2")
    assert (documents(detached), reasons(detached)) == ([], ["a session that the program began itself"])


def test_a_fork_repeats_the_events_of_its_origin(tmp_path: Path) -> None:
    first = write(tmp_path, *SESSION)
    fork = write(tmp_path, start("s-2"), *SESSION[1:], user(20, "And now?"), assistant(21, "Five."), session="s-2")
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, first)["filed"] == 1
        assert run(app, fork)["filed"] == 1
        assert run(app, first, fork)["filed"] == 0


def test_a_session_that_is_resumed(tmp_path: Path) -> None:
    path = write(tmp_path, *SESSION)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        write(tmp_path, *SESSION, event(51, "session.resume"), user(52, "Is it windy?"), assistant(53, "Force 6."))
        append(path, '{"type":"assistant.message","data":{"content":"Still be')
        told = run(app, path)
        assert (told["filed"], told["updated"], told["skipped"]) == (1, 0, {})


def test_damaged_lines_and_sessions_without_text(tmp_path: Path) -> None:
    path = write(tmp_path, SESSION[0], "{damaged", "[]", *SESSION[1:])
    assert len(documents(path)) == 1
    assert sorted(each.reason for each in problems(path)) == ["not JSON", "not a JSON object"]
    assert reasons(write(tmp_path, start(), END)) == ["no text"]
    assert reasons(write(tmp_path)) == ["no text"]


def test_a_session_without_its_beginning(tmp_path: Path) -> None:
    (document,) = documents(write(tmp_path, *SESSION[1:], session="s-9"))
    assert (document.wing, document.metadata["session_id"]) == ("copilot-cli", "s-9")


@pytest.mark.parametrize("environment", [{}, {"COPILOT_HOME": "moved"}])
def test_places_and_other_files(tmp_path: Path, environment: dict[str, str]) -> None:
    moved = {name: str(tmp_path / value) for name, value in environment.items()}
    home = Path(moved.get("COPILOT_HOME", tmp_path / ".copilot"))
    path = write_lines(home / "session-state" / "s-1" / "events.jsonl", *SESSION)
    older = write_lines(home / "session-state" / "s-0.jsonl", *SESSION)
    write_lines(home / "session-state" / "s-1" / "checkpoints" / "index.md", "# Checkpoints")
    places = [place for reader, place in histories(Machine(tmp_path, moved)) if reader is COPILOT_CLI]
    assert places == sorted([path, older])
    assert COPILOT_CLI.recognizes(Candidate(write_lines(tmp_path / "copied.jsonl", *SESSION)))
    other = write_lines(tmp_path / "events.jsonl", {"type": "user", "message": {"content": "hi"}, "sessionId": "s"})
    assert not COPILOT_CLI.recognizes(Candidate(other))
    copy = write_lines(tmp_path / "GitHub.copilot-chat" / "transcripts" / "s-1.jsonl", *SESSION)
    assert reasons(copy) == ["a copy of a chat that the editor keeps itself"]
