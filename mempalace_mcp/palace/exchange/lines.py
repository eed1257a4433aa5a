"""The lines of an export: a head, then one JSON object a line, each with its kind and the fields of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mempalace_mcp.core import clock, ids, text
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.storage.export_kinds import FACT, KINDS, Field, Form, Kind, Values
from mempalace_mcp.storage.rows import write_metadata

FORMAT = "mempalace-export"
VERSION = 1
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. A megabyte of text, escaped character by character, is six."""

_LARGEST = 2**63
_AHEAD = 3_660 * clock.DAY
"""By so much another palace's clock may be ahead: this one's own times never lie before those that it stores."""

_KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in KINDS})


@dataclass(frozen=True, slots=True)
class Head:
    """The first line: how many records of each kind follow, of which wings (None: all), and which model the vectors of
    the palace are of, if it has any."""

    counts: Mapping[str, int]
    wings: tuple[str, ...] | None = None
    model: Mapping[str, Any] | None = None


class WrongLine(Exception):
    """Raised with the reason why a line is no record."""


def write_head(head: Head) -> str:
    """The head as a line."""
    wings = None if head.wings is None else list(head.wings)
    return _line({"format": FORMAT, "version": VERSION, "wings": wings, "model": head.model, "counts": head.counts})


def write_record(kind: Kind, values: Values) -> str:
    """A record as a line."""
    shown = {field.name: _shown(field, values[field.name]) for field in kind.fields}
    return _line({"kind": kind.name, **shown})


def read_head(line: bytes) -> Head | None:
    """The head of an export; None if the line is not one.

    Raises:
        InvalidArgument: the file is of a later version of the format, or its head is damaged.
    """
    try:
        head = _object(line)
    except WrongLine:
        return None
    if head.get("format") != FORMAT:
        return None
    if head.get("version") != VERSION:
        raise InvalidArgument(
            f"the export has the version {head.get('version')!r} of its format; this program reads {VERSION}",
            argument="PATHS",
            hint="Read it with the version of the program that wrote it, or a later one.",
        )
    counts = head.get("counts")
    if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
        raise InvalidArgument(
            "the first line of the export is damaged: it has no counts", argument="PATHS", hint="Export anew."
        )
    return Head(counts)


def read_record(line: bytes) -> tuple[Kind, Values]:
    """The record of a line, as the tables hold it.

    Raises:
        WrongLine: it is none, or breaks a rule of the palace.
    """
    record = _object(line)
    kind = _KINDS.get(str(record.pop("kind", None)))
    if kind is None:
        raise WrongLine("its kind is none of " + ", ".join(_KINDS))
    unknown = record.keys() - {field.name for field in kind.fields}
    if unknown:
        raise WrongLine(f"a {kind.name} has no {', '.join(sorted(unknown))}")
    try:
        values = {field.name: _stored(field, record) for field in kind.fields}
    except InvalidArgument as error:
        raise WrongLine(error.message) from error
    for begin, end in (("valid_from", "valid_to"), ("recorded_at", "retracted_at")):
        if kind is FACT and None not in (values[begin], values[end]) and values[begin] >= values[end]:
            raise WrongLine(f"{end} does not lie after {begin}")
    return kind, values


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WrongLine(f"it is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise WrongLine("it is no JSON object")
    return value


def _shown(field: Field, value: Any) -> Any:
    """The value of a column as it is written."""
    if value is None:
        return None
    match field.form:
        case Form.TIME | Form.WRITTEN:
            return clock.format_instant(value)
        case Form.NUMBER:
            return str(value)
        case Form.FLAG:
            return bool(value)
        case Form.BYTES:
            return bytes(value).hex()
        case Form.OBJECT:
            return json.loads(value)
    return value


def _stored(field: Field, record: Mapping[str, Any]) -> Any:
    """The value of a field as its column has it.

    Raises:
        InvalidArgument: it is missing, or no such value.
    """
    if field.name not in record:
        raise _wrong(field.name, "is missing")
    value, (kinds, read) = record[field.name], _READERS[field.form]
    if value is None and field.optional:
        return None
    if type(value) not in kinds:
        raise _wrong(field.name, f"must be a {field.form.value}")
    return read(value, field.name)


def _wrong(name: str, told: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {told}", argument=name)


def _identifier(kind: str) -> Callable[[str, str], str]:
    def read(value: str, name: str) -> str:
        if not ids.is_id(kind, value):
            raise _wrong(name, f"is no id: {text.excerpt(value)!r}")
        return value

    return read


def _written(value: str, name: str) -> clock.Instant:
    instant = clock.parse(value, name)
    if instant > clock.now() + _AHEAD:
        raise _wrong(name, f"lies too far in the future: {value}")
    return instant


def _whole(value: int, name: str) -> int:
    if not -_LARGEST <= value < _LARGEST:
        raise _wrong(name, "has more than 64 bits")
    return value


def _count(value: int, name: str) -> int:
    if not 0 <= value < 2**31:
        raise _wrong(name, "is no count")
    return value


def _number(value: str, name: str) -> int:
    try:
        return _whole(int(value), name)
    except ValueError:
        raise _wrong(name, f"is no whole number: {text.excerpt(value)!r}") from None


def _share(value: float, name: str) -> float:
    if not 0 <= value <= 1:
        raise _wrong(name, "is not between 0 and 1")
    return float(value)


def _bytes(value: str, name: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise _wrong(name, "are no hexadecimal digits") from None


def _metadata(value: dict[str, Any], name: str) -> str:
    return text.verify_text(write_metadata(value), name)


_READERS: Mapping[Form, tuple[tuple[type, ...], Callable[[Any, str], Any]]] = MappingProxyType(
    {
        Form.NAME: ((str,), lambda value, name: text.read_name(value, name).shown),
        Form.ENTITY: ((str,), lambda value, name: text.read_entity(value, name).shown),
        Form.TEXT: ((str,), text.verify_text),
        Form.DRAWER: ((str,), _identifier(ids.DRAWER)),
        Form.FACT: ((str,), _identifier(ids.FACT)),
        Form.TUNNEL: ((str,), _identifier(ids.TUNNEL)),
        Form.TIME: ((str,), clock.parse),
        Form.WRITTEN: ((str,), _written),
        Form.COUNT: ((int,), _count),
        Form.NUMBER: ((str,), _number),
        Form.SHARE: ((int, float), _share),
        Form.FLAG: ((bool,), lambda value, name: int(value)),
        Form.BYTES: ((str,), _bytes),
        Form.OBJECT: ((dict,), _metadata),
    }
)
"""By form: the types that JSON may give, and what reads the value."""
