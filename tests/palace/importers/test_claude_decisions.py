"""What users decide through tools, queue and delegate is said, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.palace.importers.claude_records import turn_of
from tests.palace.importers.support import assistant, documents, user, write_transcript

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
