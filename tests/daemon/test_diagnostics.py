"""What real processes tell of themselves when they are asked, and when their palace is gone or replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.cli.doctor import doctor
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.daemon import control
from tests.daemon.support import PROGRAM, bridge, daemon_pid, use, wait_for
from tests.laboratory import PACKAGE
from tests.server.clients import PATIENCE

pytestmark = pytest.mark.usefixtures("private_runtime")


def health(palace: Path) -> tuple[str, list[str]]:
    """What the daemon says of itself."""
    told = control.describe(palace)
    assert told is not None
    return told["health"]["status"], [reason["code"] for reason in told["health"]["reasons"]]


def findings(palace: Path) -> dict[str, Any]:
    """What the doctor says."""
    told, _ = doctor(load_settings({}, str(palace)), fix=False, as_json=True)
    return {finding["code"]: finding for finding in json.loads(told)["findings"]}


def status(palace: Path, *options: str) -> str:
    """What the command prints."""
    command = [*PROGRAM, "status", "--palace", str(palace), *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=PACKAGE.parent, check=True)
    return finished.stdout


def test_a_daemon_whose_palace_vanished_says_so_to_the_doctor_too(palace: Path, tmp_path: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        pid = daemon_pid(client)
        wait_for(lambda: health(palace) == ("ok", []), "a daemon that is well")
        assert findings(palace) == {}
        (palace / "palace.db").rename(tmp_path / "aside")
        wait_for(lambda: health(palace) == ("failing", ["palace_missing"]), "a daemon that sees what is missing")
        found = findings(palace)
        assert set(found) == {"palace_absent", "palace_missing"}
        assert str(pid) in found["palace_missing"]["message"]
        (tmp_path / "aside").rename(palace / "palace.db")
        wait_for(lambda: health(palace) == ("ok", []), "a daemon that is well again")
        os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: "asked by a signal" in (palace / "daemon.log").read_text(), "the stacks")
        assert daemon_pid(client) == pid


def test_status_is_failing_beside_a_daemon_whose_files_were_replaced(palace: Path, tmp_path: Path) -> None:
    """As by a backup that is put in their place: the command reads the new ones, the sessions do not."""
    with bridge(palace, "--tools", "full") as client:
        client.greet()
        pid = daemon_pid(client)
        aside = (palace / "palace.db").rename(tmp_path / "aside")
        shutil.copyfile(aside, palace / "palace.db")
        wait_for(lambda: health(palace) == ("failing", ["palace_missing"]), "a daemon that sees what was replaced")
        told = json.loads(status(palace, "--json"))
        assert (told["status"], told["reported_by"]) == ("failing", {"pid": pid, "daemon": True})
        assert [reason.partition(":")[0] for reason in told["reasons"]] == ["palace_missing"]
        assert f"failing, reported by the daemon, process {pid}" in status(palace)
        use(client, 1, "reconnect")
        wait_for(lambda: health(palace) == ("ok", []), "a daemon that is well again")
        assert json.loads(status(palace, "--json"))["status"] == "ok"


def test_a_session_of_its_own_writes_its_stacks_too(palace: Path) -> None:
    with bridge(palace, "--solo", stderr=subprocess.PIPE) as client:
        client.greet()
        client.process.send_signal(signal.SIGUSR1)
        assert client.process.stderr is not None
        log = iter(client.process.stderr.readline, b"")
        assert any(b"asked by a signal" in line for line in log)
        assert any(line.startswith(b"thread ") for line in log)
        assert client.finish()[0] == 0
