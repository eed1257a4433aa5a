"""Messages of the protocol, right and nearly right, and what every reader must at least understand of them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.fuzz.support import any_json, any_text, compact, damage
from tests.server.clients import INITIALIZED, call, initialize, modern, request

METHODS = (
    "ping", "initialize", "tools/list", "tools/call", "resources/list", "resources/read", "resources/templates/list",
    "resources/subscribe", "resources/unsubscribe", "prompts/list", "prompts/get", "completion/complete",
    "logging/setLevel", "server/discover", "sampling/createMessage", "tasks/get", "rpc.discover", "",
)  # fmt: skip

URIS = (
    "palace://",
    "palace://w",
    "palace://w/r",
    "palace://w/r/d_1",
    "palace://%ff",
    "palace://a/b/c/d",
    "file:///etc",
)

REQUESTS = (
    initialize(),
    request(0, "ping"),
    request(0, "tools/list"),
    modern(request(0, "server/discover")),
    modern(call(0, "get_taxonomy")),
    call(0, "get_taxonomy"),
    call(0, "search", query="tea", mode="keyword"),
    call(0, "search", query="\ud800"),
    call(0, "kg_query", entity="Ada"),
    call(0, "list_drawers", limit=2, cursor="AAAA"),
    call(0, "no_such_tool", a=1),
    call(0, "kg_add", subject="Ada", predicate="drinks", object="tea"),
)
"""Cheap ones: what tools make of their arguments has a test of its own."""

_PARAMETERS = ("uri", "name", "cursor", "level", "arguments", "_meta", "ref", "argument", "protocolVersion")


def some_message(dice: Random, number: int) -> dict[str, Any]:
    """A request under that number, or something that nobody answers."""
    kind = dice.random()
    if kind < 0.5:
        return {**dice.choice(REQUESTS), "id": number}
    if kind < 0.8:
        method = dice.choice((*METHODS, any_text(dice)))
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": _some_parameters(dice)}
    if kind < 0.9:
        meant = {"requestId": dice.choice((number - 1, str(number), None, any_json(dice)))}
        return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": meant}
    return dice.choice((INITIALIZED, {"jsonrpc": "2.0", "id": number, "result": any_json(dice)}))


def _some_parameters(dice: Random) -> Any:
    if dice.random() < 0.2:
        return any_json(dice)
    names = dice.sample(_PARAMETERS, dice.randint(0, 3))
    return {name: dice.choice((any_json(dice), any_text(dice), dice.choice(URIS))) for name in names}


def some_line(dice: Random, number: int) -> bytes:
    """One line, whose id is the number if it is a request and not damaged there."""
    return damage(dice, compact(some_message(dice, number))).replace(b"\n", b" ")


def certain_id(line: bytes) -> str | int | None:
    """The id under which a line must be answered, if any reader of JSON can tell that it is a request."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        return None
    value = message.get("id")
    if isinstance(value, str):
        return value if value.isprintable() else None
    return value if type(value) is int and abs(value) < 2**63 else None
