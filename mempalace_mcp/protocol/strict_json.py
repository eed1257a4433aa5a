"""JSON read strictly: what cannot be kept as it was sent is found and named, never replaced.

The standard library turns 1e400 into infinity, accepts NaN and lone surrogates, and recurses as deep as its input.
Here each of these is a fault with a place. Duplicate keys are tolerated; the last one counts.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

MAX_DEPTH = 128
MAX_VALUES = 100_000
"""In one text. Reading it holds up everybody else: 16 MiB of `[],[],` would for seconds, so many values for 0.1 s."""

_INTEGER_DIGITS = 19
_INTEGERS = range(-(2**63), 2**63)

STRING = r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
"""A string literal, or the rest of the text if it has no end: so one pass over any text takes linear time."""

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
    """What cannot be kept, and where it stands."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Takes the place of a number that cannot be kept."""

    reason: str


def load(data: bytes) -> tuple[Any, Fault | None]:
    """The value, and the first fault in it if there is one. The value is as sent when there is none.

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
    """The text; bytes that are not UTF-8 become lone surrogates, which `find_fault` finds."""
    return data.decode("utf-8", "surrogateescape")


def find_fault(value: Any, path: Path = ()) -> Fault | None:
    """The first thing in the value that cannot be kept."""
    if isinstance(value, str):
        return _text_fault(value, path)
    if isinstance(value, dict):
        pairs = ((_text_fault(key, path) or find_fault(item, (*path, key))) for key, item in value.items())
        return next(filter(None, pairs), None)
    if isinstance(value, list):
        return next(filter(None, (find_fault(item, (*path, index)) for index, item in enumerate(value))), None)
    return Fault(path, value.reason) if isinstance(value, _Unfit) else None


def show_path(path: Path) -> str:
    """The path as people write it: `items[2].content`; long keys are cut."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in path).removeprefix(".")


def recover_id(text: str) -> str | int | None:
    """The top-level `id` of a message that could not be read, or None when it cannot be told for certain."""
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
    """The `id` of a message of which only the end is known, if it stands last."""
    found = _LAST_ID.search(text, max(0, len(text) - 2_000))
    return None if found is None else _scalar(found.group(1))


def _scalar(literal: str) -> str | int | None:
    try:
        value = json.loads(literal)
    except ValueError:
        return None
    return value if isinstance(value, (str, int)) else None


class _Numbers:
    """Reads numbers and notes whether one of them was unfit."""

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
        culprit = text[error.start]
        if "\udc80" <= culprit <= "\udcff":
            return Fault(path, f"a byte that is not UTF-8 or a lone surrogate stands at position {error.start}")
        return Fault(path, f"a lone surrogate stands at position {error.start}, which no UTF-8 text can hold")
    return None


def _verify_extent(text: str) -> None:
    """Refuse what would take long to read, in a fraction of that time."""
    if text.count("[") + text.count("{") <= MAX_DEPTH and text.count(",") <= MAX_VALUES - MAX_DEPTH:
        return
    rest, strings = _STRING.subn("", text, 2 * MAX_VALUES + 1)
    bare = rest.encode("utf-8", "surrogateescape").translate(None, _NOT_STRUCTURE)
    if strings > 2 * MAX_VALUES or sum(map(bare.count, (b",", b"[", b"{"))) > MAX_VALUES:  # a value may have a key
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    brackets = bare.translate(None, b",")
    if any(depth > MAX_DEPTH for depth in accumulate(map(_STEPS.__getitem__, brackets))):
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
