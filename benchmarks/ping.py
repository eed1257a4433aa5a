"""Milliseconds of `ping` through a bridge while the daemon brings a palace's vectors to Chroma.

Run it as `python -m benchmarks.ping PALACE`, with a palace of at least 50,000 chunks; its index is thrown away first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PINGS = 200
"""Between two looks at how far the index is."""

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


class Client:
    """One session over stdio."""

    def __init__(self, palace: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mempalace_mcp", "--palace", str(palace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ask("initialize", INITIALIZE)

    def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer."""
        assert self._process.stdin
        assert self._process.stdout
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["result"]

    def rows_of_chroma(self) -> int:
        """How many vectors Chroma holds."""
        status = self.ask("tools/call", {"name": "status", "arguments": {}})["structuredContent"]
        return int(_find(status, "chroma_rows") or 0)

    def ping(self) -> float:
        """Milliseconds until the answer."""
        began = time.perf_counter()
        self.ask("ping", {})
        return (time.perf_counter() - began) * 1000

    def close(self) -> None:
        """End the session."""
        self._process.communicate(timeout=60)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("palace", type=Path)
    parser.add_argument("--rows", type=int, default=20_000, help="vectors to wait for in Chroma")
    options = parser.parse_args()
    shutil.rmtree(options.palace / "index", ignore_errors=True)
    client = Client(options.palace)
    while not (begun := client.rows_of_chroma()):
        time.sleep(0.2)
    pings: list[float] = []
    while (rows := client.rows_of_chroma()) < begun + options.rows:
        pings += [client.ping() for _ in range(PINGS)]
        time.sleep(0.1)
    _print(f"while Chroma took {rows - begun:,} vectors", pings)
    client.close()


def _find(value: Any, name: str) -> Any:
    """The value of that name, however deep."""
    if not isinstance(value, dict):
        return None
    return value[name] if name in value else next(filter(None, (_find(each, name) for each in value.values())), None)


def _print(what: str, pings: list[float]) -> None:
    cuts = statistics.quantiles(pings, n=100)
    print(f"{what}: {len(pings)} pings, p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms, max {max(pings):.2f} ms")


if __name__ == "__main__":
    main()
