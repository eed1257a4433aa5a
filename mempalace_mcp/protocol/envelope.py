"""A JSON-RPC message as it arrives: well-formed, or refused with as much of an answer as can be given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.protocol.lines import MAX_MESSAGE_BYTES, Overlong
from mempalace_mcp.protocol.strict_json import (
    Fault,
    decode,
    find_fault,
    load,
    recover_id,
    recover_last_id,
    show_path,
)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602

CALL = "tools/call"
_ARGUMENTS = ("params", "arguments")


@dataclass(frozen=True, slots=True)
class Message:
    """A well-formed message. A tool call whose arguments are at fault is one too: `fault` says what is wrong with
    them, and in `content` they are left out, so that it is answered as every refused tool call is."""

    content: dict[str, Any]
    fault: InvalidArgument | None = None


Id = str | int | float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why bytes are no message; `id` is None when it cannot be told. Of a batch, `batch` has the requests' ids."""

    code: int
    message: str
    id: Id = None
    batch: tuple[Id, ...] = ()

    def answer(self) -> bytes:
        """The JSON-RPC error that answers it, or an array of one for each request of a batch; without a newline."""
        content = [self._error(each) for each in self.batch] if self.batch else self._error(self.id)
        return json.dumps(content, separators=(",", ":")).encode()

    def _error(self, request_id: Id) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": request_id, "error": {"code": self.code, "message": self.message}}


def read_message(data: bytes | Overlong) -> Message | Refusal:
    """Read one message, strictly."""
    if isinstance(data, Overlong):
        return _refuse_overlong(data)
    try:
        content, fault = load(data)
    except ValueError as error:
        return Refusal(PARSE_ERROR, f"the message is not JSON that can be read: {error}", recover_id(decode(data)))
    if isinstance(content, list):
        return _refuse_batch(content)
    if not isinstance(content, dict):
        return Refusal(INVALID_REQUEST, "a message is a JSON object")
    return _verify(content, fault)


def _refuse_batch(messages: list[Any]) -> Refusal:
    """Only revision 2025-03-26 knew batches; whoever sends one shall not wait for any of its answers."""
    requests = [each for each in messages if isinstance(each, dict) and "method" in each]
    ids = tuple(found for each in requests if (found := _answerable_id(each)) is not None)
    return Refusal(INVALID_REQUEST, "batches are not served: send one message at a time", batch=ids)


def _refuse_overlong(line: Overlong) -> Refusal:
    request_id = recover_id(decode(line.head))
    if request_id is None:
        request_id = recover_last_id(decode(line.tail))
    return Refusal(
        INVALID_REQUEST, f"the message is longer than {MAX_MESSAGE_BYTES:,} bytes: send less at a time", request_id
    )


def _verify(content: dict[str, Any], fault: Fault | None) -> Message | Refusal:
    problem = _envelope_problem(content)
    if problem is not None:
        return Refusal(INVALID_REQUEST, problem, _answerable_id(content))
    if content.get("method") == CALL and "id" in content:
        return _verify_call(content, fault)
    if fault is not None:
        return Refusal(INVALID_REQUEST, _describe(fault), _answerable_id(content))
    if not isinstance(content.get("params"), dict | None):
        return Refusal(INVALID_PARAMS, "params must be an object", _answerable_id(content))
    return Message(content)


def _envelope_problem(content: dict[str, Any]) -> str | None:
    if content.get("jsonrpc") != "2.0":
        return 'jsonrpc must be "2.0"'
    if _is_response(content):
        return _response_problem(content)
    if "id" in content and not _is_id(content["id"]):
        return "id must be a string or a 64-bit integer"
    if "method" in content:
        return None if isinstance(content["method"], str) else "method must be a string"
    return "there is no method"


def _response_problem(content: dict[str, Any]) -> str | None:
    """What would end the session if the SDK had to read it."""
    if "result" in content:
        if not _is_id(content.get("id")):
            return "a result has the id of its request"
        return None if isinstance(content["result"], dict) else "result must be an object"
    error = content["error"]
    if not _is_id(content.get("id")) and content.get("id", "") is not None:
        return "an error has the id of its request, or null"
    if isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str):
        return None
    return "error must be an object with a code and a message"


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_response(content: dict[str, Any]) -> bool:
    return "method" not in content and ("result" in content or "error" in content)


def _answerable_id(content: dict[str, Any]) -> Id:
    """A response carries an id of this side's numbering: answering it would answer another request of the client."""
    value = content.get("id")
    if _is_response(content) or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return value


def _verify_call(content: dict[str, Any], fault: Fault | None) -> Message | Refusal:
    params = {} if content.get("params") is None else content["params"]
    if not isinstance(params, dict):
        return _refused_call(content, {}, _invalid("params must be an object with name and arguments", "params"))
    if fault is not None:
        emptied = {**content, "params": {**params, "arguments": {}}}
        elsewhere = find_fault(emptied)
        if elsewhere is not None:
            return Refusal(INVALID_REQUEST, _describe(elsewhere), _answerable_id(content))
        return _refused_call(content, params, _fault_of_argument(fault))
    if not isinstance(params.get("name"), str):
        return _refused_call(content, params, _invalid("name must be the name of a tool", "name"))
    if not isinstance(params.get("arguments"), dict | None):
        return _refused_call(content, params, _invalid("arguments must be an object", "arguments"))
    return Message(content)


def _refused_call(content: dict[str, Any], params: dict[str, Any], fault: InvalidArgument) -> Message:
    name = params.get("name")
    kept = {**params, "name": name if isinstance(name, str) else "", "arguments": {}}
    return Message({**content, "params": kept}, fault)


def _fault_of_argument(fault: Fault) -> InvalidArgument:
    argument = show_path(fault.path[len(_ARGUMENTS) :]) or "arguments"
    return _invalid(f"{argument}: {fault.reason}", argument)


def _invalid(message: str, argument: str) -> InvalidArgument:
    return InvalidArgument(message, argument=argument, hint="Correct it and call again; nothing was done.")


def _describe(fault: Fault) -> str:
    return f"{show_path(fault.path) or 'the message'}: {fault.reason}"
