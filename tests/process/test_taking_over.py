"""Coming to the seat, refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.process import address as addresses
from mempalace_mcp.process.taking_over import take_seat


def test_a_seat_that_cannot_be_opened_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / addresses.LOCK).mkdir()
    with pytest.raises(StorageError, match=addresses.LOCK) as caught:
        take_seat(str(tmp_path))
    assert caught.value.hint
