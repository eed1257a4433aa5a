"""The fair line."""

from __future__ import annotations

from mempalace_mcp.runtime.executor import FairQueue


def drained(line: FairQueue[str]) -> str:
    taken = ""
    while (item := line.take(lambda client: True)) is not None:
        taken += item
    return taken


def line_of(items: str) -> FairQueue[str]:
    """A line in which letters are clients and the items are letters, too."""
    line: FairQueue[str] = FairQueue()
    for item in items:
        line.add(item.lower(), item)
    return line


def test_clients_take_turns_in_the_order_of_their_arrival() -> None:
    assert drained(line_of("aAabBc")) == "abcABa"


def test_whoever_was_served_stands_behind_whoever_was_not() -> None:
    line = line_of("aa")
    assert line.take(lambda client: True) == "a"
    line.add("b", "b")
    assert drained(line) == "ab"
    line.add("c", "c")
    assert drained(line) == "c"


def test_a_client_who_may_not_is_passed_over_and_keeps_its_turn() -> None:
    line = line_of("aabb")
    assert line.first() == "a"
    assert line.take(lambda client: client != "a") == "b"
    assert line.take(lambda client: False) is None
    assert drained(line) == "aba"


def test_counts_and_removes() -> None:
    line = line_of("aAb")
    assert (len(line), line.count("a"), line.count("b"), line.count("c")) == (3, 2, 1, 0)
    line.remove("a", "a")
    line.remove("a", "a")
    line.remove("c", "c")
    assert (len(line), line.count("a")) == (2, 1)
    assert line.clear() == ["A", "b"]
    assert (len(line), line.count("a"), line.first(), drained(line)) == (0, 0, None, "")
