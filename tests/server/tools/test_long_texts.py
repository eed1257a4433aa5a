"""Texts that are longer than an answer may be: every part is told as such, and together they are the text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mempalace_mcp.palace.token_estimate import estimate_tokens
from mempalace_mcp.server.tools.answers import MIN_TOKENS, TOKENS
from tests.server.tools.support import DRAWER, Client

pytestmark = pytest.mark.long

SLACK = 200
"""Tokens of what a part must hold whatever was asked for: the drawer's place and a few words."""

TEXTS = {
    "words": "The tide table says that high water is at noon. " * 1500,
    "ideographs": "潮汐表说正午是高潮。\n" * 4000,
    "digits": "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 1500,
    "quotes": '"\\\n\t' * 9000,
    "families": "👩‍💻👨‍👩‍👧‍👦🇩🇪🇯🇵e\u0301\r\n" * 1500,
    "one letter": "x" * 200_000,
}


def parts_of(client: Client, drawer_ids: list[str], **asked: Any) -> list[dict[str, Any]]:
    """What all answers show, asked for one after the other; each is checked."""
    parts: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        answer = client.call("get_drawers", drawer_ids=drawer_ids, offset=offset, **asked)
        bound = asked.get("max_tokens", TOKENS)
        assert estimate_tokens(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))) <= max(bound, 300) + SLACK
        assert answer["count"] == len(answer["drawers"]) > 0
        parts += answer["drawers"]
        assert answer["next_offset"] is None or answer["next_offset"] > offset
        assert ("hint" in answer) is (answer["next_offset"] is not None)
        offset = answer["next_offset"]
    return parts


@pytest.mark.parametrize("text", TEXTS)
def test_the_parts_of_a_long_text_are_the_text(client: Client, text: str) -> None:
    content = TEXTS[text]
    drawer_id = client.add(content=content, metadata={"k": "v"})
    parts = parts_of(client, [drawer_id])
    assert len(parts) > 1
    assert "".join(part["content"] for part in parts) == content
    assert {part["characters"] for part in parts} == {len(content)}
    at = 0
    for part in parts:
        assert part["offset"] == at
        at += len(part["content"])
        assert part["drawer_id"] == drawer_id
        assert part["content"].encode("utf-8")
    assert [part.get("metadata") for part in parts] == [{"k": "v"}] + [None] * (len(parts) - 1)


def test_no_character_is_cut_that_readers_see_as_one(client: Client) -> None:
    drawer_id = client.add(content=TEXTS["families"])
    for part in parts_of(client, [drawer_id], max_tokens=500):
        assert not part["content"].startswith(("\u200d", "\u0301", "\n"))
        assert not part["content"].endswith(("\u200d", "\r"))


def test_many_drawers_are_read_page_by_page_each_once_and_in_order(client: Client) -> None:
    contents = [f"Drawer {number}: " + "it is about the sea. " * (number % 7 * 40 + 1) for number in range(60)]
    answer = client.call("checkpoint", items=[{**DRAWER, "content": content} for content in contents])
    ids = [each["drawer_id"] for each in answer["drawers"]]
    parts = parts_of(client, ids, max_tokens=2000)
    assert list(dict.fromkeys(part["drawer_id"] for part in parts)) == ids
    read = dict.fromkeys(ids, "")
    for part in parts:
        read[part["drawer_id"]] += part["content"]
    assert list(read.values()) == contents
    assert len(parts) < 75  # what fits in an answer is not cut in two


def test_as_little_as_may_be_asked_for_still_leads_to_the_end(client: Client) -> None:
    content = "潮汐" * 100
    drawer_id = client.add(content=content, metadata={"k": "v" * 2000})
    parts = [part["content"] for part in parts_of_unbounded(client, [drawer_id], max_tokens=MIN_TOKENS)]
    assert "".join(parts) == content


def parts_of_unbounded(client: Client, drawer_ids: list[str], max_tokens: int) -> list[dict[str, Any]]:
    """Where the metadata alone take more than was asked for."""
    parts: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        answer = client.call("get_drawers", drawer_ids=drawer_ids, offset=offset, max_tokens=max_tokens)
        parts += answer["drawers"]
        offset = answer["next_offset"]
    return parts


def test_an_offset_beyond_the_end_is_refused_with_the_length(client: Client) -> None:
    drawer_id = client.add(content="Short.")
    shown = client.refuse("get_drawers", drawer_ids=[drawer_id], offset=6)
    assert shown["argument"] == "offset"
    assert "6 characters" in shown["message"]
    assert client.call("get_drawers", drawer_ids=[drawer_id], offset=5)["drawers"][0]["content"] == "."


def test_a_page_of_a_listing_ends_before_it_is_too_long_for_clients(client: Client) -> None:
    items = [{**DRAWER, "content": f"{number} " + "潮汐表" * 70, "source_file": "海/" * 200} for number in range(60)]
    filed = [each["drawer_id"] for each in client.call("checkpoint", items=items)["drawers"]]
    listed: list[str] = []
    cursor = None
    pages = 0
    while True:
        answer = client.call("list_drawers", limit=100, cursor=cursor)
        assert estimate_tokens(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))) <= 20_000 + SLACK
        listed += [drawer["drawer_id"] for drawer in answer["drawers"]]
        cursor, pages = answer["next_cursor"], pages + 1
        if cursor is None:
            break
    assert pages > 1
    assert listed == filed[::-1]
    assert client.call("list_drawers", wing="nowhere")["drawers"] == []


