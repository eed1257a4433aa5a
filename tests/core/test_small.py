"""Deadlines, identifiers, bounded containers, the error tree."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import errors, ids
from mempalace_mcp.core.bounded import BoundedCounts, BoundedLog, LruMap
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy, Cancelled, DeadlineExceeded, PalaceError

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PalaceError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_one_shape_and_stands_in_the_tree(kind: type[PalaceError]) -> None:
    shape = kind("what is wrong", argument="wing", hint="what to do").as_dict()
    assert {"code", "message", "argument", "hint", "retryable"} <= shape.keys()
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


def test_codes_are_distinct() -> None:
    codes = [kind.code for kind in ERRORS]
    assert len(codes) == len(set(codes))


def test_an_expired_deadline_is_a_retryable_refusal() -> None:
    with pytest.raises(DeadlineExceeded, match="write lock") as caught:
        Deadline(0).check("the write lock")
    assert isinstance(caught.value, Busy)
    assert caught.value.as_dict()["retryable"] is True


def test_a_cancelled_call_says_that_nothing_was_written() -> None:
    deadline = Deadline(60)
    deadline.check("anything")
    deadline.cancel()
    with pytest.raises(Cancelled, match="nothing was written"):
        deadline.check("anything")


@given(st.integers(0, 2**54), st.integers(0, 2**54))
def test_identifiers_sort_by_their_time(earlier: int, later: int) -> None:
    one, other = ids.new_id(ids.DRAWER, earlier), ids.new_id(ids.DRAWER, later)
    assert one != other
    assert earlier == later or (one < other) == (earlier < later)
    assert ids.is_id(ids.DRAWER, one)
    assert not ids.is_id(ids.FACT, one)


@pytest.mark.parametrize("text", ["", "d_", "d_" + "u" * 24, "d_" + "0" * 25, "drawer", "d_" + "0" * 23 + "\n"])
def test_other_text_is_no_identifier(text: str) -> None:
    assert not ids.is_id(ids.DRAWER, text)


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
