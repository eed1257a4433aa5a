"""Health, metrics and history over HTTP: `/health`, `/livez`, `/readyz`, `/metrics` and `/api/history`.

The first four need no token: they show numbers and words of closed sets, no names and no texts. Metrics have the text
format 0.0.4 of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/); labels take their values from
closed sets, which bounds the number of time series. `/api/history` takes the arguments of the tool of that name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.figures import Kind
from mempalace_mcp.runtime.activity import Activity, describe_history
from mempalace_mcp.runtime.health import FIGURES, Diagnostics, Health, HealthReport
from mempalace_mcp.runtime.issues import REASONS, Status
from mempalace_mcp.server.http_messages import ErrorResponse
from mempalace_mcp.server.tools.history import history as history_tool
from mempalace_mcp.server.tools.schema import input_schema, read_arguments, readable

CONTENT_TYPE = "text/plain; version=0.0.4"

Number = int | float


def exposition(report: HealthReport) -> str:
    """The whole page. A figure that cannot be read at the moment has no sample."""
    return "".join(f"{line}\n" for line in (*_about(report), *_figures(report.diagnostics)))


def _about(report: HealthReport) -> Iterator[str]:
    codes = {issue.code for issue in report.reasons}
    yield from _family("mempalace_info", "gauge", "The version that runs.", {report.version: 1}, "version")
    yield from _family("mempalace_uptime_seconds", "gauge", "Age of the process.", report.uptime_seconds)
    status = {each.value: int(each is report.status) for each in Status}
    yield from _family("mempalace_status", "gauge", "1 for the status that holds.", status, "status")
    reasons = {reason.code: int(reason.code in codes) for reason in REASONS}
    yield from _family("mempalace_reason", "gauge", "1 for each reason not to be ok.", reasons, "code")


def _figures(diagnostics: Diagnostics) -> Iterator[str]:
    for figure in FIGURES:
        if figure.metric is not None:
            yield from _family(figure.metric, figure.kind, figure.meaning, diagnostics[figure.key], figure.label)


def _family(
    name: str, kind: Kind, meaning: str, value: Number | Mapping[Any, int] | None, label: str = ""
) -> Iterable[str]:
    """The lines of one figure; none if it has no value."""
    if value is None:
        return
    yield f"# HELP {name} {_escaped(meaning)}"
    yield f"# TYPE {name} {kind}"
    if not isinstance(value, Mapping):
        yield f"{name} {_number(value)}"
        return
    for member, number in value.items():
        quoted = _escaped(str(member)).replace('"', r"\"")
        yield f'{name}{{{label}="{quoted}"}} {_number(number)}'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: Number) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)


RETRY_SECONDS = 1
_WITHHELD = object()


def health_routes(health: Health) -> list[Route]:
    """The probes. Each answers from memory on the event loop, so it waits for nothing."""

    async def whole(request: Request) -> Response:
        report = health.snapshot()
        return JSONResponse(health_document(report), 503 if report.status is Status.FAILING else 200)

    async def live(request: Request) -> Response:
        report = health.snapshot()
        return _verdict(report.live, [each.code for each in report.reasons if each.kind.restart_helps])

    async def ready(request: Request) -> Response:
        report = health.snapshot()
        hindrances = [each.code for each in report.reasons if each.kind.refuses or each.status is Status.FAILING]
        return _verdict(report.ready, hindrances)

    async def metrics(request: Request) -> Response:
        return Response(exposition(health.snapshot()), media_type=CONTENT_TYPE)

    routes = {"/health": whole, "/livez": live, "/readyz": ready, "/metrics": metrics}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()]


def _verdict(is_ok: bool, reasons: list[str]) -> JSONResponse:
    if is_ok:
        return JSONResponse({"status": "ok", "reasons": []})
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"status": "failing", "reasons": reasons}, 503, headers)


def health_document(report: HealthReport) -> dict[str, Any]:
    """The JSON of `GET /health`: reasons by their codes, and no paths or texts of components."""
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


PATH = "/api/history"

_SCHEMA = input_schema(history_tool.arguments)


def history_route(activity: Activity) -> Route:
    """The route of the history of calls, answered from memory."""

    async def history(request: Request) -> Response:
        try:
            arguments = read_arguments(history_tool.arguments, _read_query(request.query_params), _SCHEMA)
            page = describe_history(activity, **arguments.given())
        except (InvalidArgument, NotFound) as error:
            return ErrorResponse(404 if isinstance(error, NotFound) else 400, error).plain()
        return JSONResponse(page)

    return Route(PATH, history, methods=["GET"])


def _read_query(query: QueryParams) -> dict[str, str]:
    """The query's parameters by name.

    Raises:
        InvalidArgument: one is given twice.
    """
    pairs = query.multi_items()
    repeated = next((name for position, (name, _) in enumerate(pairs) if name in dict(pairs[:position])), None)
    if repeated is not None:
        name = readable(repeated)
        raise InvalidArgument(f"{name} is given twice", argument=name, hint="Give it once.")
    return dict(pairs)
