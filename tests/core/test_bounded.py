"""Containers that stay within their bounds."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.bounded import BoundedCounts, BoundedLog, LruMap


@given(st.lists(st.integers()), st.integers(1, 20))
def test_a_log_keeps_the_newest(entries: list[int], limit: int) -> None:
    log: BoundedLog[int] = BoundedLog(limit)
    for entry in entries:
        log.append(entry)
    assert list(log) == entries[-limit:]
    assert len(log) <= log.limit == limit


def test_a_log_trims_at_once_when_its_limit_is_lowered() -> None:
    log: BoundedLog[int] = BoundedLog(5)
    for entry in range(5):
        log.append(entry)
    log.limit = 2
    assert list(log) == [3, 4]
    log.limit = 3
    log.append(5)
    assert list(reversed(log)) == [5, 4, 3]
    log.clear()
    assert not len(log)


def test_labels_beyond_the_limit_are_counted_together() -> None:
    counts = BoundedCounts(2)
    for label in ("a", "b", "c", "a", "d"):
        counts.add(label)
    assert counts.counts() == {"a": 2, "b": 1, "other": 2}
    assert len(counts) == 3


def test_a_map_drops_what_was_unused_for_longest() -> None:
    dropped: list[tuple[str, int]] = []
    recent: LruMap[str, int] = LruMap(2, on_drop=lambda key, value: dropped.append((key, value)))
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert dropped == [("b", 2)]
    assert recent.get("b") is None
    assert len(recent) == 2


def test_a_map_stays_bounded_under_threads() -> None:
    shared: LruMap[int, int] = LruMap(50)

    def fill(offset: int) -> None:
        for number in range(2000):
            shared.put(offset + number, number)
            shared.get(offset + number // 2)

    threads = [threading.Thread(target=fill, args=(10_000 * each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shared) == 50
