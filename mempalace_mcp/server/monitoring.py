"""Health, metrics and history over HTTP.

The health report for Prometheus, in its text format 0.0.4.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. Every label takes its values from a closed set,
so that the number of time series is fixed.

What probes are told: `/health`, `/livez`, `/readyz` and `/metrics`.

Anybody on the machine may ask: they show numbers and members of closed sets, no names, no texts.

`GET /api/history`: what the server has been asked, for people and their dashboards. Its arguments are the tool's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.runtime.activity import Activity, describe_history
from mempalace_mcp.runtime.health import REASONS, Diagnostics, Health, HealthReport, Status
from mempalace_mcp.server.http_messages import HttpRefusal
from mempalace_mcp.server.tools.history import HistoryArguments
from mempalace_mcp.server.tools.schema import input_schema, read_arguments, readable

CONTENT_TYPE = "text/plain; version=0.0.4"

Number = int | float
Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of the diagnostics under its name for Prometheus; with a `label` it is one figure for each value."""

    name: str
    kind: Kind
    meaning: str
    read: Callable[[Diagnostics], Number | Mapping[Any, int] | None]
    label: str = ""


def _counter(name: str, meaning: str, read: Callable[[Diagnostics], Number | None]) -> Metric:
    return Metric(name, "counter", meaning, read)


def _gauge(name: str, meaning: str, read: Callable[[Diagnostics], Number | None]) -> Metric:
    return Metric(name, "gauge", meaning, read)


METRICS = (
    _counter("process_cpu_seconds_total", "CPU time used.", lambda t: t.cpu_seconds),
    _gauge("process_resident_memory_bytes", "Resident memory.", lambda t: t.rss_bytes),
    _gauge("process_open_fds", "Open file descriptors.", lambda t: t.open_descriptors),
    _gauge("mempalace_allocated_blocks", "Blocks of memory allocated by Python.", lambda t: t.allocated_blocks),
    _gauge("mempalace_threads", "Threads of Python.", lambda t: t.thread_count),
    _gauge("mempalace_native_threads", "Threads of the process.", lambda t: t.native_thread_count),
    _gauge("mempalace_asyncio_tasks", "Tasks of the event loop.", lambda t: t.asyncio_task_count),
    _gauge(
        "mempalace_event_loop_lag_seconds",
        "How late the event loop was when it was last measured.",
        lambda t: t.event_loop_lag_seconds,
    ),
    _gauge(
        "mempalace_event_loop_lag_max_seconds",
        "The largest lag of the last minute.",
        lambda t: t.event_loop_lag_max_seconds,
    ),
    Metric("mempalace_sessions", "gauge", "Open sessions.", lambda t: t.sessions, "transport"),
    _counter("mempalace_sessions_opened_total", "Sessions opened.", lambda t: t.sessions_opened),
    Metric("mempalace_calls_total", "counter", "Calls that ended.", lambda t: t.calls, "outcome"),
    _gauge("mempalace_calls_running", "Calls in flight.", lambda t: t.running_executions),
    _gauge("mempalace_call_oldest_seconds", "Age of the oldest call in flight.", lambda t: t.oldest_execution_seconds),
    _counter("mempalace_received_bytes_total", "Bytes of calls.", lambda t: t.bytes_received),
    _counter("mempalace_sent_bytes_total", "Bytes of answers.", lambda t: t.bytes_sent),
    _gauge("mempalace_history_size", "Calls remembered of the busiest session.", lambda t: t.conversation_history_size),
    _gauge("mempalace_history_remembered", "Calls remembered of all sessions.", lambda t: t.conversation_history_total),
    _gauge(
        "mempalace_history_limit",
        "Calls remembered of a session at most.",
        lambda t: t.conversation_history_limit,
    ),
    _gauge("mempalace_executor_running", "Calls that have a thread.", lambda t: t.executor_running),
    _gauge("mempalace_executor_waiting", "Calls that wait for a thread.", lambda t: t.executor_waiting),
    _gauge("mempalace_writer_waiting", "Writes in the queue.", lambda t: t.writer_waiting),
    _gauge("mempalace_writer_oldest_seconds", "Age of the oldest unsettled write.", lambda t: t.writer_oldest_seconds),
    _counter("mempalace_writer_wait_seconds_total", "Time of writes in the queue.", lambda t: t.writer_wait_seconds),
    _gauge(
        "mempalace_writer_wait_max_seconds",
        "Longest time of a write in the queue.",
        lambda t: t.writer_wait_max_seconds,
    ),
    _counter("mempalace_commits_total", "Transactions committed.", lambda t: t.commits),
    _counter(
        "mempalace_lock_retries_total", "Attempts repeated because a program was in the way.", lambda t: t.lock_retries
    ),
    _counter("mempalace_lock_wait_seconds_total", "Time spent for the write lock.", lambda t: t.lock_wait_seconds),
    _gauge("mempalace_lock_wait_max_seconds", "Longest wait for the write lock.", lambda t: t.lock_wait_max_seconds),
    _gauge("mempalace_database_bytes", "Size of palace.db.", lambda t: t.database_bytes),
    _gauge("mempalace_log_bytes", "Size of the write-ahead log.", lambda t: t.log_bytes),
    _gauge("mempalace_disk_free_bytes", "Space left on the palace's disk.", lambda t: t.disk_free_bytes),
    _gauge("mempalace_pending_embeddings", "Passages without a vector.", lambda t: t.pending_embeddings),
    _counter("mempalace_index_openings_total", "Openings of Chroma.", lambda t: t.index_generation),
    _counter("mempalace_index_foreign_writes_total", "Foreign changes to Chroma.", lambda t: t.foreign_writes),
    _counter("mempalace_receipts_recorded_total", "Writes done under a receipt.", lambda t: t.receipts_recorded),
    _counter("mempalace_receipts_replayed_total", "Writes answered from a receipt.", lambda t: t.receipts_replayed),
)


