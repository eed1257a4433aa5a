"""What the suite says of clients that lose something, and what the page says of the suite."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from scripts.clients import reasons
from tests.clients.catalogue import Catalogue, Client, Limit, Way
from tests.clients.jobs import FACT, QUESTION, RESOURCE, TEXT, Reference
from tests.clients.judging import STEPS, judge, outline
from tests.clients.running import Report
from tests.clients.snippets import PAGE, read_snippets

CATALOGUE = Catalogue.read()
TEXT_OF_PAGE = PAGE.read_text(encoding="utf-8")
WAY = Way("http", "http")
CLIENT = Client("c", "Client", "python", ["c==1"], "MIT", [WAY])
SCHEMA = {"properties": {"items": {"items": {"properties": {"wing": {"type": "string"}}}}, "query": {}}}
REFERENCE = Reference(
    {"search": SCHEMA},
    {"search": frozenset({"results", "notice"}), "kg_query": frozenset({"facts"})},
    {"search": ("query is empty", "Say in words.")},
    {"recall": ("This is data.",)},
)


def report() -> Report:
    """What a client tells that loses nothing."""
    return Report(
        {
            "tools": {"search": SCHEMA},
            "answers": {"search": {"results": [TEXT], "notice": ""}, "kg_query": {"facts": [FACT]}},
            "refusals": {"search": "query is empty. Say in words."},
            "resources": {"texts": {f"{RESOURCE}/d": TEXT}, "templates": ["palace://{drawer}"], "text": TEXT},
            "prompts": {"listed": ["recall"], "texts": {"recall": f"{QUESTION}\nThis is data.\n{TEXT}"}, "failed": {}},
            "after": {"answer": FACT, "failures": []},
        }
    )


LOSSES: dict[str, Any] = {
    "tools": {"search": {"properties": {"items": {"items": {"properties": {}}}, "query": {}}}},
    "answers": {"search": {"results": [TEXT]}, "kg_query": {"facts": [FACT]}},
    "refusals": {"search": "Structured content does not match. query is empty"},
    "resources": {"texts": {}, "templates": None, "text": TEXT},
    "prompts": {"listed": None, "texts": {"recall": f"{QUESTION}\n{TEXT}"}, "failed": {}},
    "after": {"answer": None, "failures": ["closed"]},
}


def test_a_client_that_loses_nothing_surprises_nobody() -> None:
    verdict = judge(CLIENT, WAY, report(), REFERENCE)
    assert verdict.surprises == []
    assert set(verdict.cells.values()) == {"yes"}


@pytest.mark.parametrize("step", STEPS)
def test_each_loss_is_seen_at_its_step_alone(step: str) -> None:
    told = report()
    told.values[step] = LOSSES[step]
    verdict = judge(CLIENT, WAY, told, REFERENCE)
    assert [each for each, words in verdict.cells.items() if words != "yes"] == [step]
    assert len(verdict.surprises) == 1
    assert f"Client over http, {step}: " in verdict.surprises[0]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_was_not_told_fails_with_the_reason(step: str) -> None:
    told = report()
    del told.values[step]
    told.failures["end"] = "it crashed"
    assert judge(CLIENT, WAY, told, REFERENCE).surprises == [f"Client over http, {step}: it crashed"]


def test_a_limit_must_be_one_and_holds_for_its_way_alone() -> None:
    limited = replace(CLIENT, limits=[Limit("It cannot.", ["after"], ["http"])])
    told = report()
    assert "no limit of the client any more" in judge(limited, WAY, told, REFERENCE).surprises[0]
    told.values["after"] = LOSSES["after"]
    assert judge(limited, WAY, told, REFERENCE).surprises == []
    assert judge(limited, WAY, told, REFERENCE).cells["after"] == "limit"
    assert judge(limited, Way("sse", "sse"), told, REFERENCE).cells["after"] == "**fails**"


def test_what_a_client_lacks_must_be_known() -> None:
    told = report()
    del told.values["prompts"]
    told.absent.add("prompts")
    assert "the catalogue is wrong" in judge(CLIENT, WAY, told, REFERENCE).surprises[0]
    lacking = replace(CLIENT, lacks=["prompts"])
    assert judge(lacking, WAY, told, REFERENCE).cells["prompts"] == "–"
    assert "the catalogue is wrong" in judge(lacking, WAY, report(), REFERENCE).surprises[0]


def test_an_outline_sees_through_references_and_choices() -> None:
    item = {"type": "object", "properties": {"wing": {}}}
    told = {
        "$defs": {"Item": item},
        "properties": {"items": {"anyOf": [{"items": {"$ref": "#/$defs/Item"}}, {"type": "null"}]}},
    }
    assert outline(told) == {"items": {"wing": {}}}


def test_the_page_has_a_row_for_every_client_and_way_and_the_reason_of_every_limit() -> None:
    for client in CATALOGUE.clients.values():
        for way in client.ways:
            assert f"| {client.name} | {client.version} | {way.name} |" in TEXT_OF_PAGE, (
                "run python -m scripts.clients --page"
            )
    for reason in reasons(list(CATALOGUE.clients.values())):
        assert reason in TEXT_OF_PAGE


def test_every_client_is_of_the_catalogue_and_pinned() -> None:
    for client in CATALOGUE.clients.values():
        assert client.through in CATALOGUE.clients if client.through else client.driver
        assert re.fullmatch(r"\d+(\.\d+)+", client.version), client.id
    assert {snippet.client for snippet in read_snippets()} <= CATALOGUE.clients.keys()
    assert TEXT_OF_PAGE.count("<!-- run:") == len(list(read_snippets()))


@pytest.mark.parametrize(("language", "read"), [("json", json.loads), ("toml", tomllib.loads)])
def test_configurations_can_be_read_and_start_our_command(language: str, read: Any) -> None:
    for block in re.findall(rf"```{language}\n(.*?)```", TEXT_OF_PAGE, re.DOTALL):
        assert read(block)
        assert "mempalace-mcp" in block or "http://127.0.0.1:8765/mcp" in block
