"""The shortest chain of facts between two entities, as of a date and as known at one, on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.storage import graph_paths
from tests.palace.support import opened
from tests.server.tools.support import Client

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture
def client(each_store: None, tmp_path: Path) -> Iterator[Client]:
    with opened(tmp_path / "palace", started=False, PALACE_INDEX="exact") as app:
        yield Client(app)


def link(client: Client, *entities: str, **details: Any) -> None:
    """Facts from each of the entities to the next."""
    for one, other in pairwise(entities):
        client.call("kg_add", subject=one, predicate="knows", object=other, **details)


def chain(answer: dict[str, Any]) -> list[tuple[str, str]]:
    assert answer["hops"] == len(answer["facts"])
    return [(fact["subject"], fact["object"]) for fact in answer["facts"]]


def test_the_shortest_chain_is_found_whatever_way_its_facts_point(client: Client) -> None:
    link(client, "Ada", "Bo", "Cy", "Di", "Eve", "Fay")
    link(client, "Fay", "Flo", "Ada")
    answer = client.call("kg_path", source="ADA", target="di")
    assert (answer["source"], answer["target"], answer["found"]) == ("Ada", "Di", True)
    assert chain(answer) == [("Ada", "Bo"), ("Bo", "Cy"), ("Cy", "Di")]
    assert chain(client.call("kg_path", source="Ada", target="Fay")) == [("Flo", "Ada"), ("Fay", "Flo")]
    assert chain(client.call("kg_path", source="Di", target="Ada")) == [("Cy", "Di"), ("Bo", "Cy"), ("Ada", "Bo")]


def test_a_chain_is_no_longer_than_it_may_be(client: Client) -> None:
    names = [f"n{number}" for number in range(8)]
    link(client, *names)
    assert len(chain(client.call("kg_path", source="n0", target="n6"))) == 6
    for arguments in ({"target": "n7"}, {"target": "n4", "max_hops": 3}):
        answer = client.call("kg_path", source="n0", **arguments)
        assert (answer["found"], answer["facts"], answer["truncated"]) == (False, [], False)
    same = client.call("kg_path", source="n3", target="n3")
    assert (same["found"], same["hops"]) == (True, 0)


def test_only_what_held_at_the_date_leads_on(client: Client) -> None:
    link(client, "Ada", "Acme", valid_from="2020-01-01", valid_to="2021-12-31")
    link(client, "Acme", "Bo", valid_from="2021-06-01")
    assert client.call("kg_path", source="Ada", target="Bo")["hops"] == 2
    assert client.call("kg_path", source="Ada", target="Bo", as_of="2021-07-01")["hops"] == 2
    for date in ("2020-05-01", "2023-05-01"):
        assert client.call("kg_path", source="Ada", target="Bo", as_of=date)["found"] is False
    assert client.call("kg_path", source="Ada", target="Bo", known_at="2019-01-01")["found"] is False


def test_a_fact_that_was_taken_back_leads_nowhere_but_for_those_who_ask_what_was_known(client: Client) -> None:
    link(client, "Ada", "Bo")
    known_at = client.call("kg_query", entity="Ada")["facts"][0]["recorded_at"]
    client.call("kg_invalidate", subject="Ada", predicate="knows", object="Bo", retract=True)
    assert client.call("kg_path", source="Ada", target="Bo")["found"] is False
    assert client.call("kg_path", source="Ada", target="Bo", known_at=known_at)["found"] is True


def test_a_hub_is_crossed_even_if_not_all_around_it_is_visited(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_paths, "MAX_VISITED", 5)
    for number in range(12):
        link(client, "hub", f"leaf {number}")
    link(client, "Ada", "hub")
    link(client, "leaf 9", "far", "farther")
    assert client.call("kg_path", source="Ada", target="leaf 11")["hops"] == 2
    answer = client.call("kg_path", source="Ada", target="farther")
    assert (answer["found"], answer["truncated"]) == (False, True)


def test_an_unknown_entity_is_answered_with_names_like_it(client: Client) -> None:
    link(client, "Ada Lovelace", "Bo")
    answer = client.call("kg_path", source="Ada", target="Bo")
    assert (answer["source"], answer["target"], answer["found"]) == (None, "Bo", False)
    assert answer["suggestions"] == ["Ada Lovelace"]


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"source": ""}, "source"),
        ({"target": "a\0"}, "target"),
        ({"target": "x" * 200}, "target"),
        ({"as_of": "soon"}, "as_of"),
        ({"known_at": "5/8/2024"}, "known_at"),
        ({"max_hops": 7}, "max_hops"),
    ],
)
def test_refused_questions(client: Client, changes: dict[str, Any], argument: str) -> None:
    assert client.refuse("kg_path", **{"source": "Ada", "target": "Bo", **changes})["argument"] == argument
