"""`GET /api/history`, and what of the calls through real transports it tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from mempalace_mcp.runtime.activity import describe_history
from mempalace_mcp.server.http import build_http
from tests.server.clients import call, initialize
from tests.server.echo_services import EchoServices, echo_services
from tests.server.stream import served

ACCEPTED = {"Accept": "application/json, text/event-stream"}
SECRET = "what nobody else should read"


@pytest.fixture(scope="module")
def services() -> Iterator[EchoServices]:
    with echo_services() as services:
        yield services


@pytest.fixture(scope="module")
def client(services: EchoServices) -> Iterator[TestClient]:
    """A client that has called each tool once."""
    with TestClient(build_http(services), base_url="http://localhost") as client:
        for tool, arguments in (("echo", {}), ("echo", {"text": SECRET}), ("refuse", {}), ("fail", {}), (SECRET, {})):
            assert client.post("/mcp", json=call(1, tool, **arguments), headers=ACCEPTED).status_code == 200
        yield client


def told(client: TestClient, query: str = "") -> dict[str, Any]:
    response = client.get(f"/api/history{query}")
    assert response.status_code == 200
    page: dict[str, Any] = response.json()
    return page


def test_exceptions_decide_the_outcomes_and_no_contents_are_told(client: TestClient) -> None:
    page = told(client)
    outcomes = [(each["tool"], each["outcome"]) for each in page["calls"]]
    expected = [("echo", "ok"), ("echo", "ok"), ("refuse", "refused"), ("fail", "error"), ("unknown", "refused")]
    assert outcomes == expected[::-1]
    assert page["sessions"][0]["transport"] == "http"
    assert SECRET not in json.dumps(page)
    assert "secret detail" not in json.dumps(page)


def test_pages(client: TestClient) -> None:
    first = told(client, "?limit=3")
    rest = told(client, f"?limit=3&cursor={first['next_cursor']}")
    assert (first["count"], rest["count"], rest["next_cursor"]) == (3, 2, None)
    assert told(client, "?session=1")["total"] == 5
    assert told(client, "?limit=0&session=0") == told(client)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?limit=0.5", "limit cannot be '0.5'"),
        ("?limit=101", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=ten", "limit cannot be 'ten'"),
        ("?limit=1.5", "limit"),
        ("?limit=" + "9" * 5000, "limit"),
        ("?limit=٣", "limit"),
        ("?limit=1&limit=2", "limit is given twice"),
        ("?session=-1", "session"),
        ("?session=x", "session"),
        ("?cursor=nonsense", "cursor is not a cursor"),
        ("?curser=x", "curser is not a known argument"),
        ("?%ff=1", "is not a known argument"),
    ],
)
def test_wrong_parameters_are_named(client: TestClient, query: str, named: str) -> None:
    response = client.get(f"/api/history{query}")
    assert response.status_code == 400
    message = response.json()["error"]
    assert named in message
    assert message.endswith((".", "?"))
    assert len(message) < 500


def test_a_session_that_is_not_there_is_404(client: TestClient) -> None:
    response = client.get("/api/history?session=99")
    assert response.status_code == 404
    assert "session 99" in response.json()["error"]


def test_the_guards_of_all_routes_stand_before_it(client: TestClient) -> None:
    assert client.get("/api/history", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/api/history", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/api/history").status_code == 405


async def test_a_client_that_shook_hands_is_shown_by_its_name(services: EchoServices) -> None:
    async with served(services) as wire:
        await wire.greet()
        assert (await wire.ask(call(1, "echo")))["id"] == 1
        page = describe_history(services.activity, session=wire.activity.number, limit=1, cursor=None)
    assert page["sessions"][0]["client"] == initialize()["params"]["clientInfo"]["name"]


def test_lowering_the_limit_is_seen_at_once(client: TestClient, services: EchoServices) -> None:
    before = services.activity.history_limit
    services.activity.history_limit = 2
    page = told(client)
    services.activity.history_limit = before
    assert (page["count"], page["total"], page["history_limit"]) == (2, 2, 2)
    assert sum(page["sessions"][0]["outcomes"].values()) == 5
