"""The answer to `status`: the palace's sizes, its index, and the health of the process, in one."""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any

from mempalace_mcp.core.config import Settings
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.runtime.health import HealthReport
from mempalace_mcp.storage.statistics import DatabaseStatistics


def describe(
    settings: Settings,
    stores: Stores,
    sizes: DatabaseStatistics,
    report: HealthReport,
    connection: sqlite3.Connection,
) -> dict[str, Any]:
    """JSON-safe."""
    palace = {"path": str(settings.palace), "timezone": settings.zone.name}
    return describe_process(settings, stores, report) | {"palace": palace | _palace(stores, sizes, connection)}


def describe_process(settings: Settings, stores: Stores, report: HealthReport) -> dict[str, Any]:
    """What the process tells of itself, from memory alone; JSON-safe."""
    index = {"mode": settings.index, "embedder_ready": stores.embedder.ready}
    process = {"pid": report.pid, "uptime_seconds": round(report.uptime_seconds, 3)}
    return {
        "status": report.status.value,
        "reasons": [f"{concern.code}: {concern.message}. {concern.reason.remedy}" for concern in report.reasons],
        "version": report.version,
        "index": index | dataclasses.asdict(stores.index.statistics()),
        "process": process | dataclasses.asdict(report.diagnostics),
    }


def _palace(stores: Stores, sizes: DatabaseStatistics, connection: sqlite3.Connection) -> dict[str, Any]:
    rooms = stores.drawers.taxonomy(connection, None)
    graph = stores.graph.statistics(connection, stores.now())
    stamp = stores.drawers.model_stamp(connection)
    return {
        "drawers": sum(room.drawers for room in rooms),
        "wings": len({room.wing for room in rooms}),
        "rooms": len(rooms),
        "facts": graph.facts,
        "entities": graph.entities,
        "pending": stores.drawers.pending_count(connection),
        "model": None if stamp is None else f"{stamp.name} ({stamp.quantization})",
        "database_bytes": sizes.database_bytes,
        "wal_bytes": sizes.log_bytes,
    }
