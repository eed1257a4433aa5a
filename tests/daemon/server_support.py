"""Sessions, servers and commands of a palace in PostgreSQL, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mempalace_mcp.core.palace_url import PalaceUrl
from tests.daemon.support import PROGRAM
from tests.laboratory import PACKAGE
from tests.server.clients import PATIENCE, StdioClient, call, end


def environment_of(url: PalaceUrl | str, home: Path) -> dict[str, str]:
    """The environment of a user whose palace is there, with a home of its own."""
    return {**os.environ, "HOME": str(home), "PALACE_URL": str(url) if isinstance(url, str) else url.text}


@contextmanager
def session(environment: Mapping[str, str], *options: str, log: Path | None = None) -> Iterator[StdioClient]:
    """A session over stdio, before the handshake; it ends with the block, its daemon does not."""
    with Path(log or os.devnull).open("wb") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=PACKAGE.parent,
            env=environment,
        )
    try:
        yield StdioClient(process)
    finally:
        end(process)


@dataclass(frozen=True)
class HttpServer:
    """A `serve`, and what it has announced."""

    process: subprocess.Popen[bytes]
    announced: dict[str, Any]

    def get(self, path: str) -> httpx.Response:
        """Ask one of the probes."""
        return httpx.get(f"{self.announced['address']}{path}", timeout=PATIENCE)

    def post(self, message: Mapping[str, Any], token: str | None = None) -> httpx.Response:
        """Send a message to /mcp."""
        headers = {"Accept": "application/json, text/event-stream"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.post(f"{self.announced['address']}/mcp", json=message, headers=headers, timeout=2 * PATIENCE)

    def tool(self, name: str, /, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a tool; its answer, which may be an error."""
        answer = self.post(call(1, name, **arguments), token).raise_for_status().json()
        content: dict[str, Any] = answer["result"]["structuredContent"]
        return content


@contextmanager
def serving(environment: Mapping[str, str], *options: str) -> Iterator[HttpServer]:
    """A `serve` at a free port; it ends with the block."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        cwd=PACKAGE.parent,
        env=environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "it has not begun to serve"
        yield HttpServer(process, json.loads(line))
    finally:
        end(process)


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, cwd=PACKAGE.parent, env=environment, check=False
    )


def told(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = run(environment, *arguments, "--json")
    answer: dict[str, Any] = json.loads(done.stdout or "null") or {"stderr": done.stderr}
    return answer
