from __future__ import annotations

from typing import Any

import pytest

from tests.server.tools.support import Client

FACT = {"subject": "Ada", "predicate": "works at", "object": "Acme"}


def test_a_fact_is_recorded_and_found(client: Client) -> None:
    drawer_id = client.add()
    added = client.call(
        "kg_add", **FACT, valid_from="2024-01-01", valid_to="2024-12-31", confidence=1, source_drawer_id=drawer_id
    )
    assert added["created"] is True
    assert added["fact"].pop("recorded_at").endswith("Z")
    assert added["fact"] == {
        "fact_id": added["fact_id"],
        **FACT,
        "valid_from": "2024-01-01T00:00:00Z",
        "valid_to": "2025-01-01T00:00:00Z",
        "current": False,
        "confidence": 1.0,
        "source_drawer_id": drawer_id,
    }
    answer = client.call("kg_query", entity=" ada ", as_of="2024-06-01")
    (fact,) = answer["facts"]
    assert answer["resolved"] == "Ada"
    assert (answer["count"], answer["total"]) == (1, 1)
    assert fact["fact_id"] == added["fact_id"]
    assert fact["depth"] == 1
    assert fact["current"] is False, "it held then, and does not now"
    assert client.call("kg_query", entity="Ada", as_of="2025-01-01")["facts"] == []


def test_the_same_fact_again_is_not_created(client: Client) -> None:
    first, again = client.call("kg_add", **FACT), client.call("kg_add", **FACT)
    assert again["created"] is False
    assert again["fact_id"] == first["fact_id"]
    assert first["fact"]["current"] is True


def test_an_unknown_entity_gets_suggestions(client: Client) -> None:
    client.call("kg_add", **FACT)
    answer = client.call("kg_query", entity="Adda")
    assert answer["entity"] == "Adda"
    assert answer["resolved"] is None
    assert answer["suggestions"] == ["Ada"]
    assert answer["facts"] == []


def test_directions_and_depth(client: Client) -> None:
    client.call("kg_add", **FACT)
    client.call("kg_add", subject="Acme", predicate="is in", object="Paris")

    def objects(**arguments: Any) -> list[str]:
        return [fact["object"] for fact in client.call("kg_query", **arguments)["facts"]]

    assert objects(entity="Acme", direction="outgoing") == ["Paris"]
    assert objects(entity="Acme", direction="incoming") == ["Acme"]
    assert sorted(objects(entity="Acme")) == ["Acme", "Paris"]
    assert objects(entity="Ada") == ["Acme"]
    assert objects(entity="Ada", depth=2) == ["Acme", "Paris"]
    assert objects(entity="Ada", depth=2, limit=1) == ["Acme"]


def test_a_fact_ends(client: Client) -> None:
    client.call("kg_add", **FACT, valid_from="2024-01-01")
    ended = client.call("kg_invalidate", **FACT, ended="2025-01-01")
    assert ended["fact"]["valid_to"] == "2025-01-02T00:00:00Z", "it still held on that day"
    assert ended["fact"]["current"] is False
    assert client.call("kg_query", entity="Ada", as_of="2025-06-01")["facts"] == []


@pytest.mark.parametrize("day", ["2024-02-29", "2024-02", "2024", "today"])
def test_a_fact_begins_and_ends_on_one_day(client: Client, day: str) -> None:
    added = client.call("kg_add", **FACT, valid_from=day)
    ended = client.call("kg_invalidate", **FACT, ended=day)
    again = client.call("kg_add", **FACT, valid_from=day, valid_to=day)
    assert ended["fact_id"] == added["fact_id"]
    assert again == {"fact_id": added["fact_id"], "created": False, "fact": ended["fact"]}, "two ways to say the same"
    shown = ended["fact"]
    same = client.call("kg_add", **FACT, valid_from=shown["valid_from"], valid_to=shown["valid_to"])
    assert same["created"] is False, "what is shown reads back as what was said"
    assert client.call("kg_query", entity="Ada", as_of=day)["total"] == 1


