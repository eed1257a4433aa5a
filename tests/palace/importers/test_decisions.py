"""What users decide through tools, queue and delegate is said, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.palace.importers.claude_records import turn_of
from tests.palace.importers.support import NOON, assistant, documents, problems, record, user, write_transcript

ASKED = {
    "questions": [
        {
            "question": "Which database?",
            "header": "Database",
            "options": [{"label": "PostgreSQL", "description": "as before"}, {"label": "SQLite"}],
        },
        {"question": "Which ports?", "multiSelect": True, "options": [{"label": "80"}, {"label": "443"}]},
    ]
}


def called(name: str, given: object, **fields: object) -> dict[str, object]:
    return assistant([{"type": "tool_use", "id": "t", "name": name, "input": given}], **fields)


def answered(content: object, result: object = None, **fields: object) -> dict[str, object]:
    blocks = [{"type": "tool_result", "tool_use_id": "t", "content": content, **fields}]
    return user(blocks) if result is None else user(blocks, toolUseResult=result)


def test_questions_to_the_user_and_the_answers_are_turns(tmp_path: Path) -> None:
    answers = {"Which database?": "SQLite", "Which ports?": ["80", "443"]}
    result = {**ASKED, "answers": answers, "annotations": {"Which database?": {"notes": "one file is enough"}}}
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("Set it up."),
        called("AskUserQuestion", ASKED),
        answered("User has answered your questions.", result),
        assistant("Done."),
    )
    (document,) = documents(path)
    assert document.content == (
        "User: Set it up.\n\n"
        "Assistant: Which database?\n- PostgreSQL: as before\n- SQLite\n\nWhich ports?\n- 80\n- 443\n\n"
        "User: Which database? SQLite (one file is enough)\nWhich ports? 80, 443\n\n"
        "Assistant: Done."
    )


REFUSED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the"
    " new_string was NOT written to the file). To tell you how to proceed, the user said:\n"
)
NOTE = "\n\nNote: The user's next message may contain a correction or preference. Pay close attention to it."
CLARIFY = (
    "The user wants to clarify these questions.\n    Start by asking them.\n\n    Questions asked:\n"
    '- "Which port?"\n  Answer: 8080\n- "Why?"\n  (No answer provided)'
)
ANSWERED = "User has answered your questions: {}. You can now continue with the user's answers in mind."
REJECTED = "The agent proposed a plan that was rejected by the user. The user chose to stay.\n\nRejected plan:\n"


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (answered(ANSWERED.format('"Which one?"="The red one"')), '"Which one?"="The red one"'),
        (answered("x", {"answers": {"Q?": "typed by hand"}}), "Q? typed by hand"),
        (answered("x", {"answers": [{"question": "Q?", "answer": "A"}]}), "Q? A"),
        (answered(f"{REFUSED}use the other file\nplease", is_error=True), "use the other file\nplease"),
        (answered(f"{REFUSED}not on main{NOTE}", "Error: rejected"), "not on main"),
        (answered([{"type": "text", "text": "Permission for this was denied. The user said:\nask me"}]), "ask me"),
        (answered(f"{REFUSED}{CLARIFY}{NOTE}"), "Which port? 8080"),
        (
            answered("User has approved your plan. Start.", {"plan": "1. Paint the pier.", "filePath": "/p"}),
            "Approved the plan.\n\n1. Paint the pier.",
        ),
        (answered("Go ahead.", {"plan": "1. Dig.", "isAgent": False}), "Approved the plan.\n\n1. Dig."),
        (answered(f"{REJECTED}1. Sink it."), "Turned the plan down.\n\n1. Sink it."),
    ],
)
def test_what_the_user_decides_through_a_tool_is_said(tmp_path: Path, decision: object, words: str) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("Go."), assistant("Going."), decision, assistant("Gone."))
    (document,) = documents(path)
    assert document.content == f"User: Go.\n\nAssistant: Going.\n\nUser: {words}\n\nAssistant: Gone."


@pytest.mark.parametrize(
    "noise",
    [
        answered("The user doesn't want to proceed with this tool use. STOP what you are doing and wait for the user."),
        answered("the log says: To tell you how to proceed, the user said:\nnothing"),
        answered("ok", {"plan": "Basic", "price": 5}),
        answered("ok", {"answers": {}}),
        called("Bash", {"command": "ls", "plan": "x", "questions": ["y"]}),
        called("AskUserQuestion", {"questions": [None, 5, {"question": 7}]}),
    ],
)
def test_what_decides_nothing_is_noise(noise: dict[str, object]) -> None:
    assert turn_of(noise) is None


def test_a_plan_is_said_once(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("Plan it."),
        called("ExitPlanMode", {"plan": "1. Paint the pier."}),
        answered("User has approved your plan.", {"plan": "1. Paint the pier.", "isAgent": False, "filePath": "/p"}),
        assistant("Painted."),
    )
    (document,) = documents(path)
    assert document.content == (
        "User: Plan it.\n\nAssistant: 1. Paint the pier.\n\nUser: Approved the plan.\n\nAssistant: Painted."
    )


def queued(operation: str, content: str | None = None) -> dict[str, object]:
    return {
        "type": "queue-operation",
        "operation": operation,
        "timestamp": NOON,
        "sessionId": "s-1",
        **({} if content is None else {"content": content}),
    }


def test_what_was_queued_and_never_repeated_is_said_where_it_was_typed(tmp_path: Path) -> None:
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("One."),
        assistant("First."),
        queued("enqueue", "and mind the tide"),
        queued("remove"),
        queued("enqueue", "then the lamp"),
        queued("enqueue", "<task-notification>x</task-notification>"),
        queued("enqueue", "taken back"),
        queued("popAll"),
        queued("enqueue", "in two lines\nof text"),
        assistant("Second."),
        queued("dequeue"),
        user("then the lamp\nin two lines\nof text"),
        assistant("Third."),
    )
    text = "\n".join(document.content for document in documents(path))
    assert text.count("and mind the tide") == 1, "the assistant took it in at its work"
    assert text.count("then the lamp") == 1
    assert text.count("of text") == 1
    assert "taken back" not in text
    assert "task-notification" not in text


@pytest.mark.parametrize(("repeat", "count"), [(True, 1), (False, 1)])
def test_a_queued_prompt_is_said_once(tmp_path: Path, repeat: bool, count: int) -> None:
    later = [{"type": "attachment", "uuid": "q", "attachment": {"type": "queued_command", "prompt": "mind the tide"}}]
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("One."),
        queued("enqueue", "mind the tide"),
        assistant("First."),
        *later[: int(repeat)],
    )
    text = "\n".join(document.content for document in documents(path))
    assert text.count("mind the tide") == count


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


def test_a_plan_that_was_turned_down_without_a_word_is_not_taken_for_approved(tmp_path: Path) -> None:
    no = (
        REFUSED.partition("To tell you")[0]
        + "STOP what you are doing and wait for the user to tell you how to proceed."
    )
    path = write_transcript(
        tmp_path / "s.jsonl",
        user("Raise the quay."),
        assistant([{"type": "tool_use", "id": "p", "name": "ExitPlanMode", "input": {"plan": "Pile up stones."}}]),
        user([{"type": "tool_result", "tool_use_id": "p", "is_error": True, "content": no}]),
        assistant([{"type": "tool_use", "id": "b", "name": "Bash", "input": {"command": "dig"}}]),
        user([{"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": no}]),
        user("Not before spring."),
    )
    assert [document.content for document in documents(path)] == [
        "User: Raise the quay.\n\nAssistant: Pile up stones.\n\nUser: Turned the plan down.",
        "User: Not before spring.",
    ]


@pytest.mark.parametrize(
    "told",
    [
        'User has answered your questions: "Which rope?"="hemp". You can now continue with their answers in mind.',
        'Your questions have been answered: "Which rope?"="hemp". You can now continue with these answers in mind.',
        'The user answered your question: "Which rope?"="hemp"',
    ],
)
def test_an_answer_is_known_by_its_text_alone(tmp_path: Path, told: str) -> None:
    path = write_transcript(tmp_path / "s.jsonl", user("Moor it."), assistant("Wait."), answered(told))
    (document,) = documents(path)
    assert document.content == 'User: Moor it.\n\nAssistant: Wait.\n\nUser: "Which rope?"="hemp"'


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


def test_a_record_that_is_repeated_counts_once(tmp_path: Path) -> None:
    one, two = user("One.", uuid="u-1"), assistant("First.", uuid="u-2")
    grown = assistant("First. And more.", uuid="u-2", gitBranch="other")
    path = write_transcript(
        tmp_path / "s.jsonl", one, two, {**one, "gitBranch": "x"}, two, grown, user("Two.", uuid="u-3")
    )
    assert [document.content for document in documents(path)] == [
        "User: One.\n\nAssistant: First. And more.",
        "User: Two.",
    ]


def test_the_same_words_at_another_time_are_said_again(tmp_path: Path) -> None:
    turns = [user("Go on."), assistant("Step."), user("Go on."), assistant("Step.")]
    path = write_transcript(tmp_path / "s.jsonl", *turns)
    assert [document.content for document in documents(path)] == ["User: Go on.\n\nAssistant: Step."] * 2
