"""Leaves out what Chroma imports and does not need here: a third of the time of its import, and 14 MB of memory."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
"""Sends traces to a collector, by gRPC. Chroma imports it whether there is a collector or not."""

OPTIONAL = ("pygments", "rich")
"""For the command line of httpx, which does without."""


def leave_out() -> None:
    """Have the next import of Chroma go without these; the exporter is imported when somebody makes one."""
    for name in OPTIONAL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # to Python this means: not installed
    if EXPORTER not in sys.modules:
        sys.modules[EXPORTER] = ModuleType(EXPORTER)
        sys.modules[EXPORTER].OTLPSpanExporter = _make_exporter  # type: ignore[attr-defined]


def _make_exporter(**options: Any) -> Any:
    del sys.modules[EXPORTER]
    return importlib.import_module(EXPORTER).OTLPSpanExporter(**options)
