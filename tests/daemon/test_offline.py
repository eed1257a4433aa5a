"""Everything is done on this machine: no process of a palace asks the network for anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import injections
from tests.daemon.support import bridge, processes_of, use, wait_for
from tests.laboratory import laboratory

pytestmark = pytest.mark.usefixtures("private_runtime")

WATCHED = '''
"""Python runs this at the start of every process: what asks the network is noted and fails."""

import os
import socket
import sys


def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto") or (
        event == "socket.connect" and arguments[0].family != socket.AF_UNIX
    ):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            print(event, *arguments, file=log)
        raise OSError("the network is down")


sys.addaudithook(refuse)
with open(os.environ["NETWORK_LOG"], "a") as log:
    print("started", os.getpid(), file=log)
'''


@pytest.fixture
def early(tmp_path: Path) -> Path:
    """The package with a Chroma that begins at once."""
    return laboratory(tmp_path / "early", {"storage.vectors.index": injections.early_chroma})


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the processes that are started from now on want of the network."""
    (tmp_path / "sitecustomize.py").write_text(WATCHED, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("NETWORK_LOG", str(tmp_path / "network.log"))
    return tmp_path / "network.log"


def test_no_process_of_a_palace_uses_the_network(palace: Path, early: Path, log: Path) -> None:
    with bridge(palace, package=early) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="Herons stand still in the shallow water.")
        assert use(client, 2, "search", query="water birds", mode="semantic")["results"]
        wait_for(lambda: (palace / "index" / "chroma.json").exists(), "Chroma")
        everybody = {process for known in processes_of(palace) for process in (known, *known.children())}
        assert len(everybody) == 3  # bridge, daemon, Chroma's
        assert [process.net_connections("inet") for process in everybody] == [[], [], []]
        assert client.finish() == (0, [])
    started = {f"started {process.pid}" for process in everybody}
    assert set(log.read_text(encoding="utf-8").splitlines()) == started
