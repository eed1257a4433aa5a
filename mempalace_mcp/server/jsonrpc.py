"""JSON-RPC 2.0 over strict JSON: reads a message or refuses it, and writes responses.

The standard library turns 1e400 into infinity, accepts NaN and lone surrogates, and recurses as deep as its input. Here
each of these is a fault with a path. Of duplicate keys the last one counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES, Overlong

MAX_DEPTH = 128
MAX_VALUES = 100_000
"""In one message. Reading blocks the event loop: 16 MiB of `[],[],` take seconds, this many values 0.1 s."""

_INTEGER_DIGITS = 19
_INTEGERS = range(-(2**63), 2**63)

STRING = r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
"""A string literal, or the rest of the text if it is not closed: a pass over any text takes linear time."""

_STRING = re.compile(STRING, re.DOTALL)
_TOKEN = re.compile(STRING + r"|[\[\]{}]", re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b"[]{},")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_ID = re.compile(r'\s*:\s*("(?:[^"\\]|\\.)*"|-?\d{1,19})\s*[,}]', re.DOTALL)
_LAST_ID = re.compile(
    r'[{,]\s*"id"\s*:\s*("(?:[^"\\]|\\.){0,1000}"|-?\d{1,19})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z', re.DOTALL
)
_TOKENS_SEARCHED = 200_000

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A value that cannot be stored as it was sent, and its path."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Replaces a number that cannot be stored."""

    reason: str


def load(data: bytes) -> tuple[Any, Fault | None]:
    """The value, and its first fault if there is one. Without a fault the value is exactly what was sent.

    Raises:
        ValueError: it is not JSON, is nested too deeply or holds too many values; the message says which.
    """
    try:
        text, clean = data.decode("utf-8"), True
    except UnicodeDecodeError:
        text, clean = decode(data), False
    _verify_extent(text)
    numbers = _Numbers()
    value = json.loads(text, parse_float=numbers.real, parse_int=numbers.integer, parse_constant=numbers.constant)
    suspicious = numbers.unfit or not clean or _SURROGATE_ESCAPE.search(text)
    return value, find_fault(value) if suspicious else None


def decode(data: bytes) -> str:
    """The text. Bytes that are not UTF-8 become lone surrogates, which `find_fault` finds."""
    return data.decode("utf-8", "surrogateescape")


def find_fault(value: Any, path: Path = ()) -> Fault | None:
    """The first fault in the value."""
    if isinstance(value, str):
        return _text_fault(value, path)
    if isinstance(value, dict):
        pairs = ((_text_fault(key, path) or find_fault(item, (*path, key))) for key, item in value.items())
        return next(filter(None, pairs), None)
    if isinstance(value, list):
        return next(filter(None, (find_fault(item, (*path, index)) for index, item in enumerate(value))), None)
    return Fault(path, value.reason) if isinstance(value, _Unfit) else None


