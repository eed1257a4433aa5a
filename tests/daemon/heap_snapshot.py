"""Counts what a running process holds, by a walk over its live objects from their owners down."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from mempalace_mcp.core.bounded import BoundedCounts, BoundedLog, LruMap

PACKAGES = ("mempalace_mcp", "mcp", "mcp_types", "sse_starlette")
"""Whose modules and classes are looked into: what they keep there lives as long as the process."""

_BOUNDED = (BoundedCounts, BoundedLog, LruMap)
_LEAVES = (range, str, bytes, bytearray, memoryview, int, float, complex, bool, type(None), BuiltinFunctionType)
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held in one place; `bound` is None where no limit is declared."""

    size: int
    bound: int | None


class HeapSnapshot:
    """One walk. `places` maps where something is held, as `app.activity._running`, to how much that is.

    The members of containers share one place, `[*]`, for which sizes and bounds add up.
    """

    def __init__(self, roots: Mapping[str, object]) -> None:
        self.places: dict[str, Held] = {}
        self._seen: dict[int, object] = {}
        self._pending: deque[tuple[str, int, object, int | None]] = deque()
        self._pending.extend((name, 0, root, None) for name, root in {**roots, **_modules()}.items())
        while self._pending:
            self._visit(*self._pending.popleft())
        self._seen.clear()

    def _visit(self, place: str, depth: int, thing: object, bound: int | None) -> None:
        if isinstance(thing, _LEAVES) or id(thing) in self._seen or depth > _DEEPEST:
            return
        self._seen[id(thing)] = thing
        cache = getattr(thing, "cache_info", None)
        if isinstance(thing, (Mapping, Set, Sequence, deque)) and hasattr(thing, "__len__"):
            self._count(place, len(thing), thing.maxlen if isinstance(thing, deque) else bound)
        elif callable(cache) and not isinstance(thing, type):
            self._count(f"{place}()", cache().currsize, cache().maxsize)
        for name, child in _children(thing):
            if not isinstance(child, _LEAVES):
                self._pending.append((place + name, depth + 1, child, _bound(thing)))

    def _count(self, place: str, size: int, bound: int | None) -> None:
        earlier = self.places.get(place, Held(0, 0))
        together = None if bound is None or earlier.bound is None else earlier.bound + bound
        self.places[place] = Held(earlier.size + size, together)


def growth(before: HeapSnapshot, after: HeapSnapshot, least: int) -> dict[str, str]:
    """The places that hold `least` things more than before, and neither are nor belong to what has a limit.

    What belongs to the entries of a bounded place that is still filling may grow as it does.
    """
    grown = {}
    for place, now in after.places.items():
        size = before.places[place].size if place in before.places else 0
        if now.size - size * _filling(place, before, after) >= least and (now.bound is None or now.size > now.bound):
            grown[place] = f"from {size} to {now.size}"
    return grown


def _filling(place: str, before: HeapSnapshot, after: HeapSnapshot) -> float:
    """How many times as much the nearest bounded place around this one holds now."""
    around = place
    while around := around[: max(around.rfind("."), around.rfind("["), 0)]:
        earlier, later = before.places.get(around), after.places.get(around)
        if earlier and later and earlier.size and later.bound is not None and later.size <= later.bound:
            return later.size / earlier.size
    return 1.0


def _modules() -> dict[str, object]:
    return {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in PACKAGES}


def _bound(owner: object) -> int | None:
    if isinstance(owner, ThreadPoolExecutor):
        return owner._max_workers
    return owner.limit + isinstance(owner, BoundedCounts) if isinstance(owner, _BOUNDED) else None


def _children(thing: object) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, ModuleType):
        if thing.__name__.partition(".")[0] in PACKAGES:
            yield from ((f".{name}", value) for name, value in list(vars(thing).items()))
    elif isinstance(thing, type):
        if thing.__module__.partition(".")[0] in PACKAGES:
            own = [(name, value) for name, value in vars(thing).items() if not name.startswith("__")]
            yield from ((f".{name}", value) for name, value in own)
    elif isinstance(thing, Mapping):
        for key, value in list(thing.items()):
            yield "[*]", key
            yield (f".{key}" if isinstance(thing, dict) and isinstance(key, str) and len(thing) < 20 else "[*]"), value
    elif isinstance(thing, (Set, Sequence, deque)):
        yield from (("[*]", member) for member in list(thing))
    elif isinstance(thing, MethodType):
        yield from ((".self", thing.__self__), (".function", thing.__func__))
    elif isinstance(thing, FunctionType):
        yield from _of_function(thing)
    yield from _attributes(thing)


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    yield ".defaults", function.__defaults__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:
            continue


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, (type, ModuleType)):
        return
    if isinstance(attributes := getattr(thing, "__dict__", None), dict):
        yield from ((f".{name}", value) for name, value in list(attributes.items()))
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            value = getattr(thing, f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name, None)
            yield f".{name}", value
    for name in ("func", "args", "keywords", "__wrapped__"):  # of partials and decorated functions
        if (value := getattr(thing, name, None)) is not None and callable(thing):
            yield f".{name}", value
