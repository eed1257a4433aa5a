"""What probes are told: `/health`, `/livez`, `/readyz` and `/metrics`.

Anybody on the machine may ask: they show numbers and members of closed sets, no names, no texts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mempalace_mcp.protocol.metrics import CONTENT_TYPE, exposition
from mempalace_mcp.runtime.health import Health, HealthReport
from mempalace_mcp.runtime.reasons import Status

RETRY_SECONDS = 1
_WITHHELD = object()


def health_routes(health: Health) -> list[Route]:
    """The probes. Each answers from memory, in the event loop itself: none of them waits for work, or is work."""

    async def whole(request: Request) -> Response:
        report = health.snapshot()
        return JSONResponse(health_document(report), 503 if report.status is Status.FAILING else 200)

    async def live(request: Request) -> Response:
        report = health.snapshot()
        return _verdict(report.live, [each.code for each in report.reasons if each.reason.restart_helps])

    async def ready(request: Request) -> Response:
        report = health.snapshot()
        hindrances = [each.code for each in report.reasons if each.reason.refuses or each.status is Status.FAILING]
        return _verdict(report.ready, hindrances)

    async def metrics(request: Request) -> Response:
        return Response(exposition(health.snapshot()), media_type=CONTENT_TYPE)

    routes = {"/health": whole, "/livez": live, "/readyz": ready, "/metrics": metrics}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()]


def _verdict(well: bool, hindrances: list[str]) -> JSONResponse:
    if well:
        return JSONResponse({"status": "ok", "reasons": []})
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"status": "failing", "reasons": hindrances}, 503, headers)


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
