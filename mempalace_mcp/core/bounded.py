"""Containers that cannot grow without end."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedLog(Generic[V]):
    """A first-in, first-out record that forgets its oldest entry beyond `limit`. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[V] = deque(maxlen=limit)
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """How many entries are kept at most. Lowering it makes the oldest go at once."""
        return self._entries.maxlen or 0

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._lock:
            if limit != self._entries.maxlen:
                self._entries = deque(self._entries, maxlen=limit)

    def append(self, entry: V) -> None:
        """Add an entry; the oldest goes when there is no room."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[V]:
        with self._lock:
            return iter(list(self._entries))

    def __reversed__(self) -> Iterator[V]:
        with self._lock:
            return reversed(list(self._entries))


class BoundedCounts:
    """How often each label was counted. Labels that come when there are `limit` are counted as `other`."""

    OTHER = "other"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, label: str) -> None:
        """Count the label once more."""
        with self._lock:
            if label not in self._counts and len(self._counts) >= self.limit:
                label = self.OTHER
            self._counts[label] = self._counts.get(label, 0) + 1

    def counts(self) -> dict[str, int]:
        """The counts now, those of the labels seen first in front."""
        with self._lock:
            return dict(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


class LruMap(Generic[K, V]):
    """A map that drops the entry unused for longest beyond `limit`. Thread-safe."""

    def __init__(self, limit: int, on_drop: Callable[[K, V], None] | None = None) -> None:
        self.limit = limit
        self._on_drop = on_drop
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, which thereby counts as used, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: K, value: V) -> None:
        """Store the value; the entry unused for longest goes when there is no room."""
        dropped: tuple[K, V] | None = None
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self.limit:
                dropped = self._entries.popitem(last=False)
        if dropped is not None and self._on_drop is not None:
            self._on_drop(*dropped)

    def pop(self, key: K) -> V | None:
        """Take the value out, or None; `on_drop` is not told."""
        with self._lock:
            return self._entries.pop(key, None)

    def values(self) -> list[V]:
        """The values, the one unused for longest first; none of them counts as used."""
        with self._lock:
            return list(self._entries.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
