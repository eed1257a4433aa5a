"""Run the driver of a client over one way, restart the server when the driver asks for it, and keep what it told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.catalogue import Catalogue, Client, Way
from tests.clients.environments import Environments
from tests.clients.jobs import Json, job
from tests.clients.servers import Server, free_port, listening, server

RESTART_PATIENCE = 30.0
LIMIT_PATIENCE = 5.0
"""Seconds for a client of which it is known that it does not come back."""

DRIVER_SECONDS = 600.0


@dataclass(slots=True)
class Report:
    """What a driver told, by step: its value, or why there is none."""

    values: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def add(self, told: Json) -> None:
        """Note one line of the driver."""
        step = told["step"]
        if "failed" in told:
            self.failures[step] = told["failed"]
        elif told.get("absent"):
            self.absent.add(step)
        else:
            self.values[step] = told["value"]


def probe(environments: Environments, catalogue: Catalogue, client: Client, way: Way, program: Sequence[str]) -> Report:
    """Do the whole job with a client over a way.

    Raises:
        NotInstalled: the client cannot be installed here.
    """
    command, around = environments.driver(catalogue.driven_by(client))
    own = environments.of(client)
    path = os.pathsep.join([own.variables["PATH"], around.variables["PATH"]])
    with server(program, way.server) as target, ExitStack() as stack:
        variables = {**os.environ, **target.variables, "PATH": path, "HOME": str(target.palace.parent)}
        where = _where(way, own.programs, target, variables, stack)
        with _driver(command, variables) as dialogue:
            patience = LIMIT_PATIENCE if client.limit(way, "after") else RESTART_PATIENCE
            return dialogue.hold(job(where, patience), target)


def _where(way: Way, programs: Path, target: Server, variables: Mapping[str, str], stack: ExitStack) -> Json:
    """What the driver connects to: our server, or a proxy in front of it, which is started here if it listens."""
    environment = {**target.variables, "PATH": variables["PATH"], "HOME": variables["HOME"]}
    if way.client == way.server == "stdio":
        return {"transport": "stdio", "command": target.session, "env": environment}
    if not way.command:
        return {"transport": way.client, "url": target.url, "headers": dict(target.headers)}
    port = free_port() if way.path else 0
    values = {"url": target.url, "token": target.token, "port": str(port), "session": " ".join(target.session)}
    parts = [[each] if each != "{server}" else target.session for each in way.command]
    command = [each.format_map(values) for part in parts for each in part]
    command[0] = str(programs / command[0])
    if not way.path:
        return {"transport": "stdio", "command": command, "env": environment}
    stack.enter_context(listening(command, port, variables, target.palace.parent / "proxy.log"))
    return {"transport": way.client, "url": f"http://127.0.0.1:{port}{way.path}", "headers": {}}


class _Dialogue:
    """The pipes to a driver."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def hold(self, task: Json, target: Server) -> Report:
        """Send the job, do as the driver asks, collect what it tells."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        report = Report()
        self._send(json.dumps(task))
        for line in self._process.stdout:
            told = json.loads(line)
            if told["step"] == "end":
                break
            if told["step"] == "restart":
                target.restart()
                self._send("restarted")
            else:
                report.add(told)
        else:
            log = self._log.read_text(encoding="utf-8", errors="replace").strip()
            report.failures["end"] = f"the driver ended early, or was stopped for taking too long: {log[-300:]}"
        return report

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


@contextmanager
def _driver(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[_Dialogue]:
    """The driver's process; it and all that it started end with the block."""
    log = Path(variables["HOME"]) / "driver.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=variables,
            cwd=log.parent,
            start_new_session=True,
        )
        watch = threading.Timer(DRIVER_SECONDS, _kill, [process])
        watch.start()
        try:
            yield _Dialogue(process, log)
        finally:
            watch.cancel()
            watch.join()
            _kill(process)
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
