"""Single messages over every transport: handshakes, what is offered and what is not, what is no message at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance.conftest import TRANSPORTS, Target
from tests.daemon.support import bridge
from tests.server.clients import (
    HANDSHAKE_REVISIONS,
    INITIALIZED,
    MODERN_REVISION,
    RawHttp,
    Response,
    SseClient,
    initialize,
    modern,
    request,
)

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


@dataclass(frozen=True)
class Wire:
    """`ask` sends a message and returns the next one that comes; `tell` sends one that wants no answer."""

    ask: Callable[[Any], dict[str, Any]]
    tell: Callable[[Any], object]


OPTIONAL = {
    "tools": request(1, "tools/list"),
    "prompts": request(1, "prompts/list"),
    "resources": request(1, "resources/templates/list"),
    "resources.subscribe": request(1, "resources/subscribe", uri="palace://w"),
    "completions": request(
        1, "completion/complete", ref={"type": "ref/prompt", "name": "recall"}, argument={"name": "wing", "value": ""}
    ),
    "logging": request(1, "logging/setLevel", level="info"),
    "tasks": request(1, "tasks/list"),
}
"""A request that every server answers that declares the capability, and no other one."""

NOBODYS = ("roots/list", "sampling/createMessage", "elicitation/create", "tools/lists", "tools", "")
REMOVED = ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")

MALFORMED = [
    (b"{", PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{]}', PARSE_ERROR, 7),
    (b"\xff\xfe", PARSE_ERROR, None),
    (b'"ping"', INVALID_REQUEST, None),
    ({"id": 1, "method": "ping"}, INVALID_REQUEST, 1),
    ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, INVALID_REQUEST, 1),
    ({"jsonrpc": "2.0", "id": "a", "method": 5}, INVALID_REQUEST, "a"),
    ({"jsonrpc": "2.0", "id": None, "method": "ping"}, INVALID_REQUEST, None),
    ({"jsonrpc": "2.0", "id": 1}, INVALID_REQUEST, 1),
    ({"jsonrpc": "2.0", "id": 1, "method": "prompts/list", "params": []}, INVALID_PARAMS, 1),
    (request(1, "prompts/get"), INVALID_PARAMS, 1),
    (request(1, "resources/read", uri=5), INVALID_PARAMS, 1),
]


NO_REQUESTS = [
    INITIALIZED,
    {"jsonrpc": "2.0", "method": "notifications/of/nobody"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}},
    {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
    {"jsonrpc": "2.0", "id": 99, "result": {}},
    {"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "?"}},
]


@contextmanager
def session(target: Target, transport: str) -> Iterator[Wire]:
    """A new session without a handshake, as far as the transport has sessions."""
    if transport == "http":
        with RawHttp(target.port) as http:
            yield Wire(lambda message: post(http, message).json, lambda message: post(http, message))
    elif transport == "sse":
        with SseClient(target.port) as sse:
            yield Wire(sse.ask, sse.post)
    else:
        with bridge(target.palace, *target.options(transport), package=target.package) as client:
            yield Wire(
                lambda message: client.ask(message + b"\n" if isinstance(message, bytes) else message), client.send
            )


def post(http: RawHttp, message: Any) -> Response:
    """What comes of it over HTTP, with the headers of the later revision if the message is one of it."""
    headers = {}
    if isinstance(message, dict) and "_meta" in (message.get("params") or {}):
        headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": message["method"]}
    return http.ask("POST", "/mcp", message, headers)


@pytest.fixture(scope="module", params=TRANSPORTS)
def greeted(request: pytest.FixtureRequest, target: Target) -> Iterator[tuple[Wire, dict[str, Any]]]:
    """A session after its handshake, one for all tests, and the capabilities that it was told of."""
    with session(target, request.param) as wire:
        yield wire, wire.ask(initialize())["result"]["capabilities"]


@pytest.mark.parametrize("transport", ["http", "sse", "bridge"])
def test_every_revision_is_agreed_on(target: Target, transport: str) -> None:
    for revision in (*HANDSHAKE_REVISIONS, "2031-01-01"):
        with session(target, transport) as wire:
            agreed = wire.ask(initialize(revision))["result"]["protocolVersion"]
            assert agreed == (revision if revision in HANDSHAKE_REVISIONS else HANDSHAKE_REVISIONS[-1])
            assert wire.ask(request(2, "ping")) == {"jsonrpc": "2.0", "id": 2, "result": {}}


def test_what_is_declared_is_served_and_nothing_else(greeted: tuple[Wire, dict[str, Any]]) -> None:
    wire, declared = greeted
    for capability, message in OPTIONAL.items():
        name, _, part = capability.partition(".")
        if declared.get(name, {}).get(part) if part else name in declared:
            assert "result" in wire.ask(message), capability
        else:
            assert wire.ask(message)["error"]["code"] == METHOD_NOT_FOUND, capability
    for method in NOBODYS:
        assert wire.ask(request("x", method))["error"]["code"] == METHOD_NOT_FOUND, method


def test_what_is_no_message_is_refused_and_the_session_goes_on(greeted: tuple[Wire, dict[str, Any]]) -> None:
    wire, _ = greeted
    for message, code, number in MALFORMED:
        answer = wire.ask(message)
        assert (answer["error"]["code"], answer["id"]) == (code, number), message
        assert answer["error"]["message"]
    assert wire.ask(request("next", "ping"))["result"] == {}


def test_the_revision_without_a_handshake_serves_what_it_declares(target: Target) -> None:
    for transport in ("http", "sse", "bridge"):
        with session(target, transport) as wire:
            discovered = wire.ask(modern(request(1, "server/discover")))["result"]
            assert discovered["supportedVersions"] == [MODERN_REVISION]
            for capability in ("tools", "prompts", "resources", "completions"):
                assert capability in discovered["capabilities"]
                assert wire.ask(modern(OPTIONAL[capability]))["result"]["resultType"] == "complete"
            for method in (*REMOVED, *NOBODYS):
                error = wire.ask(modern(request(1, method)))["error"]
                assert error["code"] == METHOD_NOT_FOUND, (transport, method, error)


def test_nothing_answers_what_is_no_request(greeted: tuple[Wire, dict[str, Any]]) -> None:
    wire, _ = greeted
    for message in NO_REQUESTS:
        wire.tell(message)
    assert wire.ask(request("next", "ping")) == {"jsonrpc": "2.0", "id": "next", "result": {}}


def test_blanks_around_the_value_of_a_header_are_no_part_of_it(target: Target) -> None:
    headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": " tools/call\t", "Mcp-Name": "\t kg_stats  "}
    message = modern(request(1, "tools/call", name="kg_stats", arguments={}))
    with RawHttp(target.port) as http:
        answer = http.ask("POST", "/mcp", message, {**headers, "Host": "localhost \t"})
        assert answer.status == 200, answer.body
        assert http.ask("POST", "/mcp", message, {**headers, "Mcp-Name": "kg stats"}).status == 400
