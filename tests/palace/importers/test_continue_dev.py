"""Sessions of Continue, as its program writes them in version 1.5.47, and its extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers import Document, Machine, histories
from mempalace_mcp.palace.importers.continue_dev import CONTINUE
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.editors import NOON, write_json
from tests.palace.importers.support import documents, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

DAMAGED = "JSON that is damaged or cut off"


def item(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"message": {"role": role, "content": content}, "contextItems": [], **fields}


def state(output: str) -> dict[str, Any]:
    return {"toolCallId": "t", "status": "done", "output": [{"content": output, "name": "Tool Result"}]}


HISTORY = (
    item("system", "You are an agent."),
    item("user", "Which rivet?", editorState="Which rivet?", contextItems=[{"content": "the whole file"}]),
    item("assistant", "I look.", toolCallStates=[state("rivet 4 mm")]),
    item("tool", "rivet 4 mm"),
    item("thinking", "Hm."),
    item("assistant", "The one of 4 mm."),
)


def session(folder: Path, *history: Any, name: str = "s-1", **fields: Any) -> Path:
    home = folder / ".continue" / "sessions"
    write_json(home / "sessions.json", [7, {"sessionId": "s-1", "title": "x", "dateCreated": str(NOON)}])
    whole = {
        "sessionId": name,
        "title": "Rivets",
        "workspaceDirectory": "/home/olga/code/hull",
        "history": list(history),
    }
    return write_json(home / f"{name}.json", {**whole, **fields})


def test_a_session(tmp_path: Path) -> None:
    (document,) = documents(session(tmp_path, *HISTORY))
    assert document.content == "User: Which rivet?\n\nAssistant: I look.\n\nThe one of 4 mm."
    assert (document.wing, document.room, document.occurred_at) == ("hull", "continue", NOON * 1000)
    assert document.metadata == {
        "agent": "continue",
        "session_id": "s-1",
        "cwd": "/home/olga/code/hull",
        "title": "Rivets",
        "source_format": "continue-session",
        "time_source": "session",
    }


def test_what_tools_returned_is_read_on_request(tmp_path: Path) -> None:
    (document,) = read_real(session(tmp_path, *HISTORY), include_tools=True)
    assert isinstance(document, Document)
    assert document.content == (
        "User: Which rivet?\n\nAssistant: I look.\n\nTool: rivet 4 mm\n\nAssistant: The one of 4 mm."
    )


def test_a_session_of_the_extension(tmp_path: Path) -> None:
    parts = [
        {"type": "imageUrl", "imageUrl": {"url": "data:image/png;base64,xx"}},
        {"type": "text", "text": "And this?"},
    ]
    history = [{"message": {"role": "user", "content": parts, "id": "m-1"}}, item("assistant", "A bolt.")]
    path = session(
        tmp_path, *history, title="New Session", workspaceDirectory="file:///c%3A/Users/olga/Dry%20dock", name="s-2"
    )
    (document,) = documents(path)
    assert (document.content, document.wing) == ("User: And this?\n\nAssistant: A bolt.", "Dry dock")
    assert (document.metadata["title"], document.metadata["message_id"]) == ("And this?", "m-1")
    assert document.occurred_at is None


def test_a_session_that_goes_on(tmp_path: Path) -> None:
    path = session(tmp_path, *HISTORY[:3])
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        session(tmp_path, *HISTORY, item("user", "Which rivet?"), item("assistant", "As I said."))
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (1, 1)
        assert run(app, path)["unchanged"] == 2
        session(tmp_path, *HISTORY[:2])
        told = run(app, path)
        assert (told["filed"], told["removed"]) == (0, 0)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"history": [{"message": '])
def test_files_that_hold_no_session(tmp_path: Path, text: str) -> None:
    assert reasons(write_json(session(tmp_path), text)) == [DAMAGED]
    wholes: list[dict[str, Any]] = [{}, {"history": 7}, {"history": [None, {"message": {"role": ["user"]}}]}]
    for whole in wholes:
        assert reasons(write_json(session(tmp_path), whole)) == ["no text"]


@pytest.mark.parametrize("listed", ["{damaged", "{}", '[{"sessionId": "s-1", "dateCreated": "x"}]', "[" * 9_000])
def test_a_list_of_sessions_that_tells_nothing(tmp_path: Path, listed: str) -> None:
    path = session(tmp_path, *HISTORY)
    write_json(path.with_name("sessions.json"), listed)
    assert [each.occurred_at for each in documents(path)] == [None]


def test_places_and_other_files(tmp_path: Path) -> None:
    path = session(tmp_path, *HISTORY)
    assert [place for reader, place in histories(Machine(tmp_path)) if reader is CONTINUE] == [path]
    moved = Machine(tmp_path / "none", {"CONTINUE_GLOBAL_DIR": str(tmp_path / ".continue")})
    assert [place for reader, place in histories(moved) if reader is CONTINUE] == [path]
    assert not CONTINUE.recognizes(Candidate(path.with_name("sessions.json")))
    copied = write_json(tmp_path / "copied.json", path.read_text())
    assert len(documents(copied)) == 1
    assert not CONTINUE.recognizes(Candidate(write_json(tmp_path / "p.json", {"history": []})))
