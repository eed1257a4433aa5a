"""Transcripts of Claude Code in the form that it writes now: what was typed and answered, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from mempalace_mcp.palace.importers import Document, read
from mempalace_mcp.palace.importers.claude_code import read_transcript
from mempalace_mcp.palace.importers.documents import Source
from tests.palace.importers.support import documents, found, problems, skipped, write_transcript
from tests.palace.support import opened
from tests.palace.test_importing import run

SESSION = "3c1d6e2a-90b4-4f7e-8a55-d0c1b2a39e4f"
FORK = "0a9e8d7c-6b5a-4c3d-9e2f-1a0b9c8d7e6f"


class Session:
    """Writes records as the client does: each follows the one before."""

    def __init__(self, name: str = SESSION) -> None:
        self.name = name
        self.records: list[dict[str, Any]] = []
        self.leaf: str | None = None

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        number = len(self.records)
        record = {
            "parentUuid": self.leaf,
            "isSidechain": False,
            "type": kind,
            "uuid": uuid_of(self.name, number),
            "timestamp": f"2026-10-01T08:{number:02d}:00.000Z",
            "cwd": "/srv/lighthouse",
            "sessionId": self.name,
            "version": "2.1.332",
            "gitBranch": "main",
            **fields,
        }
        self.leaf = record["uuid"]
        self.records.append(record)
        return record

    def user(self, content: Any, **fields: Any) -> dict[str, Any]:
        return self.add("user", **{"promptSource": "typed", "message": {"role": "user", "content": content}, **fields})

    def assistant(self, *blocks: Any, **fields: Any) -> dict[str, Any]:
        content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        message = {"id": f"msg_{len(self.records)}", "role": "assistant", "model": "opal-5", "content": content}
        return self.add("assistant", **{"message": message, **fields})

    def tool(self, name: str, output: Any, **fields: Any) -> None:
        call = self.assistant({"type": "tool_use", "id": f"toolu_{len(self.records)}", "name": name, "input": {}})
        result = {"type": "tool_result", "tool_use_id": call["message"]["content"][0]["id"], "content": output}
        self.user([result], promptSource=None, sourceToolAssistantUUID=call["uuid"], toolUseResult=output, **fields)

    def other(self, kind: str, **fields: Any) -> None:
        self.records.append({"type": kind, "sessionId": self.name, **fields})

    def write(self, folder: Path, name: str | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return write_transcript(folder / f"{name or self.name}.jsonl", *map(compact, self.records))


def uuid_of(session: str, number: int) -> str:
    return str(uuid5(UUID(int=0), f"{session} {number}"))


def compact(record: dict[str, Any]) -> str:
    """A line as the client writes it: without spaces."""
    return json.dumps(record, separators=(",", ":"))


def contents(path: Path) -> list[str]:
    return [document.content for document in documents(path)]


@pytest.fixture
def session() -> Session:
    return Session()


def test_only_what_was_typed_and_answered_is_said(tmp_path: Path, session: Session) -> None:
    session.other("queue-operation", operation="enqueue", timestamp="2026-10-01T08:00:00Z", content="How tall is it?")
    session.other("queue-operation", operation="dequeue", timestamp="2026-10-01T08:00:00Z")
    session.user("How tall is it?")
    session.add("attachment", attachment={"type": "environment", "snapshot": {"platform": "linux"}})
    session.other("api-request", message={"role": "user", "content": "How tall is it?"}, params={"model": "opal-5"})
    session.other("api-request-blob", hash="f", message={"role": "user", "content": [{"type": "text", "text": "x"}]})
    session.assistant({"type": "thinking", "thinking": "hm", "signature": "s"})
    session.assistant("I measure.")
    session.tool("Bash", "31.4")
    session.assistant("31.4 metres.")
    session.other("cost-state", totalCostUSD=0.1)
    session.other("a-type-of-tomorrow", message={"role": "user", "content": "no"}, uuid="u-1")
    (document,) = documents(session.write(tmp_path))
    assert document.content == "User: How tall is it?\n\nAssistant: I measure.\n\n31.4 metres."
    assert document.metadata == {
        "agent": "claude-code",
        "title": "How tall is it?",
        "model": "opal-5",
        "session_id": SESSION,
        "git_branch": "main",
        "cwd": "/srv/lighthouse",
        "record": uuid_of(SESSION, 2),
        "client_version": "2.1.332",
    }
    assert problems(session.write(tmp_path)) == []


INJECTED = [
    ("meta", {"isMeta": True}),
    ("This session is being continued from a previous conversation that ran out of context. The summary below covers"
     " it.", {"isCompactSummary": True, "isVisibleInTranscriptOnly": True}),
    ("a task is done", {"origin": {"kind": "task-notification"}, "promptSource": "system"}),
    ("go on", {"origin": {"kind": "auto-continuation"}}),
    ("from a peer", {"origin": {"kind": "peer", "from": "s-2"}}),
    ("a plugin speaks", {"origin": {"kind": "plugin"}}),
    ([{"type": "text", "text": "attached by a tool"}], {"sourceToolAssistantUUID": "x"}),
    ("<bash-input>ls</bash-input>", {}),
    ("<bash-stdout>lamp.py</bash-stdout><bash-stderr></bash-stderr>", {}),
    ("<command-name>/clear</command-name>\n  <command-message>clear</command-message>\n"
     "  <command-args></command-args>", {}),
    ("<command-name>/model</command-name>\n  <command-message>model</command-message>\n"
     "<command-args>opal</command-args>", {}),
    ("<local-command-stdout>Compacted</local-command-stdout>", {}),
    ("<local-command-caveat>The command below was run directly</local-command-caveat>", {}),
    ("<tick>12:00</tick>", {}),
    ("<channel source=\"chat\">hello</channel>", {}),
    ("<fork-boilerplate>You are a fork</fork-boilerplate>", {}),
    ("[Request interrupted by user for tool use]", {}),
    ("[Image: source: /tmp/1.png]", {}),
    ("# AGENTS.md instructions for /srv/lighthouse\n\n<INSTRUCTIONS>\nBe brief.\n</INSTRUCTIONS>", {}),
]  # fmt: skip


@pytest.mark.parametrize(("content", "fields"), INJECTED, ids=lambda value: str(value)[:40])
def test_what_the_client_injects_is_not_said(
    tmp_path: Path, session: Session, content: Any, fields: dict[str, Any]
) -> None:
    session.user("Who keeps the lamp?")
    session.assistant("Mira does.")
    session.user(content, **fields)
    session.assistant("Yes.")
    assert contents(session.write(tmp_path)) == ["User: Who keeps the lamp?\n\nAssistant: Mira does.\n\nYes."]


@pytest.mark.parametrize(
    ("wrapped", "typed"),
    [
        (
            "<command-message>tides</command-message>\n<command-name>/tides</command-name>\n"
            "<command-args>at noon</command-args>",
            "/tides at noon",
        ),
        ("<command-message>tides</command-message>\n<command-name>/tides</command-name>", "/tides"),
        ("<ide_opened_file>a.py</ide_opened_file>\nWhy <b>this</b>?", "Why <b>this</b>?"),
        ("Is <tick> an element?", "Is <tick> an element?"),
        ("# AGENTS.md instructions are ignored, why?", "# AGENTS.md instructions are ignored, why?"),
    ],
)
def test_what_was_typed_is_said_as_it_was_typed(tmp_path: Path, session: Session, wrapped: str, typed: str) -> None:
    session.user(wrapped)
    session.user("expanded by the client", isMeta=True)
    session.assistant("Well.")
    assert contents(session.write(tmp_path)) == [f"User: {typed}\n\nAssistant: Well."]


def queue(session: Session, operation: str, content: str | None = None) -> None:
    fields = {} if content is None else {"content": content}
    session.other("queue-operation", operation=operation, timestamp="2026-10-01T08:30:00.000Z", **fields)


def test_a_command_in_the_queue_is_said_once_or_not_at_all(tmp_path: Path, session: Session) -> None:
    session.user("Begin.")
    session.assistant("Begun.")
    queue(session, "enqueue", "/compact keep the lamps")
    queue(session, "dequeue")
    queue(session, "enqueue", "/tides at noon")
    queue(session, "dequeue")
    session.user(
        "<command-message>tides</command-message>\n<command-name>/tides</command-name>\n"
        "<command-args>at noon</command-args>"
    )
    session.assistant("Low.")
    queue(session, "enqueue", "/srv/lighthouse is too dark")
    assert contents(session.write(tmp_path)) == [
        "User: Begin.\n\nAssistant: Begun.",
        "User: /tides at noon\n\nAssistant: Low.",
        "User: /srv/lighthouse is too dark",
    ]


def test_what_was_typed_for_the_shell_is_no_prompt(tmp_path: Path, session: Session) -> None:
    session.user("Begin.")
    queue(session, "enqueue", "ls lamps")
    queue(session, "dequeue")
    session.assistant("Begun.")
    session.user("<bash-input>ls lamps</bash-input>", promptSource=None)
    session.user("<bash-stdout>red.py</bash-stdout><bash-stderr></bash-stderr>", promptSource=None)
    assert contents(session.write(tmp_path)) == ["User: Begin.\n\nAssistant: Begun."]


@pytest.mark.parametrize(
    ("reason", "is_said"), [("absorbed_mid_turn", True), (None, True), ("cancelled", False), ("cleared", False)]
)
def test_a_prompt_leaves_the_queue_for_the_assistant_or_for_nobody(
    tmp_path: Path, session: Session, reason: str | None, is_said: bool
) -> None:
    session.user("Begin.")
    queue(session, "enqueue", "Mind the tide.")
    queue(session, "enqueue", "Mind the wind.")
    session.other("queue-operation", operation="remove", content="Mind the wind.", reason=reason)
    queue(session, "popAll")
    session.assistant("Begun.")
    text = "\n".join(contents(session.write(tmp_path)))
    assert ("Mind the wind." in text) == is_said
    assert "Mind the tide." not in text


def test_a_queued_prompt_that_becomes_a_record_is_said_where_the_record_is(tmp_path: Path, session: Session) -> None:
    session.user("Begin.")
    queue(session, "enqueue", "And the stairs?")
    attached = {"type": "queued_command", "prompt": "And the stairs?", "commandMode": "prompt"}
    session.add("attachment", attachment=attached)
    session.assistant("Begun.")
    session.user("And the stairs?", promptSource="queued", origin={"kind": "human"})
    session.assistant("199 steps.")
    session.add("attachment", attachment={**attached, "carriedByCompaction": True})
    session.add("attachment", attachment={**attached, "prompt": "from a plugin", "isMeta": True})
    assert contents(session.write(tmp_path)) == [
        "User: Begin.\n\nAssistant: Begun.",
        "User: And the stairs?\n\nAssistant: 199 steps.",
    ]


def test_a_compaction_parts_nothing_and_says_nothing(tmp_path: Path, session: Session) -> None:
    session.user("How many steps?")
    before = session.assistant("199.")
    session.add("system", subtype="compact_boundary", parentUuid=None, logicalParentUuid=before["uuid"], content="…")
    session.user("Summary: there are steps.", isCompactSummary=True, isVisibleInTranscriptOnly=True)
    session.user("And lamps?")
    session.assistant("Two.")
    path = session.write(tmp_path)
    assert contents(path) == ["User: How many steps?\n\nAssistant: 199.", "User: And lamps?\n\nAssistant: Two."]
    assert [document.metadata.get("branch") for document in documents(path)] == [None, None]


def test_what_the_user_went_back_from_is_kept_and_marked(tmp_path: Path, session: Session) -> None:
    first = session.user("Which colour?")
    answer = session.assistant("White.")
    session.user("Paint it red.")
    session.assistant("Red it is.")
    session.leaf = answer["uuid"]
    session.user("Paint it green.")
    session.tool("Bash", "painted")
    session.assistant("Green it is.")
    path = session.write(tmp_path)
    assert [(each.content.splitlines()[0], each.metadata.get("branch")) for each in documents(path)] == [
        ("User: Which colour?", None),
        ("User: Paint it red.", "abandoned"),
        ("User: Paint it green.", None),
    ]
    assert first["parentUuid"] is None


def test_a_prompt_that_was_taken_back_before_an_answer_is_not_said(tmp_path: Path, session: Session) -> None:
    session.user("Which colour?")
    answer = session.assistant("White.")
    session.user("Paint it rde")
    session.leaf = answer["uuid"]
    session.user("Paint it re")
    session.leaf = answer["uuid"]
    session.user("Paint it red")
    session.assistant("Red it is.")
    session.user("Thanks.")
    path = session.write(tmp_path)
    assert [(each.content, each.metadata.get("branch")) for each in documents(path)] == [
        ("User: Which colour?\n\nAssistant: White.", None),
        ("User: Paint it red\n\nAssistant: Red it is.", None),
        ("User: Thanks.", None),
    ]


def test_two_prompts_before_an_answer_are_both_said(tmp_path: Path, session: Session) -> None:
    session.user("Paint it red.")
    session.user("And the door.")
    session.assistant("Both.")
    assert contents(session.write(tmp_path)) == ["User: Paint it red.\n\nAnd the door.\n\nAssistant: Both."]


def test_parallel_tools_are_no_branches(tmp_path: Path, session: Session) -> None:
    session.user("Run both.")
    one = session.assistant({"type": "tool_use", "id": "t1", "name": "Bash", "input": {}})
    two = session.assistant({"type": "tool_use", "id": "t2", "name": "Bash", "input": {}})
    for call, name in ((two, "t2"), (one, "t1")):
        result = [{"type": "tool_result", "tool_use_id": name, "content": name}]
        session.user(result, parentUuid=call["uuid"], sourceToolAssistantUUID=call["uuid"])
    session.assistant("Both ran.")
    session.user("Thanks.")
    session.assistant("Gladly.")
    assert [each.metadata.get("branch") for each in documents(session.write(tmp_path))] == [None, None]


def titled(session: Session, **titles: str) -> Session:
    session.user("How tall is it, in metres and in feet?")
    session.assistant("31 metres.")
    for kind, title in titles.items():
        field = {"custom": "customTitle", "ai": "aiTitle"}[kind]
        session.other(f"{kind}-title", **{field: title})
    return session


def test_the_best_title_counts(tmp_path: Path) -> None:
    def title(session: Session) -> Any:
        return documents(session.write(tmp_path))[0].metadata["title"]

    assert title(titled(Session())) == "How tall is it, in metres and in feet?"
    assert title(titled(Session(), ai="Height")) == "Height"
    assert title(titled(Session(), custom="My tower", ai="Height")) == "My tower"
    foreign = titled(Session())
    foreign.records.insert(0, {"type": "summary", "summary": "Of another session", "leafUuid": "elsewhere"})
    assert title(foreign) == "How tall is it, in metres and in feet?"
    own = titled(Session())
    own.records.insert(0, {"type": "summary", "summary": "Of this one", "leafUuid": own.leaf})
    assert title(own) == "Of this one"


def test_forks_and_resumed_sessions_add_only_what_is_new(tmp_path: Path, session: Session) -> None:
    titled(session)
    fork = Session(FORK)
    fork.records = [{**record, "sessionId": FORK, "promptId": "p-2"} for record in session.records]
    fork.records[0] |= {"forkedFrom": {"sessionId": SESSION, "messageUuid": session.records[0]["uuid"]}}
    fork.leaf = session.leaf
    fork.user("And in the fork?")
    fork.assistant("As tall.")
    folder = tmp_path / "projects" / "-srv-lighthouse"
    session.write(folder)
    fork.write(folder)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, folder)["filed"] == 2
        owners = {each.content.splitlines()[0]: each.metadata["session_id"] for each in app.palace.list_drawers().items}
        assert owners == {"User: How tall is it, in metres and in feet?": SESSION, "User: And in the fork?": FORK}
        session.user("Resumed.")
        session.assistant("Good.")
        session.write(folder)
        told = run(app, folder)
        assert (told["filed"], told["updated"]) == (1, 0)
        assert run(app, folder)["filed"] == 0


def agent_session() -> Session:
    session = Session("agent-a7f")
    fields = {"isSidechain": True, "agentId": "a7f", "sessionId": SESSION}
    session.user("Count the lamps.", **fields)
    session.assistant("I look.", {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}, **fields)
    session.user([{"type": "tool_result", "tool_use_id": "t", "content": "2"}], **fields)
    session.assistant("There are two lamps.", **fields)
    return session


def test_a_sub_agent_in_a_file_of_its_own_has_a_task_and_a_report(tmp_path: Path, session: Session) -> None:
    folder = tmp_path / "projects" / "-srv-lighthouse"
    titled(session).write(folder)
    agent = agent_session()
    agent.write(folder / SESSION / "subagents", "agent-a7f")
    (folder / SESSION / "subagents" / "agent-a7f.meta.json").write_text('{"agentType":"general-purpose"}')
    (folder / SESSION / "tool-results").mkdir()
    (folder / SESSION / "tool-results" / "b1.txt").write_text("40,000 lines")
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, folder)
        assert told["filed"] == 2
        assert told["skipped"] == {"output of tools": 1, "not a kind of file that is read": 1}
        places = {(each.wing, each.room, each.content) for each in app.palace.list_drawers(limit=9).items}
        assert ("lighthouse", "subagents", "Task: Count the lamps.\n\nReport: There are two lamps.") in places


def test_notes_of_a_project_are_filed_in_its_wing_without_their_index(tmp_path: Path, session: Session) -> None:
    folder = tmp_path / "projects" / "-srv-lighthouse"
    titled(session).write(folder)
    (folder / "memory").mkdir()
    (folder / "memory" / "lamps.md").write_text("---\nname: lamps\ntype: project\n---\nTwo lamps, both white.\n")
    index = folder / "memory" / "MEMORY.md"
    index.write_text("# Memory\n\n- [Lamps](lamps.md) — how many there are\n* [Steps](steps.md)\n")
    assert skipped(folder)["MEMORY.md"] == "an index of other notes"
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        assert {(each.wing, each.room) for each in app.palace.list_drawers(limit=9).items} == {
            ("lighthouse", "memory"),
            ("lighthouse", "sessions"),
        }
    index.write_text("# Memory\n\n- [Lamps](lamps.md) — how many there are\n\nThe keeper is Mira.\n")
    assert "MEMORY.md" in found(folder), "it says something itself"
    (tmp_path / "memory").mkdir()
    elsewhere = tmp_path / "memory" / "MEMORY.md"
    elsewhere.write_text("- [Lamps](lamps.md)\n")
    assert found(tmp_path / "memory") == ["MEMORY.md"]


def with_tools(path: Path) -> list[Document]:
    return [each for each in read_transcript(Source(path, include_tools=True)) if isinstance(each, Document)]


def test_what_tools_returned_is_said_when_it_is_asked_for(tmp_path: Path, session: Session) -> None:
    session.user("List them.")
    session.tool("Bash", "lamp.py")
    session.tool("Read", [{"type": "text", "text": "a = 1"}, {"type": "image", "source": {"data": "iVBOR"}}])
    session.tool("Bash", "\n".join(str(number) for number in range(30_000)))
    session.assistant("Done.")
    path = session.write(tmp_path)
    assert contents(path) == ["User: List them.\n\nAssistant: Done."]
    (document,) = with_tools(path)
    assert document.content.startswith("User: List them.\n\nTool: lamp.py\n\na = 1\n\n0\n1\n2\n")
    assert document.content.endswith("29998\n29999\n\nAssistant: Done.")
    assert "characters …]" in document.content
    assert len(document.content) < 5_000


def test_a_line_that_a_crash_cut_does_not_hide_the_next_record(tmp_path: Path, session: Session) -> None:
    session.user("Lit?")
    session.assistant("Lit.")
    session.other("api-request", params={"model": "opal-5"})
    lines = list(map(compact, session.records))
    after = Session()
    after.user("Still lit?", uuid="9")
    lines[-1] = lines[-1][:40] + compact(after.records[0])
    path = write_transcript(tmp_path / "s.jsonl", *lines)
    assert contents(path) == ["User: Lit?\n\nAssistant: Lit.", "User: Still lit?"]
    assert [problem.reason for problem in read(path) if not isinstance(problem, Document)] == ["not JSON"]
