"""The answer to `status`: the palace's sizes, its index, and the health of the process, in one."""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mempalace_mcp.runtime.app import App


def describe(app: App, connection: sqlite3.Connection) -> dict[str, Any]:
    """JSON-safe."""
    report = app.health.snapshot()
    return {
        "status": report.status.value,
        "reasons": [concern.message for concern in report.reasons],
        "version": report.version,
        "palace": _palace(app, connection),
        "index": _index(app),
        "process": {"pid": report.pid, "uptime_seconds": round(report.uptime_seconds, 3)}
        | dataclasses.asdict(report.diagnostics),
    }


def _palace(app: App, connection: sqlite3.Connection) -> dict[str, Any]:
    stores = app.stores
    rooms = stores.drawers.taxonomy(connection, None)
    graph = stores.graph.statistics(connection, stores.now())
    stamp = stores.drawers.model_stamp(connection)
    sizes = app.database.statistics()
    return {
        "path": str(app.settings.palace),
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


def _index(app: App) -> dict[str, Any]:
    statistics = app.index.statistics()
    return {"mode": app.settings.index, "embedder_ready": app.embedder.ready} | dataclasses.asdict(statistics)
