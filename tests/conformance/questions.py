"""Answers that need something of the client first, as the revision 2026-07-28 asks for it: by a result of its own."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ClientCapabilities, InputRequiredResult

_SECRET = b"of the fixtures"

Questions = Mapping[str, Mapping[str, Any]]
"""What is asked in one round, by the key of the answer."""


def _form(message: str, **fields: str) -> Mapping[str, Any]:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def _sample(told: str) -> Mapping[str, Any]:
    message = {"role": "user", "content": {"type": "text", "text": told}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


_ROOTS: Mapping[str, Any] = MappingProxyType({"method": "roots/list", "params": {}})
_NAME = _form("What is your name?", name="string")
_CONFIRM = _form("Please confirm", ok="boolean")

ROUNDS: Mapping[str, Sequence[Questions]] = MappingProxyType(
    {
        "test_input_required_result_elicitation": [{"user_name": _NAME}],
        "test_input_required_result_sampling": [{"capital_question": _sample("What is the capital of France?")}],
        "test_input_required_result_list_roots": [{"client_roots": _ROOTS}],
        "test_input_required_result_request_state": [{"confirm": _CONFIRM}],
        "test_input_required_result_multiple_inputs": [
            {"user_name": _NAME, "greeting": _sample("Generate a greeting"), "client_roots": _ROOTS}
        ],
        "test_input_required_result_multi_round": [
            {"step1": _form("Step 1: What is your name?", name="string")},
            {"step2": _form("Step 2: What is your favorite color?", color="string")},
        ],
        "test_input_required_result_tampered_state": [{"confirm": _CONFIRM}],
        "test_input_required_result_capabilities": [{"user_name": _NAME, "greeting": _sample("Generate a greeting")}],
        "test_streaming_elicitation": [{"user_name": _NAME}],
        "test_input_required_result_prompt": [{"user_context": _form("Which context?", context="string")}],
    }
)
"""What each tool or prompt asks, round by round, before it answers."""


def next_question(
    name: str, answers: Mapping[str, Any] | None, state: str | None, client: ClientCapabilities | None
) -> InputRequiredResult | None:
    """What is still to be asked; None when everything is answered.

    Raises:
        MCPError: the state is not the one that was handed out.
    """
    rounds = ROUNDS.get(name, ())
    current = 0 if state is None else _read(name, state)
    if current < len(rounds) and rounds[current].keys() <= (answers or {}).keys():
        current += 1
    if current >= len(rounds):
        return None
    asked = {key: question for key, question in rounds[current].items() if _is_declared(question["method"], client)}
    return InputRequiredResult.model_validate({"inputRequests": asked, "requestState": _write(name, current)})


def _is_declared(method: str, client: ClientCapabilities | None) -> bool:
    return getattr(client, method.partition("/")[0], None) is not None


def _write(name: str, current: int) -> str:
    seal = hmac.new(_SECRET, f"{name} {current}".encode(), hashlib.sha256).hexdigest()
    return f"{current}.{seal}"


def _read(name: str, state: str) -> int:
    number = state.partition(".")[0]
    if not number.isdecimal() or not hmac.compare_digest(state.encode(), _write(name, int(number)).encode()):
        raise MCPError(code=INVALID_PARAMS, message="requestState is not what was handed out")
    return int(number)
