"""Exports of ChatGPT: the branch that is shown, what is said in it, archives, damage, and a second export."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.palace.importers.archives import DAMAGED
from mempalace_mcp.palace.importers.chatgpt import NO_CONVERSATION, NO_CONVERSATIONS, NO_TEXT, NOT_REMEMBERED
from mempalace_mcp.palace.importers.documents import Document
from mempalace_mcp.palace.importers.json_stream import DAMAGED as CUT
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import reader_of
from mempalace_mcp.palace.importers.reading import read_real
from tests.palace.importers.support import documents, found, reasons
from tests.palace.support import opened
from tests.palace.test_importing import run

Json = dict[str, Any]
NOON = 1_760_000_000.25


def message(role: str, *parts: Any, **fields: Any) -> Json:
    content = fields.pop("content", {"content_type": "text", "parts": list(parts)})
    return {"author": {"role": role}, "content": content, "recipient": "all", "metadata": {}, **fields}


def chat(name: str, *messages: Json | None, **fields: Any) -> Json:
    """A conversation without branches."""
    nodes: Json = {"root": {"id": "root", "message": None, "parent": None, "children": [f"{name}-0"]}}
    for number, each in enumerate(messages):
        node, parent = f"{name}-{number}", f"{name}-{number - 1}" if number else "root"
        known = None if each is None else {"id": node, "create_time": NOON + number, **each}
        nodes[node] = {"id": node, "message": known, "parent": parent, "children": [f"{name}-{number + 1}"]}
    last = f"{name}-{len(messages) - 1}"
    known = {"title": f"About {name}", "create_time": NOON, "update_time": NOON + 99, "conversation_id": name}
    return {**known, "mapping": nodes, "current_node": last, **fields}


def bread(**fields: Any) -> Json:
    return chat("bread", message("user", "How long to knead?"), message("assistant", "Ten minutes."), **fields)


def export(folder: Path, *chats: Any, name: str = "conversations.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(chats, ensure_ascii=False), encoding="utf-8")
    return path


def contents(path: Path, include_tools: bool = False) -> list[str]:
    return [each.content for each in read_real(path, include_tools=include_tools) if isinstance(each, Document)]


def said(path: Path) -> str:
    (content,) = contents(path)
    return content.partition("Assistant: ")[2]


def test_a_conversation_is_filed_by_exchange(tmp_path: Path) -> None:
    more = (message("user", "And then?"), message("assistant", "It rests.", metadata={"model_slug": "m-2"}))
    first, second = documents(
        export(
            tmp_path,
            chat(
                "bread",
                message("user", "How long to knead?"),
                message("assistant", "Ten minutes."),
                *more,
                default_model_slug="m-1",
            ),
        )
    )
    assert first.content == "User: How long to knead?\n\nAssistant: Ten minutes."
    assert (first.wing, first.room, first.occurred_at) == ("chatgpt", "chatgpt", 1_760_000_000_250_000)
    assert not second.may_grow
    assert first.metadata == {
        "agent": "chatgpt",
        "session_id": "bread",
        "message_id": "bread-0",
        "model": "m-1",
        "title": "About bread",
        "source_format": "chatgpt-export",
    }


def branched(**fields: Any) -> Json:
    talk = chat("b", message("user", "Q"), message("assistant", "Old"), message("user", "Old follow-up"))
    nodes = talk["mapping"]
    nodes["n"] = {
        "id": "n",
        "parent": "b-0",
        "children": [],
        "message": {"id": "n", "create_time": NOON + 9, **message("assistant", "New")},
    }
    return {**talk, "current_node": "n", **fields}


@pytest.mark.parametrize(
    ("node", "content"),
    [
        ("n", "User: Q\n\nAssistant: New"),
        ("b-2", "User: Q\n\nAssistant: Old"),
        ("gone", "User: Q\n\nAssistant: New"),
        (None, "User: Q\n\nAssistant: New"),
        (["n"], "User: Q\n\nAssistant: New"),
    ],
)
def test_the_branch_that_is_shown_is_read(tmp_path: Path, node: Any, content: str) -> None:
    assert contents(export(tmp_path, branched(current_node=node)))[0] == content


def test_a_tree_that_is_none_ends(tmp_path: Path) -> None:
    talk = bread()
    talk["mapping"]["bread-0"]["parent"] = "bread-1"
    assert contents(export(tmp_path, talk)) == ["User: How long to knead?\n\nAssistant: Ten minutes."]
    talk["mapping"]["bread-0"]["parent"] = "gone"
    assert contents(export(tmp_path, talk)) == ["User: How long to knead?\n\nAssistant: Ten minutes."]
    broken: Json
    for broken in ({"bread-1": None}, {"bread-1": {"message": [], "parent": {}}}, {}):
        assert contents(export(tmp_path, {**talk, "mapping": broken})) == []


@pytest.mark.parametrize(
    "hidden",
    [
        None,
        message("system", "You are helpful"),
        message("user", "Hidden", metadata={"is_visually_hidden_from_conversation": True}),
        message("assistant", "Weightless", weight=0.0),
        message("assistant", "search('x')", recipient="browser"),
        message("assistant", content={"content_type": "code", "language": "python", "text": "1+1"}, recipient="python"),
        message("tool", "Result"),
        message("user", content={"content_type": "user_editable_context", "user_profile": "I bake"}),
        message("assistant", content={"content_type": "model_editable_context", "model_set_context": "Bakes"}),
        message("assistant", content={"content_type": "thoughts", "thoughts": [{"content": "Hm"}]}),
        message("assistant", content={"content_type": "reasoning_recap", "content": "Thought for 3 s"}),
        message("tool", content={"content_type": "system_error", "text": "Broken"}),
        message("assistant", None, {"content_type": "unknown", "text": "x"}, 7),
        {"author": None, "content": "x", "metadata": []},
    ],
)
def test_what_is_not_shown_is_left_out(tmp_path: Path, hidden: Json | None) -> None:
    talk = chat("t", hidden, message("user", "Q"), hidden, message("assistant", "A"), hidden)
    assert contents(export(tmp_path, talk)) == ["User: Q\n\nAssistant: A"]


def test_results_of_tools_are_read_when_that_is_asked_for(tmp_path: Path) -> None:
    output = message("tool", content={"content_type": "execution_output", "text": "42"})
    path = export(tmp_path, chat("t", message("user", "Q"), output, message("assistant", "A")))
    assert contents(path, include_tools=True) == ["User: Q\n\nTool: 42\n\nAssistant: A"]


def parts(kind: str, *found: Any) -> Json:
    return message("assistant", content={"content_type": kind, "parts": list(found)})


CITED = {
    "content_references": [{"matched_text": "\ue200cite\ue202turn0\ue201", "alt": "([Mill](https://mill.example))"}]
}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (message("assistant", "One", "", "Two"), "One\nTwo"),
        (parts("multimodal_text", {"content_type": "image_asset_pointer"}, "See"), "[image]\nSee"),
        (parts("multimodal_text", {"content_type": "audio_transcription", "text": "Spoken"}, {}), "Spoken"),
        (message("assistant", content={"content_type": "code", "text": "let x"}), "```\nlet x\n```"),
        (message("assistant", "Fact\ue200cite\ue202turn0search1\ue202turn0search2\ue201."), "Fact."),
        (message("assistant", "Go to \ue200url\ue202the mill\ue202https://mill.example\ue201"), "Go to the mill"),
        (message("assistant", 'In \ue200entity\ue202["city","Ystad","harbour"]\ue201 now'), "In Ystad now"),
        (message("assistant", "In \ue200entity\ue202[broken\ue201x \ue200cut"), "In x cut"),
        (message("assistant", "Rye【12†source】 and【4:0†bread.pdf】 【brackets】"), "Rye and 【brackets】"),
        (message("assistant", "Fact \ue200cite\ue202turn0\ue201", metadata=CITED), "Fact ([Mill](https://mill.example))"),
    ],
)  # fmt: skip
def test_messages_are_read_as_they_are_shown(tmp_path: Path, answer: Json, text: str) -> None:
    assert said(export(tmp_path, chat("t", message("user", "Q"), answer))) == text


def test_times_that_are_missing_are_those_of_the_conversation(tmp_path: Path) -> None:
    messages = (message("user", "Q", create_time=None), message("assistant", "A", create_time=NOON + 60))
    (document,) = documents(export(tmp_path, chat("t", *messages)))
    assert (document.occurred_at, document.metadata["time_source"]) == (1_760_000_000_250_000, "session")
    (document,) = documents(export(tmp_path, chat("t", *messages, create_time=None)))
    assert document.occurred_at == 1_760_000_060_250_000
    untimed = [{**each, "create_time": None} for each in messages]
    (document,) = documents(export(tmp_path, chat("t", *untimed, create_time="x", update_time=None)))
    assert document.occurred_at is None


def test_projects_and_custom_assistants_have_rooms(tmp_path: Path) -> None:
    rooms = [bread(conversation_template_id="g-p-1"), bread(gizmo_id="g-2"), bread(gizmo_id="x" * 3_000), bread()]
    assert [each.room for each in documents(export(tmp_path, *rooms))] == ["g-p-1", "g-2", "x" * 128, "chatgpt"]


def test_what_cannot_be_filed_is_counted(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        bread(),
        chat("empty"),
        chat("blank", message("user", " ")),
        bread(is_do_not_remember=True),
        {"x": 1},
        7,
    )
    assert len(documents(path)) == 1
    assert sorted(reasons(path)) == sorted([NO_TEXT, NOT_REMEMBERED, NO_CONVERSATION])
    assert reasons(export(tmp_path)) == [NO_CONVERSATIONS]


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ("" if "." in name else ".json"), text)
    return path


def test_archives_are_read(tmp_path: Path) -> None:
    rye = chat("rye", message("user", "Rye?"), message("assistant", "Yes."))
    parts = {"conversations-000": json.dumps([bread()]), "export__conversations-001": json.dumps([rye])}
    path = zipped(tmp_path / "a8f-2026.zip", user='{"email":"m@example.org"}', **parts, conversations_index="[]")
    assert found(tmp_path) == ["a8f-2026.zip"]
    assert [each.partition("\n")[0] for each in contents(path)] == ["User: How long to knead?", "User: Rye?"]
    assert not reasons(path)
    empty = zipped(tmp_path / "b.zip", user="{}", shared_conversations="[]")
    assert reasons(empty) == [NO_CONVERSATIONS]
    data = path.read_bytes()
    inside = data.index(b"conversations-000.json") + 60
    path.write_bytes(data[:inside] + b"xxxxxxxx" + data[inside + 8 :])
    assert (len(contents(path)), reasons(path)) == (1, [DAMAGED])


def test_an_export_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = export(tmp_path, bread(), bread(conversation_id="b2"))
    path.write_bytes(path.read_bytes()[:-50])
    assert (len(documents(path)), reasons(path)) == (1, [CUT])


def test_a_later_export_adds_what_is_new(tmp_path: Path) -> None:
    old = export(tmp_path / "old", bread())
    more = chat(
        "bread",
        message("user", "How long to knead?"),
        message("assistant", "Ten minutes."),
        message("user", "Why?"),
        message("assistant", "Gluten."),
    )
    new = zipped(
        tmp_path / "new.zip",
        conversations=json.dumps([more, chat("rye", message("user", "Rye?"), message("assistant", "Yes."))]),
    )
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, old)["filed"] == 1
        assert run(app, old)["unchanged"] == 1
        told = run(app, new)
        assert (told["filed"], told["unchanged"], told["updated"]) == (2, 1, 0)
        assert run(app, new)["filed"] == 0
        assert run(app, old.parent)["filed"] == 0


def test_an_export_is_known_by_what_it_holds(tmp_path: Path) -> None:
    for name in ("conversations.json", "My chats (2).json", "conversations-012.json"):
        reader = reader_of(Candidate(export(tmp_path / "x", bread(), name=name)))
        assert reader is not None
        assert reader.name == "chatgpt"
    single = tmp_path / "single.json"
    single.write_text(json.dumps(bread()), encoding="utf-8")
    assert len(contents(single)) == 1
    for text in ('{"mapping": {"properties": {"content_type": {"type": "keyword"}}}}', "[]", "{}", "x"):
        (tmp_path / "other.json").write_text(text, encoding="utf-8")
        assert reader_of(Candidate(tmp_path / "other.json")) is None
    assert reader_of(Candidate(zipped(tmp_path / "c.zip", package="{}"))) is None
