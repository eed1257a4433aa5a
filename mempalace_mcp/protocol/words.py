"""Words that a client spread over the arguments of a prompt, put together again.

Claude Code splits what is typed behind a prompt's name at spaces and gives each argument one word, whatever it is for.
So what an argument cannot mean is a further word of what was asked, in the order of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.core.text import name_key, read_entity, read_name
from mempalace_mcp.protocol.tools.coercion import coerce

Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Understood:
    """The arguments as they were meant, and what to say about those that were taken otherwise than they were named."""

    arguments: Given
    remarks: Sequence[str] = ()


def understand_question(palace: Any, given: Given, declared: Sequence[str]) -> Understood:
    """A `query`, its words perhaps spread over the other declared arguments.

    If every argument is one word, none is left out before another, and one of them cannot be what its argument is for,
    all of them are the question.
    """
    question = given.get("query", "")
    others = {name: given[name] for name in declared if name != "query" and given.get(name, "").strip()}
    unfit = [name for name, value in others.items() if not _fits(palace, name, value, others.get("wing"))]
    if not unfit or not question.strip():
        return Understood(given)
    in_order = ["query", *others] == list(declared[: len(others) + 1])
    is_split = in_order and all(len(value.split()) == 1 for value in (question, *others.values()))
    taken = list(others) if is_split else unfit
    kept = {name: value for name, value in given.items() if name not in taken}
    remarks = [_unknown(name, others[name]) for name in unfit if name in _KINDS]
    remarks.append(f"So the question was taken to be: {' '.join((question, *(others[name] for name in taken)))}")
    if is_split and len(taken) == len(declared) - 1:
        remarks.append(f"Your client may have cut it after {len(declared)} words; if so, search for all of it.")
    return Understood({**kept, "query": " ".join((question, *(others[name] for name in taken)))}, remarks)


def understand_place(palace: Any, given: Given, declared: Sequence[str], otherwise: str) -> Understood:
    """A `wing` and an `agent_name`, the words of either perhaps spread over what comes behind.

    A wing that is unknown stays as it is; `otherwise` says what becomes of it.

    Raises:
        InvalidArgument: the wing cannot be a name.
    """
    if not given.get("wing", "").strip():
        return Understood(given)
    read_name(given["wing"], "wing")
    taken = [name for name in ("wing", "agent_name") if given.get(name, "").strip()]
    if len(taken) == 2 and "max_tokens" in declared and not _is_number(given.get("max_tokens") or "0"):
        taken.append("max_tokens")
    words = [given[name] for name in taken]
    rest = {name: value for name, value in given.items() if name not in taken}
    wings = {name_key(room.wing) for room in palace.get_taxonomy().rooms}
    for count in range(len(words), 0, -1):
        wing, agent = " ".join(words[:count]), " ".join(words[count:])
        if _key(wing) in wings:
            return Understood({**rest, "wing": wing, "agent_name": agent})
    tried = " nor ".join(repr(" ".join(words[:count])) for count in range(1, len(words) + 1))
    told = [f"There is no wing {tried}: {otherwise}"]
    return Understood({**rest, "wing": words[0], "agent_name": " ".join(words[1:])}, told)


def _fits(palace: Any, name: str, value: str, wing: str | None) -> bool:
    """True if the value is what the argument of that name is for."""
    if name in ("limit", "max_tokens"):
        return _is_number(value)
    try:
        return _KINDS[name](palace, value, wing)
    except PalaceError:  # it is no name at all, or facts are not the caller's to see
        return False


def _is_wing(palace: Any, value: str, wing: str | None) -> bool:
    asked = read_name(value, "wing").key
    return any(name_key(room.wing) == asked for room in palace.get_taxonomy().rooms)


def _is_room(palace: Any, value: str, wing: str | None) -> bool:
    asked, within = read_name(value, "room").key, None if wing is None else _key(wing)
    rooms = palace.get_taxonomy().rooms
    inside = [room for room in rooms if name_key(room.wing) == within] or rooms
    return any(name_key(room.room) == asked for room in inside)


def _is_entity(palace: Any, value: str, wing: str | None) -> bool:
    read_entity(value, "entity")
    return palace.kg_query(value, limit=1).resolved.entity is not None


_KINDS: Mapping[str, Callable[[Any, str, str | None], bool]] = {
    "wing": _is_wing,
    "room": _is_room,
    "entity": _is_entity,
}


def _unknown(name: str, value: str) -> str:
    return f"There is no {name} {value!r}."


def _is_number(value: str) -> bool:
    return isinstance(coerce(value, {"type": "integer"}), int)


def _key(wing: str) -> str | None:
    try:
        return read_name(wing, "wing").key
    except InvalidArgument:
        return None
