"""One real server for all tests of conformance, and how to reach it over every transport."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests import injections
from tests.daemon.support import PROGRAM
from tests.laboratory import laboratory
from tests.server.clients import PATIENCE, end

TRANSPORTS = ("http", "sse", "stdio", "bridge")


@dataclass(frozen=True)
class Target:
    """A server whose `get_taxonomy` of the wing `until x` says that it is half done, and then waits for a drawer in x;
    if it is told to stop first, it files one in the wing `x no more`.

    `package` is the folder from which it was imported.
    """

    palace: Path
    package: Path
    port: int

    def options(self, transport: str) -> tuple[str, ...]:
        """What makes a client of stdio start a process of its own that serves it, or a bridge to the server."""
        return ("--tools", "full", *(["--solo"] if transport == "stdio" else []))

    def connect(self, transport: str) -> AbstractAsyncContextManager[Any]:
        """The official client's end of the transport."""
        if transport == "http":
            return streamable_http_client(f"http://127.0.0.1:{self.port}/mcp")
        if transport == "sse":
            return sse_client(f"http://127.0.0.1:{self.port}/sse")
        command, *arguments = *PROGRAM, "--palace", str(self.palace), *self.options(transport)
        return stdio_client(
            StdioServerParameters(command=command, args=arguments, env=dict(os.environ), cwd=self.package)
        )


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server, which ends well with the last test."""
    directory = tmp_path_factory.mktemp("conformance")
    palace = directory / "palace"
    package = laboratory(directory / "package", {"server.tools.overview": injections.patient_taxonomy})
    command = (*PROGRAM, "serve", "--palace", str(palace), "--port", "0", "--tools", "full", "--json")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=package)
    try:
        assert process.stdout is not None
        address: str = json.loads(process.stdout.readline())["address"]
        yield Target(palace, package, int(address.rpartition(":")[2]))
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        end(process)