def format_path(path: Path) -> str:
    """The path as in `items[2].content`; long keys are cut."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in path).removeprefix(".")


def recover_id(text: str) -> str | int | None:
    """The top-level `id` of a message that is not JSON, or None when it is not certain."""
    depth = 0
    for token in islice(_TOKEN.finditer(text), _TOKENS_SEARCHED):
        match token.group():
            case "{" | "[":
                depth += 1
            case "}" | "]":
                depth -= 1
            case '"id"' if depth == 1 and (found := _ID.match(text, token.end())):
                return _scalar(found.group(1))
    return None


def recover_last_id(text: str) -> str | int | None:
    """The `id` of a message of which only the end is known, if it is the last key there."""
    found = _LAST_ID.search(text, max(0, len(text) - 2_000))
    return None if found is None else _scalar(found.group(1))


def _scalar(literal: str) -> str | int | None:
    try:
        value = json.loads(literal)
    except ValueError:
        return None
    return value if isinstance(value, (str, int)) else None


class _Numbers:
    """Parses numbers. `unfit` is true once one of them could not be stored."""

    def __init__(self) -> None:
        self.unfit = False

    def real(self, literal: str) -> float | _Unfit:
        value = float(literal)
        return value if math.isfinite(value) else self._refuse(f"{_shorten(literal)} is too large for a number")

    def integer(self, literal: str) -> int | _Unfit:
        if len(literal) <= _INTEGER_DIGITS + 1 and (value := int(literal)) in _INTEGERS:
            return value
        return self._refuse(f"{_shorten(literal)} is too large for a 64-bit integer")

    def constant(self, literal: str) -> _Unfit:
        return self._refuse(f"{literal} is not JSON")

    def _refuse(self, reason: str) -> _Unfit:
        self.unfit = True
        return _Unfit(reason)


def _shorten(literal: str) -> str:
    return literal if len(literal) <= 24 else f"{literal[:20]}..."


def _text_fault(text: str, path: Path) -> Fault | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        character = text[error.start]
        if "\udc80" <= character <= "\udcff":
            return Fault(path, f"a byte that is not UTF-8 or a lone surrogate stands at position {error.start}")
        return Fault(path, f"a lone surrogate stands at position {error.start}, which no UTF-8 text can hold")
    return None


def _verify_extent(text: str) -> None:
    """Refuse a text that would take long to parse, in a fraction of that time."""
    if text.count("[") + text.count("{") <= MAX_DEPTH and text.count(",") <= MAX_VALUES - MAX_DEPTH:
        return
    rest, strings = _STRING.subn("", text, 2 * MAX_VALUES + 1)
    bare = rest.encode("utf-8", "surrogateescape").translate(None, _NOT_STRUCTURE)
    if strings > 2 * MAX_VALUES or sum(map(bare.count, (b",", b"[", b"{"))) > MAX_VALUES:  # a value may have a key
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    brackets = bare.translate(None, b",")
    if any(depth > MAX_DEPTH for depth in accumulate(map(_STEPS.__getitem__, brackets))):
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000

CALL = "tools/call"
_ARGUMENTS = ("params", "arguments")


@dataclass(frozen=True, slots=True)
class Message:
    """A well-formed message.

    A call of a tool with a fault in its arguments is well-formed, too, since it is answered like any other refused
    call. `fault` is then the refusal, and the arguments in `content` are empty.
    """

    content: dict[str, Any]
    fault: InvalidArgument | None = None


Id = str | int | float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why bytes are no message. `id` is None when it is unknown; `batch` has the ids of the requests of a batch."""

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
    """Only revision 2025-03-26 had batches. Every request of a batch is answered, so that no client waits."""
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
    problem = _message_problem(content)
    if problem is not None:
        return Refusal(INVALID_REQUEST, problem, _answerable_id(content))
    if content.get("method") == CALL and "id" in content:
        return _verify_call(content, fault)
    if fault is not None:
        return Refusal(INVALID_REQUEST, _format_fault(fault), _answerable_id(content))
    if not isinstance(content.get("params"), dict | None):
        return Refusal(INVALID_PARAMS, "params must be an object", _answerable_id(content))
    return Message(content)


def _message_problem(content: dict[str, Any]) -> str | None:
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
    """The problem of a response that would end the session if the SDK read it."""
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
    """The id to answer. None for a response: its id may be that of another request of the client."""
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
            return Refusal(INVALID_REQUEST, _format_fault(elsewhere), _answerable_id(content))
        return _refused_call(content, params, _refusal_of_argument(fault))
    if not isinstance(params.get("name"), str):
        return _refused_call(content, params, _invalid("name must be the name of a tool", "name"))
    if not isinstance(params.get("arguments"), dict | None):
        return _refused_call(content, params, _invalid("arguments must be an object", "arguments"))
    return Message(content)


def _refused_call(content: dict[str, Any], params: dict[str, Any], fault: InvalidArgument) -> Message:
    name = params.get("name")
    emptied = {**params, "name": name if isinstance(name, str) else "", "arguments": {}}
    return Message({**content, "params": emptied}, fault)


def _refusal_of_argument(fault: Fault) -> InvalidArgument:
    argument = format_path(fault.path[len(_ARGUMENTS) :]) or "arguments"
    return _invalid(f"{argument}: {fault.reason}", argument)


def _invalid(message: str, argument: str) -> InvalidArgument:
    return InvalidArgument(message, argument=argument, hint="Correct it and call again; nothing was done.")


def _format_fault(fault: Fault) -> str:
    return f"{format_path(fault.path) or 'the message'}: {fault.reason}"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a request, and the same in JSON. Long ones are encoded in the thread that formed them."""

    content: Mapping[str, Any]
    encoded: bytes

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Result:
        """The result with that content."""
        return cls(content, encode(content))


@dataclass(frozen=True, slots=True)
class Error:
    """The error that answers a request: its `code`, its `message` and perhaps `data`."""

    content: Mapping[str, Any]


def encode(content: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8."""
    return _ENCODER.encode(content).encode()


def encode_response(request_id: str | int, answer: Result | Error) -> bytes:
    """The response to a request, without a newline."""
    if isinstance(answer, Error):
        return encode({"jsonrpc": "2.0", "id": request_id, "error": answer.content})
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (json.dumps(request_id).encode(), answer.encoded)
