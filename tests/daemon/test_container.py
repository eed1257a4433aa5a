"""Where all is read-only but the palace, the user has no name, and the process is the first one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon.entry import LONGEST_SOCKET_PATH
from tests.daemon.container import UID, contained, needs_namespaces
from tests.daemon.support import PROGRAM, bridge, use, wait_for
from tests.health import troubles
from tests.laboratory import PACKAGE
from tests.server.clients import PATIENCE, RawHttp, call, end

pytestmark = needs_namespaces

TOKEN = "container-" * 4


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder by a short path, as a volume that was made by the engine: anybody may write there."""
    with tempfile.TemporaryDirectory(prefix="volume") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@contextmanager
def serving(
    before: Sequence[str], palace: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """`serve`, and what it announces."""
    process = subprocess.Popen(
        [*before, "env", *(f"{name}={value}" for name, value in environment.items()), *PROGRAM, "serve", "--json"],
        stdout=subprocess.PIPE,
        cwd=PACKAGE.parent,
        env={**os.environ, "PALACE_PATH": str(palace)},
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        end(process)


def test_it_is_served_as_its_image_serves_it(volume: Path) -> None:
    settings = {"PALACE_HOST": "0.0.0.0", "PALACE_PORT": "0", "PALACE_ALLOWED_HOSTS": "palace.example,other"}
    with serving(contained(volume), volume, {**settings, "PALACE_TOKEN": TOKEN}) as (outer, told):
        assert told["address"].startswith("http://0.0.0.0:")
        assert told["pid"] == 1
        headers = {"Authorization": f"Bearer {TOKEN}", "Host": "palace.example"}
        with RawHttp(int(told["address"].rpartition(":")[2])) as http:
            assert not troubles(http.ask("GET", "/health").json)
            assert http.ask("POST", "/mcp", call(1, "kg_stats")).status == 401
            assert http.ask("POST", "/mcp", call(1, "kg_stats"), {**headers, "Host": "evil.example"}).status == 421
            filed = call(2, "add_drawer", wing="w", room="r", content="the harbour lights are green")
            assert http.ask("POST", "/mcp", filed, headers).json["result"]["structuredContent"]["created"]
            found = http.ask("POST", "/mcp", call(3, "search", query="harbour"), headers).json["result"]
            assert len(found["structuredContent"]["results"]) == 1
        assert {each.stat().st_uid for each in volume.iterdir()} == {UID}
        assert (volume / "run").stat().st_mode & 0o777 == 0o700
        [first] = psutil.Process(outer.pid).children()
        first.send_signal(signal.SIGTERM)
        assert outer.wait(PATIENCE) == 0
        assert not list((volume / "run").rglob("*.sock"))
        assert not (volume / "daemon.json").exists()


def test_a_session_finds_a_place_for_its_daemon(volume: Path) -> None:
    with bridge(volume, through=contained(volume)) as client:
        client.greet()
        assert use(client, 1, "add_drawer", wing="w", room="r", content="green")["created"]
        assert use(client, 2, "status")["daemon"]["elected"] is True
        assert client.finish()[0] == 0


def test_a_runtime_folder_that_is_given_is_used(volume: Path) -> None:
    palace, run = volume / "palace", volume / "given"
    for folder in (palace, run):
        folder.mkdir()
        os.chown(folder, UID, UID)
    through = (*contained(palace, run), "env", f"XDG_RUNTIME_DIR={run}")
    with bridge(palace, through=through) as client:
        client.greet()
        assert use(client, 1, "kg_add", subject="a", predicate="b", object="c")["created"]
        assert list(run.rglob("*.sock"))
        assert not (palace / "run").exists()


def test_without_any_place_it_is_said_what_to_set(volume: Path) -> None:
    palace = volume / ("long" * (LONGEST_SOCKET_PATH // 4))
    palace.mkdir()
    os.chown(palace, UID, UID)
    with bridge(palace, through=contained(palace)) as client:
        refused = client.ask(call(1, "kg_stats"))["result"]["structuredContent"]["error"]
        assert refused["code"] == "configuration"
        assert "XDG_RUNTIME_DIR" in refused["hint"]
    command = [*contained(palace), *PROGRAM, "serve", "--palace", str(palace), "--port", "0"]
    served = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert served.returncode == 1
    assert "XDG_RUNTIME_DIR" in served.stderr
    assert "Traceback" not in served.stderr


def test_the_first_process_can_be_stopped_while_it_waits_to_begin(volume: Path) -> None:
    lock = FileLock(volume / "write.lock")
    lock.acquire()
    (volume / "write.lock").chmod(0o666)
    command = [*contained(volume), "env", f"PALACE_PATH={volume}", *PROGRAM, "serve", "--port", "0"]
    outer = subprocess.Popen(command, cwd=PACKAGE.parent)
    try:
        wait_for(lambda: _is_stopped(outer), "the end of a process that is told to stop again and again")
        assert outer.wait(PATIENCE) == 128 + signal.SIGTERM
    finally:
        end(outer)
        lock.close()


def _is_stopped(outer: subprocess.Popen[bytes]) -> bool:
    for inner in psutil.Process(outer.pid).children():
        if "serve" in inner.cmdline() and inner.name() != "sh":
            inner.send_signal(signal.SIGTERM)
    return outer.poll() is not None


@pytest.mark.parametrize("variable", ["PALACE_HOST", "PALACE_PORT", "PALACE_ALLOWED_HOSTS"])
def test_a_wrong_setting_does_not_start(volume: Path, variable: str) -> None:
    environment = {**os.environ, variable: "tcp://10.0.0.1:8765", "PALACE_PATH": str(volume)}
    command = [*PROGRAM, "serve"]
    served = subprocess.run(
        command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert served.returncode == 1
    assert f"{variable}='tcp://10.0.0.1:8765' is wrong" in served.stderr


def test_nobody_s_home_is_asked_for_by_its_name(volume: Path) -> None:
    command = [*contained(volume), "env", "-u", "PALACE_PATH", *PROGRAM, "search", "x"]
    searched = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert searched.returncode == 1
    assert "PALACE_PATH" in searched.stderr
    assert "Traceback" not in searched.stderr
