"""How many inputs: `THOROUGHNESS=100 pytest tests/fuzz -s --timeout 7200` tries a hundred times as many, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def tally() -> Iterator[Counter[str]]:
    """Inputs by target, told at the end."""
    counts: Counter[str] = Counter()
    yield counts
    print("\ninputs:", ", ".join(f"{count:,} {target}" for target, count in sorted(counts.items())))
