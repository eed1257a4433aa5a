"""Of sub-agents the task and the report are kept."""

from __future__ import annotations

from pathlib import Path

from tests.palace.importers.support import assistant, documents, problems, record, user, write_transcript


def side(kind: str, text: str, number: int, parent: str | None, **fields: object) -> dict[str, object]:
    content = text if kind == "user" else [{"type": "text", "text": text}]
    return record(kind, content, isSidechain=True, uuid=f"a-{number}", parentUuid=parent, **fields)


def test_of_a_sub_agent_the_task_and_the_last_report_are_kept(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "agent-1.jsonl",
        side("user", "Find the leak.", 1, None, agentId="a1"),
        side("assistant", "Let me look.", 2, "a-1", agentId="a1"),
        side("assistant", "The third plank.", 3, "a-2", agentId="a1"),
    )
    (document,) = documents(path)
    assert document.content == "Task: Find the leak.\n\nReport: The third plank."
    assert document.room == "subagents"
    assert (document.metadata["session_id"], document.metadata["agent_id"]) == ("s-1", "a1")
    assert problems(path) == []


def test_a_report_of_several_blocks_is_whole_and_each_task_has_its_own(tmp_path: Path) -> None:
    def block(text: str, number: int, message: str) -> dict[str, object]:
        content = [{"type": "text", "text": text}]
        fields = {"agentId": "a1", "isSidechain": True, "uuid": f"a-{number}", "parentUuid": f"a-{number - 1}"}
        return {**record("assistant", content, **fields), "message": {"id": message, "content": content}}

    call = block("Opening the hatch.", 2, "m-1")
    call["message"] = {"id": "m-1", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]}
    path = write_transcript(
        tmp_path / "agent-1.jsonl",
        side("user", "Find the leak.", 1, None, agentId="a1"),
        block("Opening the hatch.", 2, "m-1"),
        call,
        block("The third plank leaks.", 3, "m-2"),
        block("So does the fifth.", 4, "m-2"),
        side("user", "And the mast?", 5, "a-4", agentId="a1"),
        {**call, "uuid": "a-6"},
        block("The mast is sound.", 7, "m-4"),
    )
    assert [document.content for document in documents(path)] == [
        "Task: Find the leak.\n\nReport: The third plank leaks.\n\nSo does the fifth.",
        "Task: And the mast?\n\nReport: The mast is sound.",
    ]


def test_a_sub_agent_at_work_has_not_reported(tmp_path: Path) -> None:
    call = record("assistant", [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}], isSidechain=True)
    path = write_transcript(
        tmp_path / "agent-1.jsonl",
        side("user", "Find the leak.", 1, None, agentId="a1"),
        side("assistant", "Let me look.", 2, "a-1", agentId="a1"),
        {**call, "agentId": "a1"},
    )
    assert documents(path) == []
    assert [problem.reason for problem in problems(path)] == ["a sub-agent that has not reported"]


def test_sub_agents_inside_a_session_are_told_apart(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("Look into both."),
        side("user", "Task one.", 1, None),
        side("user", "Task two.", 2, None),
        side("assistant", "Report one.", 3, "a-1"),
        side("assistant", "Report two.", 4, "a-2"),
        assistant("Both are fine."),
        side("user", "Warmup", 5, None),
        side("assistant", "Ready.", 6, "a-5"),
    )
    assert [document.content for document in documents(path)] == [
        "User: Look into both.\n\nAssistant: Both are fine.",
        "Task: Task one.\n\nReport: Report one.",
        "Task: Task two.\n\nReport: Report two.",
    ]
