"""Queued prompts are said once, where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.palace.importers.support import NOON, assistant, documents, user, write_transcript


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
