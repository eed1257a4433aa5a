"""The examples run as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mempalace_mcp", "serve", "--port", "0", "--palace", str(tmp_path / "palace"), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        yield json.loads(process.stdout.readline())["address"]
        process.terminate()
        assert process.wait(20) == 0


def run(script: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_client_over_stdio(tmp_path: Path) -> None:
    told = run("client_stdio.py", str(tmp_path / "palace"))
    assert "'created': True" in told
    assert "tomatoes" in told


def test_the_client_over_http(address: str) -> None:
    assert run("client_http.py", f"{address}/mcp").splitlines() == [
        "2026-02-01 ['port 8080']",
        "2026-06-01 ['port 9090']",
    ]


def test_the_client_over_sse(address: str) -> None:
    assert "Moved the nightly backup" in run("client_sse.py", f"{address}/sse")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda file: file.name)
def test_client_configurations_start_our_command(file: Path) -> None:
    servers = json.loads(file.read_text(encoding="utf-8"))["mcpServers"]
    assert servers["mempalace"]["command"] == "mempalace-mcp"


@pytest.mark.timeout(240)
def test_mcp_proxy_in_both_directions() -> None:
    """The script installs mcp-proxy into an environment of its own."""
    finished = subprocess.run(
        [EXAMPLES / "mcp_proxy.sh", sys.executable], capture_output=True, text=True, timeout=230, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("Filed through a proxy.") == 2
    assert finished.stdout.endswith("both directions work\n")
