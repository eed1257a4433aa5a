"""Figures that components publish: each is declared once, at the field of the statistics dataclass that holds it.

The JSON of the health report, the metrics and the table in docs/operations.md are made from these declarations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["counter", "gauge", "state"]

_KEY = "figure"


@dataclass(frozen=True, slots=True)
class Figure:
    """How a field is published.

    `key` is its name in JSON; an ending in `_seconds` or `_bytes` is the unit, anything else is a count. `metric` is
    its name for Prometheus, None for a `state`, which is no number. With a `label` the field maps each value of the
    label to a number.
    """

    key: str
    kind: Kind
    meaning: str
    metric: str | None
    label: str = ""


Metadata = Mapping[str, Figure]
"""For `dataclasses.field(metadata=...)`."""


def gauge(key: str, meaning: str, *, metric: str | None = None, label: str = "") -> Metadata:
    """A number that rises and falls. None is "not known at the moment"."""
    return {_KEY: Figure(key, "gauge", meaning, metric or f"mempalace_{key}", label)}


def counter(key: str, meaning: str, *, metric: str | None = None, label: str = "") -> Metadata:
    """A number that only rises while the process runs."""
    return {_KEY: Figure(key, "counter", meaning, metric or f"mempalace_{key}_total", label)}


def state(key: str, meaning: str) -> Metadata:
    """A member of a closed set of words."""
    return {_KEY: Figure(key, "state", meaning, None)}


def figures_of(statistics: type[Any]) -> Iterator[tuple[str, Figure]]:
    """The published fields of a statistics dataclass: the field's name, and its figure."""
    for field in dataclasses.fields(statistics):
        if _KEY in field.metadata:
            yield field.name, field.metadata[_KEY]
