"""Sessions of Codex: all forms that its versions have written, forks, rollbacks, compressed files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.codex import SUBAGENT
from mempalace_mcp.palace.importers.documents import Document
from mempalace_mcp.palace.importers.reader import Candidate, Machine
from mempalace_mcp.palace.importers.readers import histories, reader_of
from mempalace_mcp.palace.importers.reading import read_real
from mempalace_mcp.palace.importers.zstandard_files import DAMAGED, NEEDED
from tests.palace.importers.support import documents, found, problems, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

FIRST = "019a0000-1111-7222-8333-444455556666"
SECOND = "019a0000-aaaa-7bbb-8ccc-ddddeeeeffff"
PART = "019a0000-9999-7999-8999-999999999999"

Line = dict[str, Any]


def line(of: str, second: int = 0, **payload: Any) -> Line:
    return {"timestamp": f"2026-10-01T08:00:{second:02}.000Z", "type": of, "payload": payload}


def meta(session: str = FIRST, **fields: Any) -> Line:
    known = {"id": session, "timestamp": "2026-10-01T07:59:59.000Z", "cwd": "/srv/quay", "cli_version": "0.171.0"}
    return line("session_meta", **{**known, "source": "cli", "git": {"branch": "tide"}, **fields})


def item(speaker: str, text: str, second: int = 1, name: str = "i") -> Line:
    kind = "text" if speaker == "UserMessage" else "Text"
    content = [{"type": kind, "text": text}]
    return line("event_msg", second, type="item_completed", item={"type": speaker, "id": name, "content": content})


def asked(text: str, second: int = 1, name: str = "u") -> Line:
    return item("UserMessage", text, second, name)


def answered(text: str, second: int = 2, name: str = "a") -> Line:
    return item("AgentMessage", text, second, name)


def event(kind: str, text: str, second: int = 1) -> Line:
    return line("event_msg", second, type=kind, message=text)


def sent(role: str, text: str, second: int = 1) -> Line:
    kind = "input_text" if role == "user" else "output_text"
    return line("response_item", second, type="message", role=role, content=[{"type": kind, "text": text}])


DONE = line("event_msg", 9, type="task_complete")


def rollout(folder: Path, *lines: Line | str, session: str = FIRST, part: str = "", time: str = "08-00-00") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rollout-2026-10-01T{time}-{session}{part and '_' + part}.jsonl"
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))
    return path


def contents(path: Path) -> list[str]:
    return [document.content for document in documents(path)]


def exchange(question: str, answer: str) -> str:
    return f"User: {question}\n\nAssistant: {answer}"


def test_completed_items_are_exchanges(tmp_path: Path) -> None:
    path = rollout(
        tmp_path,
        meta(history_mode="paginated"),
        line("event_msg", type="task_started", turn_id="t1"),
        sent("user", "# AGENTS.md instructions for /srv/quay\n\n<INSTRUCTIONS>\nBe dry.\n</INSTRUCTIONS>"),
        line("world_state", state={"agents_md": {"text": "Be dry."}}),
        line("turn_context", model="gull-2", cwd="/srv/quay"),
        sent("user", "Who owns pier 4?", 1),
        asked("Who owns pier 4?", 1, "u1"),
        answered("I look it up.", 2, "a1"),
        line("response_item", 2, type="function_call", name="exec_command", arguments='{"cmd":"ls"}', call_id="c1"),
        line("event_msg", 2, type="item_completed", item={"type": "CommandExecution", "id": "c1", "text": "ls"}),
        line("response_item", 3, type="function_call_output", call_id="c1", output="ledger.csv"),
        line("event_msg", 3, type="item_completed", item={"type": "Reasoning", "id": "r", "summary_text": ["hm"]}),
        answered("The harbour does.", 4, "a2"),
        sent("assistant", "The harbour does.", 4),
        line("event_msg", 5, type="task_complete", last_agent_message="The harbour does."),
        asked("Since when?", 6, "u2"),
        answered("Since 1911.", 7, "a3"),
        DONE,
    )
    first, second = documents(path)
    assert first.content == exchange("Who owns pier 4?", "I look it up.\n\nThe harbour does.")
    assert second.content == exchange("Since when?", "Since 1911.")
    assert (first.wing, first.room) == ("quay", "codex")
    assert first.occurred_at == 1_790_841_601_000_000
    assert not second.may_grow
    assert first.metadata == {
        "agent": "codex",
        "session_id": FIRST,
        "message_id": "u1",
        "cwd": "/srv/quay",
        "git_branch": "tide",
        "model": "gull-2",
        "title": "Who owns pier 4?",
        "source_format": "codex-rollout",
        "client_version": "0.171.0",
    }
    assert not problems(path)
    with_tools = [each.content for each in read_real(path, include_tools=True) if isinstance(each, Document)]
    assert "Tool: ledger.csv" in with_tools[0]


def test_events_of_earlier_versions_are_exchanges(tmp_path: Path) -> None:
    path = rollout(
        tmp_path,
        meta(),
        sent("user", "<environment_context>\n<cwd>/srv/quay</cwd>\n</environment_context>"),
        sent("user", "Which tide?", 1),
        event("user_message", "Which tide?", 1),
        line("event_msg", 1, type="user_message", message="Be dry.", kind="user_instructions"),
        line("event_msg", 2, type="agent_reasoning", text="hm"),
        event("agent_message", "High tide.", 3),
        sent("assistant", "High tide.", 3),
    )
    (document,) = documents(path)
    assert document.content == exchange("Which tide?", "High tide.")
    assert document.may_grow


def test_the_first_versions_had_only_what_the_model_was_sent(tmp_path: Path) -> None:
    head = {"id": FIRST, "timestamp": "2025-06-01T10:00:00.000Z", "instructions": None, "git": {"branch": "old"}}
    bare: list[Line] = [
        {"record_type": "state"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "<user_instructions>x</user_instructions>"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Old question"}]},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Old answer"}]},
    ]
    (document,) = documents(rollout(tmp_path / "bare", head, *bare))
    assert document.content == exchange("Old question", "Old answer")
    assert document.occurred_at == 1_748_772_000_000_000
    assert document.metadata["time_source"] == "session"
    wrapped = rollout(tmp_path / "wrapped", meta(), sent("user", "Old question"), sent("assistant", "Old answer", 2))
    assert contents(wrapped) == [exchange("Old question", "Old answer")]


def test_a_message_in_several_forms_is_one(tmp_path: Path) -> None:
    path = rollout(
        tmp_path,
        meta(),
        event("user_message", "Go on", 1),
        asked("Go on", 1),
        answered("Done", 2),
        event("agent_message", "Done", 2),
        event("user_message", "Go on", 3),
        asked("Go on", 3, "u2"),
        answered("Done", 4, "a2"),
        event("agent_message", "Done", 4),
    )
    assert contents(path) == [exchange("Go on", "Done")] * 2


@pytest.mark.parametrize("opening", ["# Context from my IDE setup:", "# Files mentioned by the user:"])
def test_what_editors_put_in_front_is_cut_off(tmp_path: Path, opening: str) -> None:
    prompt = f"{opening}\n\n## Active file: pier.py\n\n## My request for Codex:\nFix the pier"
    quoted = "What does `## My request for Codex:` mean?"
    path = rollout(tmp_path, meta(), asked(prompt), answered("Yes"), asked(quoted, 3, "u2"), answered("That.", 4, "a2"))
    assert contents(path) == [exchange("Fix the pier", "Yes"), exchange(quoted, "That.")]


def test_turns_that_were_rolled_back_are_left_out(tmp_path: Path) -> None:
    back = line("event_msg", 5, type="thread_rolled_back", num_turns=2)
    lines = [
        meta(),
        asked("One"),
        answered("1"),
        asked("Two", 3, "u2"),
        answered("2", 4, "a2"),
        asked("Three", 5, "u3"),
    ]
    path = rollout(tmp_path, *lines, back, asked("Two, better", 6, "u4"), answered("2!", 7, "a4"))
    assert contents(path) == [exchange("One", "1"), exchange("Two, better", "2!")]
    for turns in (None, "2", -1, 0, 99, True):
        back["payload"]["num_turns"] = turns
        assert contents(rollout(tmp_path, *lines, back, asked("After", 6, "u4"), answered("A", 7, "a4")))[-1].endswith(
            "A"
        )


def test_after_going_back_a_session_goes_on_in_another_file(tmp_path: Path) -> None:
    lines = [meta(), asked("One"), answered("1"), asked("Wrong", 3, "u2"), answered("No", 4, "a2")]
    numbered = [{**each, "ordinal": number} for number, each in enumerate(lines)]
    first = rollout(tmp_path, *numbered)
    assert len(documents(first)) == 2
    base = {"thread_id": FIRST, "end_ordinal_exclusive": 3, "end_byte_offset": 1}
    second = rollout(tmp_path, meta(history_base=base), asked("One"), answered("Another"), part=PART)
    assert contents(first) == [exchange("One", "1")]
    assert contents(second) == [exchange("One", "Another")]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, tmp_path, turn_ended=True)["filed"] == 2
        assert run(app, tmp_path, turn_ended=True)["filed"] == 0


def test_what_a_fork_copies_is_filed_once(tmp_path: Path) -> None:
    lines = [event("user_message", "One"), event("agent_message", "1", 2), event("user_message", "Two", 3)]
    parent = rollout(tmp_path, meta(), *lines, event("agent_message", "Twice", 4))
    late = [{**each, "timestamp": "2026-10-02T09:00:00.000Z"} for each in (meta(), *lines)]
    own = [event("agent_message", "Two times", 5), event("user_message", "Three", 6), event("agent_message", "3", 7)]
    fork = rollout(tmp_path, meta(SECOND, forked_from_id=FIRST), *late, *own, session=SECOND, time="09-00-00")
    grandchild = rollout(
        tmp_path, meta(PART, forked_from_id=SECOND), meta(SECOND), *late, *own, session=PART, time="10-00-00"
    )
    with opened(tmp_path / "palace", started=False) as app:
        run(app, parent, turn_ended=True)
        told = run(app, fork, turn_ended=True)
        assert (told["filed"], told["updated"], told["unchanged"]) == (2, 0, 2)
        assert {item.content for item in app.palace.list_drawers().items} == {
            exchange("One", "1"),
            exchange("Two", "Twice"),
            "Assistant: Two times",
            exchange("Three", "3"),
        }
        told = run(app, grandchild, turn_ended=True)
        assert (told["filed"], told["updated"]) == (0, 0)
        assert documents(fork)[-1].metadata["session_id"] == SECOND


def test_a_fork_that_copies_nothing_has_its_own_exchanges(tmp_path: Path) -> None:
    rollout(tmp_path, meta(), asked("Go on"), answered("Done"))
    base = {"thread_id": FIRST, "end_ordinal_exclusive": 3}
    fork = meta(SECOND, forked_from_id=FIRST, history_base=base)
    rollout(tmp_path, fork, asked("Go on"), answered("Done"), session=SECOND)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, tmp_path, turn_ended=True)["filed"] == 2


def test_a_session_that_is_rewritten_in_the_present_form_is_known_again(tmp_path: Path) -> None:
    said = [("Go on", "Done"), ("Go on", "Done"), ("Stop", "Stopped")]
    turns = [(kind, text) for each in said for kind, text in zip(("user_message", "agent_message"), each, strict=True)]
    kinds = {"user_message": "UserMessage", "agent_message": "AgentMessage"}
    events = [event(kind, text, number) for number, (kind, text) in enumerate(turns)]
    items = [item(kinds[kind], text, number, f"i{number}") for number, (kind, text) in enumerate(turns)]
    with opened(tmp_path / "palace", started=False) as app:
        path = rollout(tmp_path / "a", meta(), *events)
        assert run(app, path, turn_ended=True)["filed"] == 3
        path.unlink()
        told = run(app, rollout(tmp_path / "b", meta(), *items), turn_ended=True)
        assert (told["filed"], told["updated"], told["moved"]) == (0, 0, 3)


def test_a_session_that_grows_is_read_on(tmp_path: Path) -> None:
    path = rollout(tmp_path, meta(), asked("One"), answered("1"), DONE)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["filed"] == 1
        assert run(app, path)["unchanged"] == 1
        with path.open("a") as file:
            file.write(json.dumps(asked("Two", 3, "u2")) + "\n" + json.dumps(answered("2", 4, "a2"))[:60])
        run(app, path, turn_ended=True)
        with path.open("a") as file:
            file.write(json.dumps(answered("2", 4, "a2"))[60:] + "\n" + json.dumps(DONE) + "\n")
        told = run(app, path)
        assert (told["filed"], told["updated"]) == (0, 1)
        assert {item.content for item in app.palace.list_drawers().items} == {
            exchange("One", "1"),
            exchange("Two", "2"),
        }


@pytest.mark.parametrize(
    "fields",
    [{"source": {"subagent": "review"}}, {"thread_source": "subagent"}, {"source": {"custom": "guardian"}}],
)
def test_sessions_that_the_program_began_are_left_out(tmp_path: Path, fields: Line) -> None:
    path = rollout(tmp_path, meta(**fields), asked("Review this"), answered("Fine"))
    assert (contents(path), reasons(path)) == ([], [SUBAGENT])


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = rollout(
        tmp_path,
        meta(git="none", cwd=7),
        "{broken",
        asked("One"),
        {"timestamp": 5, "type": "event_msg", "payload": {"type": "item_completed", "item": []}},
        {"type": "response_item", "payload": None},
        line("event_msg", type="item_completed", item={"type": ["UserMessage"], "content": {"a": 1}}),
        line("event_msg", type=["user_message"], message="x"),
        answered("1"),
    )
    assert contents(path) == [exchange("One", "1")]
    assert reasons(path) == ["not JSON"]
    assert documents(path)[0].wing == "codex"
    assert reasons(rollout(tmp_path, meta())) == ["no text"]


def test_a_session_without_its_beginning_is_read(tmp_path: Path) -> None:
    path = rollout(tmp_path, line("turn_context", model="m", cwd="/srv/quay"), asked("One"), answered("1"))
    (document,) = documents(path)
    assert (document.wing, document.metadata["session_id"]) == ("quay", FIRST)


def test_the_name_of_a_session_is_its_title(tmp_path: Path) -> None:
    home = tmp_path / ".codex"
    path = rollout(home / "sessions" / "2026" / "10" / "01", meta(), asked("One"), answered("1"))
    assert documents(path)[0].metadata["title"] == "One"
    (home / "session_index.jsonl").write_text(f'{{"id":"{FIRST}","thread_name":"Piers"}}\n{{"id":"x"}}\nbroken\n')
    assert documents(path)[0].metadata["title"] == "Piers"


def compressed(path: Path) -> Path:
    zstandard = pytest.importorskip("zstandard")
    target = path.with_name(f"{path.name}.zst")
    target.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    return target


def test_compressed_sessions_are_read(tmp_path: Path) -> None:
    plain = rollout(tmp_path, meta(), asked("One"), answered("1"), *[asked(f"{n}", 3, f"u{n}") for n in range(500)])
    whole = contents(plain)
    path = compressed(plain)
    assert found(tmp_path) == [plain.name, path.name]
    assert (contents(path), reasons(path)) == ([], ["a compressed copy of the file beside it"])
    with opened(tmp_path / "palace", started=False) as app:
        filed = run(app, plain, turn_ended=True)["filed"]
        plain.unlink()
        assert contents(path) == whole
        assert run(app, path, turn_ended=True)["filed"] == 0
        assert filed == len(whole)
    path.write_bytes(path.read_bytes()[:-40])
    assert reasons(path)[0] == DAMAGED
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"nonsense" * 9)
    assert reasons(path)[0] == DAMAGED


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads them itself")
def test_without_what_decompresses_them_they_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = rollout(tmp_path, meta(), asked("One"), answered("1"))
    path = compressed(plain)
    plain.unlink()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert reasons(path) == [NEEDED]


def test_sessions_are_known_by_what_they_hold(tmp_path: Path) -> None:
    path = rollout(tmp_path, meta(base_instructions={"text": "x" * 600_000}), asked("One"), answered("1"))
    for name in ("copy.jsonl", "of another name.jsonl"):
        copy = tmp_path / name
        copy.write_bytes(path.read_bytes().replace(b'": ', b'":'))
        reader = reader_of(Candidate(copy))
        assert reader is not None
        assert reader.name == "codex"
    (tmp_path / "history.jsonl").write_text('{"session_id":"s","ts":1,"text":"One"}\n')
    (tmp_path / "session_index.jsonl").write_text(f'{{"id":"{FIRST}","thread_name":"Piers"}}\n')
    for name in ("history.jsonl", "session_index.jsonl"):
        reader = reader_of(Candidate(tmp_path / name))
        assert reader is None or reader.name != "codex"


def test_sessions_are_found_where_the_program_keeps_them(tmp_path: Path) -> None:
    for folder in ("sessions", "archived_sessions"):
        (tmp_path / ".codex" / folder).mkdir(parents=True)
    places = [place for reader, place in histories(Machine(tmp_path)) if reader.name == "codex"]
    assert places == [tmp_path / ".codex" / "sessions", tmp_path / ".codex" / "archived_sessions"]
    (tmp_path / "other" / "sessions").mkdir(parents=True)
    moved = Machine(tmp_path, {"CODEX_HOME": str(tmp_path / "other")})
    assert [place for reader, place in histories(moved) if reader.name == "codex"] == [tmp_path / "other" / "sessions"]
