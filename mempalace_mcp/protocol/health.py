"""The health report as anybody on the machine may see it: numbers and members of closed sets, no names, no texts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from mempalace_mcp.runtime.health import HealthReport

_WITHHELD = object()


def health_document(report: HealthReport) -> dict[str, Any]:
    """The JSON of `GET /health`. Reasons are shown by their codes; paths and texts in components are left out."""
    return {
        "status": report.status,
        "reasons": [reason.code for reason in report.reasons],
        "version": report.version,
        "pid": report.pid,
        "uptime_seconds": report.uptime_seconds,
        "diagnostics": _public(report.diagnostics),
        "components": {name: _public(statistics) for name, statistics in report.components.items()},
    }


def _public(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _public({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        shown = {str(key): _public(item) for key, item in value.items()}
        return {key: item for key, item in shown.items() if item is not _WITHHELD}
    if isinstance(value, (list, tuple)):
        return [item for item in map(_public, value) if item is not _WITHHELD]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else _WITHHELD
