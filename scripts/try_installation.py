"""Does the installed package work as far as it is used? Run by its own Python, as where packages were left out.

Every module is imported, Chroma keeps and finds vectors, and a server files, embeds, searches and speaks each revision.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import mempalace_mcp
from mempalace_mcp.storage.vectors.chroma_process import ChromaProcess

_NEEDS_DRIVER = ".storage.postgres"
"""These modules are for an extra, which may not be installed."""

ROWS = 1100
"""Beyond 1000 Chroma writes its own index files."""

DIMENSION = 384
MODEL_SECONDS = 60.0
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
NEW = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "trial", "version": "1"},
}


def import_everything() -> None:
    """Whatever a session may import one day."""
    for module in pkgutil.walk_packages(mempalace_mcp.__path__, "mempalace_mcp."):
        is_left_out = _NEEDS_DRIVER in module.name and importlib.util.find_spec("psycopg") is None
        if not module.name.endswith("__main__") and not is_left_out:
            importlib.import_module(module.name)


def keep_vectors(directory: Path) -> None:
    """As the daemon does, in a child process."""
    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for attempt in range(2):
        session = ChromaProcess(directory)
        if attempt == 0:
            for start in range(0, ROWS, 100):
                session.upsert(np.arange(start, start + 100), vectors[start : start + 100])
        found = session.query(vectors[7], 5, ROWS, 30.0)
        assert found is not None
        assert 7 in found.chunks
        session.close()


def serve(palace: Path) -> None:
    """One server, asked in an older revision and in the newest, which is the SDK's."""
    environment = {**os.environ, "PALACE_HOST": "127.0.0.1", "PALACE_PORT": "0", "PALACE_TOKEN": "trial-" * 6}
    command = [sys.executable, "-m", "mempalace_mcp", "serve", "--json", "--palace", str(palace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            filed = ask(address, "tools/call", "add_drawer", wing="w", room="r", content="the harbour lights are green")
            assert filed["structuredContent"]["created"], filed
            assert search(address, "signals for ships")["structuredContent"]["results"]
            assert ask(address, "tools/list", "")["tools"]
            assert ask(address, "resources/list", "", _meta=META)["resources"]
        finally:
            server.terminate()
    assert server.returncode == 0, server.returncode


def search(address: str, query: str) -> dict[str, Any]:
    """The answer to a search by meaning, which is refused until the model is loaded."""
    until = time.monotonic() + MODEL_SECONDS
    while True:
        found = ask(address, "tools/call", "search", query=query, mode="semantic")
        if not found["isError"]:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def ask(address: str, method: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """The result of a request."""
    params = {"name": tool, "arguments": arguments} if tool else arguments
    modern = {"MCP-Protocol-Version": NEW, "Mcp-Method": method} if "_meta" in arguments else {}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {**HEADERS, **modern, "Authorization": f"Bearer {'trial-' * 6}"}
    request = urllib.request.Request(f"{address}/mcp", body, headers)
    # What builds an image may have a proxy for the network in its environment, which knows nothing of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        text = response.read().decode()
    answer = json.loads(text[text.index("{") :].splitlines()[0])
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


def main() -> None:
    """All of it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        import_everything()
        keep_vectors(Path(folder) / "index")
        serve(Path(folder) / "palace")
    print("The installation works.")


if __name__ == "__main__":
    main()
