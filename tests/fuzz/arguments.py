"""Arguments for any tool from its own schema: what fits, what nearly fits, and what is hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tests.fuzz.support import any_json, any_text

WORDS = ("Ada", "ada ", "tea", "Kitchen", "works at", "阿达", "0", "2026-05-08")
DATES = ("2026-05-08", "2026-05-08T10:00:00+02:00", "2026-01-01", "0001-01-01", "9999-12-31")
TEMPORAL = frozenset({"since", "before", "as_of", "known_at", "valid_from", "valid_to", "occurred_at", "ended", "at"})
HOSTILE = (
    "", " ", "2026-02-30", "2026-05-08T25:00", "d_" + "0" * 24, "%", '"', "a OR b NEAR/3 c*", "\0", "x" * 129,
    "é" * 5000, "Ada drinks tea. 阿达喝茶。 " * 60,
)  # fmt: skip

NUMBERS = (0, 1, -1, 5, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"), True, "5", None)


def some_arguments(dice: Random, schema: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> Any:
    """Arguments for a schema; `known` has values for names of arguments that the palace has given out."""
    kind = dice.random()
    if kind < 0.05:
        return {any_text(dice): any_json(dice) for _ in range(dice.randint(0, 3))}
    arguments = _fitting(dice, schema, known)
    if kind < 0.45 and isinstance(arguments, dict):
        _spoil(dice, schema, arguments)
    return arguments


def _spoil(dice: Random, schema: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Leave one out, add one that there is not, or put something else in its place."""
    name = dice.choice([*schema.get("properties", {}), "unknown", any_text(dice)])
    if dice.random() < 0.3:
        arguments.pop(name, None)
    else:
        arguments[name] = dice.choice((any_json(dice), any_text(dice, 200), dice.choice(NUMBERS), dice.choice(HOSTILE)))


def _fitting(dice: Random, schema: Mapping[str, Any], known: Mapping[str, Sequence[str]], name: str = "") -> Any:
    match schema:
        case {"enum": choices}:
            return dice.choice(choices)
        case {"type": "object", "properties": properties, **rest}:
            required = rest.get("required", ())
            chosen = [each for each in properties if each in required or dice.random() < 0.3]
            return {each: _fitting(dice, properties[each], known, each) for each in chosen}
        case {"type": "array", "items": items}:
            return [_fitting(dice, items, known, name) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
        case {"type": "integer"}:
            return dice.choice(
                (dice.randint(schema["minimum"], schema["maximum"]), schema["minimum"], schema["maximum"] + 1)
            )
        case {"type": "number"}:
            return dice.choice((dice.uniform(schema["minimum"], schema["maximum"]), schema["maximum"]))
        case {"type": "boolean"}:
            return dice.random() < 0.5
        case {"type": "object"}:
            return {any_text(dice, 5): any_json(dice) for _ in range(dice.randint(0, 2))}
    given_out = known.get(name, ())
    if given_out and dice.random() < 0.7:
        return dice.choice(given_out)
    if dice.random() < 0.8:
        return dice.choice(DATES if name in TEMPORAL else (*WORDS, f"note {dice.randint(0, 99)}"))
    return dice.choice((dice.choice(HOSTILE), any_text(dice)))