def test_a_fact_that_never_was_true_is_taken_back(client: Client) -> None:
    added = client.call("kg_add", **FACT)["fact"]
    known_at = added["recorded_at"]
    retracted = client.call("kg_invalidate", **FACT, retract=True)
    assert retracted["fact_id"] == added["fact_id"]
    assert retracted["fact"]["retracted_at"] > known_at
    assert retracted["fact"]["current"] is False
    assert "valid_to" not in retracted["fact"], "it did not end: it never was"
    assert client.call("kg_query", entity="Ada")["facts"] == []
    assert client.call("kg_query", entity="Ada", as_of="2020-01-01")["facts"] == []
    assert client.call("kg_timeline", entity="Ada")["total"] == 0
    assert client.call("kg_stats")["facts"] == 0
    (then,) = client.call("kg_query", entity="Ada", known_at=known_at)["facts"]
    assert then["fact_id"] == added["fact_id"]
    assert client.refuse("kg_invalidate", **FACT, retract=True)["code"] == "not_found"
    assert client.call("kg_add", **FACT)["created"] is True


def test_one_of_several_intervals_is_taken_back(client: Client) -> None:
    kept = client.call("kg_add", **FACT, valid_from="2020", valid_to="2021")["fact_id"]
    wrong = client.call("kg_add", **FACT, valid_from="2030")["fact_id"]
    shown = client.refuse("kg_invalidate", **FACT, retract=True)
    assert (shown["code"], shown["argument"]) == ("invalid_argument", "fact_id")
    assert wrong in shown["message"]
    assert kept in shown["message"]
    unknown = client.refuse("kg_invalidate", **FACT, retract=True, fact_id="f_none")
    assert (unknown["code"], unknown["argument"]) == ("not_found", "fact_id")
    assert client.call("kg_invalidate", **FACT, retract=True, fact_id=wrong)["fact_id"] == wrong
    assert [fact["fact_id"] for fact in client.call("kg_timeline")["facts"]] == [kept]


def test_one_of_two_that_hold_is_ended(client: Client) -> None:
    first = client.call("kg_add", **FACT, valid_from="2020")["fact_id"]
    second = client.call("kg_add", **FACT, valid_from="2021")["fact_id"]
    assert client.call("kg_invalidate", **FACT, fact_id=second, ended="2022")["fact_id"] == second
    facts = client.call("kg_timeline")["facts"]
    assert [(fact["fact_id"], fact.get("valid_to")) for fact in facts] == [
        (first, None),
        (second, "2023-01-01T00:00:00Z"),
    ]


def test_refusals_lead_to_retracting(client: Client) -> None:
    client.call("kg_add", **FACT, valid_from="tomorrow")
    too_early = client.refuse("kg_invalidate", **FACT)
    reversed_interval = client.refuse("kg_add", **FACT, valid_from="2026-02", valid_to="2026-01")
    client.call("kg_add", subject="Ada", predicate="lives in", object="Turin", valid_to="2020")
    ended_before = client.refuse("kg_invalidate", subject="Ada", predicate="lives in", object="Turin", ended="2021")
    for shown in (too_early, reversed_interval, ended_before):
        assert "retract: true" in shown["hint"]
    assert client.call("kg_invalidate", **FACT, retract=True)["fact"]["retracted_at"]


