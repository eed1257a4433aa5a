"""A palace of its own for each run, the server in front of it, and how that is killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

OWN_PROGRAM = (sys.executable, "-m", "mempalace_mcp")
PATIENCE = 30.0
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Server:
    """The palace, and for clients over HTTP and SSE a `serve` that demands a token."""

    def __init__(self, program: Sequence[str], folder: Path, transport: str) -> None:
        self.program = program
        self.palace = folder / "palace"
        self.transport = transport
        self.variables = {"XDG_RUNTIME_DIR": str(folder)}
        self.token = ""
        self.port = 0
        self._log = (folder / "server.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where `serve` listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What a client is told."""
        return f"{self.address}/{'sse' if self.transport == 'sse' else 'mcp'}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What a client must send."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def session(self) -> list[str]:
        """The command of a session over stdio."""
        return [*self.program, "--palace", str(self.palace)]

    def start(self) -> None:
        """Start `serve`; return when it listens."""
        if not self.token:
            told = subprocess.run(
                [*self.program, "token", "new", "suite", "--scope", "write", "--palace", str(self.palace), "--json"],
                capture_output=True,
                check=True,
                env=self._environment(),
            )
            self.token = json.loads(told.stdout)["token"]
        self._process = subprocess.Popen(
            [*self.program, "serve", "--palace", str(self.palace), "--port", str(self.port), "--json"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server does not start: {Path(self._log.name).read_text()[-2000:]}")
        self.port = int(json.loads(line)["address"].rpartition(":")[2])

    def restart(self) -> None:
        """Kill it, as `kill -9` does, and start it again; over stdio the next call starts it."""
        if self._process is None:
            if not self._end_daemon(signal.SIGKILL):
                raise RuntimeError("there is no daemon behind the session")
        else:
            self._process.kill()
            self._end()
            self.start()

    def stop(self) -> None:
        """Nothing is left running."""
        if self._process is None:
            self._end_daemon(signal.SIGTERM)
        else:
            self._process.terminate()
            self._end()
        self._log.close()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One request as it is on the wire; its result."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        request = urllib.request.Request(
            f"{self.address}/mcp", json.dumps(message).encode(), {**HEADERS, **self.headers}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            result: dict[str, Any] = json.load(answer)["result"]
        return result

    def _end(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout:
            self._process.wait(PATIENCE)

    def _end_daemon(self, number: signal.Signals) -> bool:
        """Was there one?"""
        file = self.palace / "daemon.json"
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            daemon = psutil.Process(json.loads(file.read_text(encoding="utf-8"))["pid"])
            if str(self.palace) in daemon.cmdline():
                daemon.send_signal(number)
                daemon.wait(PATIENCE)
                return True
        return False

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}


@contextmanager
def server(program: Sequence[str], transport: str) -> Iterator[Server]:
    """A server that is up, or for stdio a palace that waits for its first session."""
    with tempfile.TemporaryDirectory(prefix="mp") as folder:
        started = Server(program, Path(folder).resolve(), transport)
        try:
            if transport != "stdio":
                started.start()
            yield started
        finally:
            started.stop()


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def listening(command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """A proxy that is up; it ends with the block, and what it has started too."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            limit = time.monotonic() + PATIENCE
            while not _accepts(port):
                if process.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError(f"the proxy does not listen: {log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
