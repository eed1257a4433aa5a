"""Words of a question as conditions on the rows of `passages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mempalace_mcp.storage.word_table import Numbers

MOST_ALTERNATIVES = 200
"""Tokens that begin alike and are looked up in the index; of more, the words before them must do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Tokens that follow one another; with `last`, one of those stands behind them."""

    numbers: Numbers
    last: Numbers | None = None

    @property
    def is_word(self) -> bool:
        """Is it one token?"""
        return self.last is None and len(self.numbers) == 1

    @property
    def alternatives(self) -> Numbers | None:
        """Tokens of which each is enough; None if one of them does not decide."""
        if self.is_word:
            return self.numbers
        return self.last if not len(self.numbers) else None


@dataclass(frozen=True, slots=True)
class Found:
    """A condition in SQL, with the values of its parameters."""

    sql: str
    values: dict[str, Any]


def any_of(asked: Sequence[Asked], prefix: str = "") -> Found:
    """Rows that hold at least one of the terms. The names of parameters begin with the prefix."""
    single = [each.alternatives for each in asked if each.alternatives is not None]
    parts: list[Found] = []
    if single:
        parts.append(Found(f"tokens && :{prefix}any::int4[]", {f"{prefix}any": signed(np.concatenate(single))}))
    parts += [_phrase(each, f"{prefix}{place}") for place, each in enumerate(asked) if each.alternatives is None]
    return _joined(parts, " OR ")


def each_of(asked: Sequence[Asked], prefix: str = "") -> Found:
    """Rows that hold all of the terms."""
    words = [each.numbers for each in asked if each.is_word]
    parts: list[Found] = []
    if words:
        parts.append(Found(f"tokens @> :{prefix}all::int4[]", {f"{prefix}all": signed(np.concatenate(words))}))
    parts += [any_of([each], f"{prefix}each{place}_") for place, each in enumerate(asked) if not each.is_word]
    return _joined(parts, " AND ")


def signed(numbers: Numbers) -> list[int]:
    """Tokens as PostgreSQL's integers."""
    return [int(number) for number in numbers.view(np.int32)]


def _joined(parts: Sequence[Found], operator: str) -> Found:
    values = {name: value for part in parts for name, value in part.values.items()}
    return Found(operator.join(f"({part.sql})" for part in parts) or "false", values)


def _phrase(asked: Asked, name: str) -> Found:
    """Rows that hold the tokens one behind the other."""
    if not len(asked.numbers):
        return Found("false", {})
    numbers = signed(asked.numbers)
    held, behind, run = f"held{name}", f"behind{name}", f"run{name}"
    parts, values = [f"tokens @> :{held}::int4[]"], dict[str, Any]({held: numbers})
    if len(numbers) > 1:  # their bytes occur elsewhere as seldom as two tokens have the checksums of two others
        parts.append(f"position(:{run} IN raw) > 0")
        values[run] = asked.numbers.tobytes()
    if asked.last is not None:
        values[behind] = signed(asked.last)
        if len(asked.last) <= MOST_ALTERNATIVES:
            parts.append(f"tokens && :{behind}::int4[]")
        steps = [f"tokens[p + {step - 1}] = (:{held}::int4[])[{step}]" for step in range(2, len(numbers) + 1)]
        steps.append(f"tokens[p + {len(numbers)}] = ANY(:{behind}::int4[])")
        starts = f"unnest(array_positions(tokens, (:{held}::int4[])[1])) AS p"
        parts.append(f"EXISTS (SELECT FROM {starts} WHERE {' AND '.join(steps)})")
    return Found(" AND ".join(parts), values)
