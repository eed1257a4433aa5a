"""Looks at a server from outside: its health page, and what the system says about its process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil

from tests.server.clients import PATIENCE, RawHttp
from tests.soak.gauges import Sample

PAUSE_SECONDS = 0.26
"""Between two looks; the server counts its tasks four times a second."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What is equal in two looks at a server at rest."""

    running: int
    sessions: int
    threads: int
    descriptors: int
    tasks: int


class Watch:
    """Takes samples of the server at a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process = psutil.Process(self.health()["pid"])
        self._began = time.monotonic()

    def health(self) -> dict[str, Any]:
        """What `/health` says."""
        with RawHttp(self._port) as http:
            document: dict[str, Any] = http.ask("GET", "/health").json
        return document

    def sample(self, sessions: int) -> Sample:
        """Wait until nothing runs, and no session is open but so many; then measure."""
        limit = time.monotonic() + 2 * PATIENCE
        before = None
        while True:
            with RawHttp(self._port) as http:
                document = http.ask("GET", "/health").json
                look = self._look(document)
                if look == before and (look.running, look.sessions) == (0, sessions):
                    return self._measure(document, look)
            assert time.monotonic() < limit, f"{look.sessions} sessions, not {sessions}, or no rest: {before}, {look}"
            before = look
            time.sleep(PAUSE_SECONDS)

    def _look(self, document: dict[str, Any]) -> _Look:
        told = document["diagnostics"]
        return _Look(
            running=told["running_executions"],
            sessions=sum(told["sessions"].values()) - told["sessions"]["http"],
            threads=self._process.num_threads(),
            descriptors=self._process.num_fds(),
            tasks=told["asyncio_task_count"],
        )

    def _measure(self, document: dict[str, Any], look: _Look) -> Sample:
        told, database = document["diagnostics"], document["components"]["database"]
        return Sample(
            seconds=round(time.monotonic() - self._began, 3),
            calls=sum(told["calls"].values()),
            threads=look.threads,
            descriptors=look.descriptors,
            tasks=look.tasks,
            rss_bytes=self._process.memory_info().rss,
            allocated_blocks=told["allocated_blocks"],
            log_bytes=database["log_bytes"] or 0,
            database_bytes=database["database_bytes"] or 0,
            sessions=look.sessions,
            cpu_seconds=told["cpu_seconds"],
        )
