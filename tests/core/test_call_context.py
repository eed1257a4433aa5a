"""Deadlines and cancellation."""

from __future__ import annotations

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy, Cancelled, DeadlineExceeded


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