def test_facts_about_a_hub_come_page_by_page(client: Client) -> None:
    objects = [f"port {number:03}" for number in range(301)]
    facts = [{"subject": "Ada", "predicate": "has been to", "object": each} for each in objects]
    client.call("checkpoint", items=[], facts=facts)
    page = client.call("kg_query", entity="ada", limit=100)
    assert (page["count"], page["total"], page["truncated"]) == (100, 301, True)
    client.call("kg_invalidate", subject="Ada", predicate="has been to", object=page["facts"][0]["object"])
    client.call("kg_add", subject="Ada", predicate="has been to", object="port new")
    found = [fact["object"] for fact in page["facts"]]
    while page["next_cursor"]:
        page = client.call("kg_query", entity="Ada", limit=100, cursor=page["next_cursor"])
        assert page["total"] == 301, "what was believed when the first page was asked for"
        found += [fact["object"] for fact in page["facts"]]
    assert (page["count"], page["truncated"]) == (1, False)
    assert sorted(found) == objects
    assert client.call("kg_query", entity="Ada", limit=5)["truncated"] is True
    whole = client.call("kg_query", entity="port 001", limit=1)
    assert (whole["total"], whole["truncated"], whole["next_cursor"]) == (1, False, None)


def test_a_cursor_of_facts_belongs_to_its_question(client: Client) -> None:
    for year in range(2020, 2024):
        client.call("kg_add", subject="Ada", predicate="lives in", object=f"town {year}", valid_from=str(year))
    question = {"entity": "Ada", "as_of": "now", "limit": 3}
    page = client.call("kg_query", **question)
    rest = client.call("kg_query", **question, cursor=page["next_cursor"])
    assert len(page["facts"]) + len(rest["facts"]) == 4
    for other in ({"as_of": "2021"}, {"direction": "incoming"}, {"depth": 2}, {"entity": "town 2020"}):
        shown = client.refuse("kg_query", **{**question, **other, "cursor": page["next_cursor"]})
        assert (shown["code"], shown["argument"]) == ("invalid_argument", "cursor")


def test_a_fact_that_ends_now_is_not_current_any_more(client: Client) -> None:
    client.call("kg_add", **FACT)
    assert client.call("kg_invalidate", **FACT)["fact"]["current"] is False


def test_what_was_believed_once_is_not_current(client: Client) -> None:
    client.call("kg_add", **FACT, valid_from="2024-01-01")
    known_at = client.call("kg_query", entity="Ada")["facts"][0]["recorded_at"]
    client.call("kg_invalidate", **FACT, ended="2025-01-01")
    (then,) = client.call("kg_query", entity="Ada", known_at=known_at)["facts"]
    assert "valid_to" not in then
    assert then["retracted_at"]
    assert then["current"] is False


def test_a_fact_is_superseded(client: Client) -> None:
    old = client.call("kg_add", **FACT, valid_from="2024-01-01")
    answer = client.call(
        "kg_supersede", subject="ada", predicate="works at", old_object="Acme", new_object="Umbrella", at="2025-01-01"
    )
    assert answer["superseded"]["fact_id"] == old["fact_id"]
    assert answer["superseded"]["valid_to"] == answer["fact"]["valid_from"] == "2025-01-02T00:00:00Z"
    assert answer["fact"]["fact_id"] == answer["fact_id"] != old["fact_id"]
    assert answer["fact"]["current"] is True
    now = client.call("kg_query", entity="Ada", as_of="2026-01-01")["facts"]
    assert [fact["object"] for fact in now] == ["Umbrella"]


def test_the_timeline_is_paged(client: Client) -> None:
    for year in (2023, 2021, 2022):
        client.call("kg_add", subject="Ada", predicate="moved to", object=f"city{year}", valid_from=f"{year}-01-01")
    client.call("kg_add", subject="Bob", predicate="is", object="here", valid_from="2020-01-01")
    page = client.call("kg_timeline", entity="ADA", limit=2)
    assert page["entity"] == "Ada"
    assert [fact["object"] for fact in page["facts"]] == ["city2021", "city2022"]
    assert (page["count"], page["total"]) == (2, 3)
    rest = client.call("kg_timeline", entity="ADA", limit=2, cursor=page["next_cursor"])
    assert [fact["object"] for fact in rest["facts"]] == ["city2023"]
    assert rest["next_cursor"] is None
    everything = client.call("kg_timeline")
    assert everything["entity"] is None
    assert everything["total"] == 4


