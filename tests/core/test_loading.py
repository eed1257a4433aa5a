from __future__ import annotations

import gc

import pytest

from mempalace_mcp.core.loading import loading


def test_nothing_is_collected_while_something_is_loaded_and_what_was_loaded_is_never_looked_at() -> None:
    before = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
        loaded: list[list[int]] = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before > len(loaded)


def test_garbage_is_collected_again_when_loading_fails() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError("a module is missing")
    assert gc.isenabled()