def test_facts_are_told_page_by_page_before_they_are_too_long_for_clients(client: Client) -> None:
    facts = [{"subject": "the pier", "predicate": f"says {n}", "object": f"{n} " + "潮汐表" * 300} for n in range(60)]
    client.call("checkpoint", items=[], facts=facts)
    for tool in ("kg_query", "kg_timeline"):
        told: list[str] = []
        cursor, pages = None, 0
        while True:
            answer = client.call(tool, entity="the pier", limit=100, cursor=cursor)
            assert estimate_tokens(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))) <= 20_000 + SLACK
            assert answer["total"] == 60
            told += [fact["predicate"] for fact in answer["facts"]]
            cursor, pages = answer["next_cursor"], pages + 1
            if cursor is None:
                break
        assert pages > 1
        assert sorted(told) == sorted(fact["predicate"] for fact in facts)


def test_many_hits_end_before_they_are_too_long_for_clients(client: Client) -> None:
    items = [
        {**DRAWER, "content": f"marmot {n} " + "潮汐表说正午" * 60, "source_file": f"{n}" * 200} for n in range(100)
    ]
    client.call("checkpoint", items=items)
    answer = client.call("search", query="marmot", limit=100)
    assert estimate_tokens(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))) <= 20_000 + SLACK
    assert 5 < answer["count"] == len(answer["results"]) < 100
    assert answer["truncated"]
    assert "max_tokens" in answer["hint"]
    more = client.call("search", query="marmot", limit=100, max_tokens=100_000)
    assert more["count"] == 100
    assert [hit["drawer_id"] for hit in more["results"]][: answer["count"]] == [
        hit["drawer_id"] for hit in answer["results"]
    ]


def test_a_diary_shows_as_many_whole_entries_as_fit_and_pages_to_all(client: Client) -> None:
    entries = [f"Day {number}: " + "we sailed on. " * 300 for number in range(30)]
    for entry in entries:
        client.call("diary_write", agent_name="Mate", entry=entry)
    read: list[str] = []
    cursor = None
    while True:
        answer = client.call("diary_read", agent_name="mate", last_n=100, cursor=cursor)
        assert estimate_tokens(json.dumps(answer, ensure_ascii=False)) <= TOKENS + SLACK
        assert answer["truncated"] is False
        assert answer["total"] == 30
        read += [entry["content"] for entry in answer["entries"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert read == entries[::-1]


def test_a_diary_entry_that_is_too_long_is_cut_and_says_where_the_whole_is(client: Client) -> None:
    written = client.call("diary_write", agent_name="Mate", entry=TEXTS["ideographs"])
    client.call("diary_write", agent_name="Mate", entry="Short.")
    first = client.call("diary_read", agent_name="Mate")
    assert [entry["content"] for entry in first["entries"]] == ["Short."]
    answer = client.call("diary_read", agent_name="Mate", cursor=first["next_cursor"])
    (entry,) = answer["entries"]
    assert TEXTS["ideographs"].startswith(entry["content"])
    assert len(entry["content"]) < entry["characters"] == len(TEXTS["ideographs"])
    assert answer["truncated"] is True
    whole = "".join(part["content"] for part in parts_of(client, [written["drawer_id"]]))
    assert whole == TEXTS["ideographs"]


def test_a_passage_says_where_it_stands_in_the_whole(client: Client) -> None:
    content = "\n\n".join(f"Paragraph {number} speaks of weather." for number in range(200)) + "\n\nThe walrus sleeps."
    drawer_id = client.add(content=content)
    client.settle()
    (hit,) = client.call("search", query="walrus", limit=1)["results"]
    assert hit["characters"] == len(content)
    assert content[hit["offset"] :].startswith(hit["passage"])
    (part,) = client.call("get_drawers", drawer_ids=[drawer_id], offset=hit["offset"])["drawers"]
    assert part["content"].startswith(hit["passage"])
    (cut,) = client.call("search", query="walrus", limit=1, max_tokens=16)["results"]
    assert len(cut["passage"]) < len(hit["passage"])
    assert cut["characters"] == len(content)
    assert content[cut["offset"] :].startswith(cut["passage"])


def test_a_passage_holds_the_whole_paragraph_if_max_tokens_allows(client: Client) -> None:
    filler = " ".join(f"Crate {number} is on the quay since the storm." for number in range(22))
    paragraph = f"{filler} The captain's name is Wilhelmina Oduya."
    content = "The harbour has two cranes. " * 30 + "\n\n" + paragraph
    client.add(content=content)
    client.settle()
    (hit,) = client.call("search", query="captain Wilhelmina Oduya", limit=1)["results"]
    assert hit["passage"] == paragraph
    assert hit["offset"] == content.index(paragraph)
    answer = client.call("search", query="captain Wilhelmina Oduya", limit=1, max_tokens=270)
    (narrow,) = answer["results"]
    assert len(narrow["passage"]) < len(paragraph)
    assert "Wilhelmina Oduya" in narrow["passage"]
    assert content[narrow["offset"] :].startswith(narrow["passage"])
    assert answer["truncated"] is False