def test_statistics_count(client: Client) -> None:
    client.call("kg_add", **FACT)
    client.call("kg_add", subject="Ada", predicate="works at", object="Umbrella", valid_to="2020-01-01")
    client.call("kg_add", subject="Ada", predicate="retires", object="late", valid_from="2999-01-01")
    answer = client.call("kg_stats")
    assert (answer["facts"], answer["current"], answer["ended"], answer["future"]) == (3, 1, 1, 1)
    assert answer["predicates"] == {"works at": 2, "retires": 1}
    assert answer["predicate_count"] == 2


@pytest.mark.parametrize(
    ("tool", "arguments", "argument"),
    [
        ("kg_add", {**FACT, "subject": ""}, "subject"),
        ("kg_add", {**FACT, "subject": "x" * 5_000_000}, "subject"),
        ("kg_add", {**FACT, "object": "x" * 5_000_000}, "object"),
        ("kg_add", {**FACT, "object": "a\0"}, "object"),
        ("kg_add", {**FACT, "object": {"name": "Acme"}}, "object"),
        ("kg_add", {**FACT, "predicate": "\ud800"}, "predicate"),
        ("kg_add", {**FACT, "valid_from": "last year"}, "valid_from"),
        ("kg_add", {**FACT, "valid_from": "2026-02-30"}, "valid_from"),
        ("kg_add", {**FACT, "valid_from": "2026-01-02", "valid_to": "2026-01-01"}, "valid_to"),
        ("kg_add", {**FACT, "valid_from": "2026-01-01T12:00", "valid_to": "2026-01-01T12:00"}, "valid_to"),
        ("kg_add", {**FACT, "confidence": 2}, "confidence"),
        ("kg_add", {**FACT, "confidence": True}, "confidence"),
        ("kg_add", {**FACT, "confidence": float("nan")}, "confidence"),
        ("kg_add", {**FACT, "source_drawer_id": "d_1"}, "source_drawer_id"),
        ("kg_add", {**FACT, "source_drawer_id": "x" * 5_000_000}, "source_drawer_id"),
        ("kg_add", {**FACT, "source_closet": "c"}, "source_closet"),
        ("kg_query", {"entity": ""}, "entity"),
        ("kg_query", {"entity": "Ada", "as_of": "once"}, "as_of"),
        ("kg_query", {"entity": "Ada", "known_at": "2026-1-1"}, "known_at"),
        ("kg_query", {"entity": "Ada", "limit": -5}, "limit"),
        ("kg_query", {"entity": "Ada", "depth": -1}, "depth"),
        ("kg_invalidate", {**FACT, "ended": "never"}, "ended"),
        ("kg_invalidate", {**FACT, "retract": True, "ended": "2026-01-01"}, "ended"),
        ("kg_invalidate", {**FACT, "retract": "perhaps"}, "retract"),
        ("kg_query", {"entity": "Ada", "cursor": "nonsense"}, "cursor"),
        ("kg_timeline", {"cursor": "nonsense"}, "cursor"),
        ("kg_timeline", {"limit": 10**9}, "limit"),
    ],
)
def test_refused_facts(empty: Client, tool: str, arguments: dict[str, Any], argument: str) -> None:
    shown = empty.refuse(tool, **arguments)
    assert shown["code"] == "invalid_argument"
    assert shown["argument"] == argument
    assert empty.call("kg_stats")["facts"] == 0


def test_what_does_not_exist_can_neither_end_nor_be_superseded(client: Client) -> None:
    client.call("kg_add", **FACT)
    assert client.refuse("kg_invalidate", **{**FACT, "object": "acme"})["code"] == "not_found"
    shown = client.refuse("kg_supersede", subject="Ada", predicate="works at", old_object="Nobody", new_object="Acme")
    assert shown["code"] == "not_found"
    assert "Acme" in shown["hint"]
