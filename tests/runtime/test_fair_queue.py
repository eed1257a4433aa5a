"""The queue in which clients take turns."""

from __future__ import annotations

from mempalace_mcp.runtime.executor import FairQueue


def drained(queue: FairQueue[str]) -> str:
    taken = ""
    while (item := queue.take(lambda client: True)) is not None:
        taken += item
    return taken


def queue_of(items: str) -> FairQueue[str]:
    """A queue in which letters are clients and the items are letters, too."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.add(item.lower(), item)
    return queue


def test_clients_take_turns_in_the_order_of_their_arrival() -> None:
    assert drained(queue_of("aAabBc")) == "abcABa"


def test_whoever_was_served_stands_behind_whoever_was_not() -> None:
    queue = queue_of("aa")
    assert queue.take(lambda client: True) == "a"
    queue.add("b", "b")
    assert drained(queue) == "ab"
    queue.add("c", "c")
    assert drained(queue) == "c"


def test_a_client_who_may_not_is_passed_over_and_keeps_its_turn() -> None:
    queue = queue_of("aabb")
    assert queue.first() == "a"
    assert queue.take(lambda client: client != "a") == "b"
    assert queue.take(lambda client: False) is None
    assert drained(queue) == "aba"


def test_counts_and_removes() -> None:
    queue = queue_of("aAb")
    assert (len(queue), queue.count("a"), queue.count("b"), queue.count("c")) == (3, 2, 1, 0)
    queue.remove("a", "a")
    queue.remove("a", "a")
    queue.remove("c", "c")
    assert (len(queue), queue.count("a")) == (2, 1)
    assert queue.clear() == ["A", "b"]
    assert (len(queue), queue.count("a"), queue.first(), drained(queue)) == (0, 0, None, "")
