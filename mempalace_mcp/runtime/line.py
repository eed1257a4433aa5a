"""A waiting line in which nobody's turn depends on how much others want."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairLine(Generic[T]):
    """What clients wait for, in the order of each client; the clients take turns. Not thread-safe."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def count(self, client: Hashable) -> int:
        """How many of the client's are waiting."""
        return len(self._clients.get(client, ()))

    def add(self, client: Hashable, item: T) -> None:
        """Put it behind the client's others; a client that has none waits behind all clients."""
        self._clients.setdefault(client, deque()).append(item)
        self._length += 1

    def first(self) -> T | None:
        """What waits at the head of the client whose turn is next."""
        return next((waiting[0] for waiting in self._clients.values()), None)

    def take(self, may: Callable[[Hashable], bool]) -> T | None:
        """The first item of the first client who may have its turn, which is then the last client; None without one."""
        client = next(filter(may, self._clients), None)
        if client is None:
            return None
        self._clients.move_to_end(client)
        item = self._clients[client].popleft()
        self._shorten(client)
        return item

    def remove(self, client: Hashable, item: T) -> None:
        """Take it out, if it is still there."""
        waiting = self._clients.get(client)
        if waiting is not None and item in waiting:
            waiting.remove(item)
            self._shorten(client)

    def clear(self) -> list[T]:
        """Take everything out."""
        items = [item for waiting in self._clients.values() for item in waiting]
        self._clients.clear()
        self._length = 0
        return items

    def _shorten(self, client: Hashable) -> None:
        self._length -= 1
        if not self._clients[client]:
            del self._clients[client]
