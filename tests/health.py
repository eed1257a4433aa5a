"""What a test may demand of a server's health on a machine that does other work too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY_MACHINE = "event_loop_slow"
"""What other programs can cause."""


def troubles(report: Mapping[str, Any]) -> list[str]:
    """The codes in a report, of `/health` or of `status`, but for those that a busy machine causes."""
    codes = [reason.partition(":")[0] for reason in report["reasons"]]
    return [code for code in codes if code != BUSY_MACHINE]