def exposition(report: HealthReport) -> str:
    """The whole page; what cannot be read at the moment has no sample."""
    return "".join(f"{line}\n" for line in (*_about(report), *_figures(report.diagnostics)))


def _about(report: HealthReport) -> Iterator[str]:
    codes = {concern.code for concern in report.reasons}
    yield from _family("mempalace_info", "gauge", "The version that runs.", {report.version: 1}, "version")
    yield from _family("mempalace_uptime_seconds", "gauge", "Age of the process.", report.uptime_seconds)
    status = {each.value: int(each is report.status) for each in Status}
    yield from _family("mempalace_status", "gauge", "1 for the status that holds.", status, "status")
    reasons = {reason.code: int(reason.code in codes) for reason in REASONS}
    yield from _family("mempalace_reason", "gauge", "1 for each reason not to be ok.", reasons, "code")


def _figures(told: Diagnostics) -> Iterator[str]:
    for metric in METRICS:
        yield from _family(metric.name, metric.kind, metric.meaning, metric.read(told), metric.label)


def _family(
    name: str, kind: Kind, meaning: str, value: Number | Mapping[Any, int] | None, label: str = ""
) -> Iterable[str]:
    """A figure with its head, or nothing if there is none."""
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


PATH = "/api/history"

_SCHEMA = input_schema(HistoryArguments)


def history_route(activity: Activity) -> Route:
    """The route, which answers from memory."""

    async def history(request: Request) -> Response:
        try:
            asked = read_arguments(HistoryArguments, _read_query(request.query_params), _SCHEMA)
            told = describe_history(activity, session=asked.session, limit=asked.limit, cursor=asked.cursor)
        except (InvalidArgument, NotFound) as error:
            return HttpRefusal(404 if isinstance(error, NotFound) else 400, error).plain()
        return JSONResponse(told)

    return Route(PATH, history, methods=["GET"])


def _read_query(query: QueryParams) -> dict[str, str]:
    """The parameters by name.

    Raises:
        InvalidArgument: one is given twice.
    """
    pairs = query.multi_items()
    twice = next((name for position, (name, _) in enumerate(pairs) if name in dict(pairs[:position])), None)
    if twice is not None:
        raise InvalidArgument(f"{readable(twice)} is given twice", argument=readable(twice), hint="Give it once.")
    return dict(pairs)
