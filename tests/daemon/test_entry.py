"""A daemon that cannot start tells whoever started it why, whatever becomes of its log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.support import PROGRAM, bridge, use


def refusal(*options: str | Path, stderr: Any = subprocess.DEVNULL) -> dict[str, Any]:
    command = [*PROGRAM, "daemon", "run", *map(str, options)]
    born = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=60, check=False)
    assert born.returncode == 1
    told: dict[str, Any] = json.loads(born.stdout)["error"]
    return told


def test_an_error_of_the_system_is_told_like_any_other(tmp_path: Path) -> None:
    taken = tmp_path / "daemon.json"
    taken.mkdir()
    told = refusal("--palace", tmp_path)
    assert told["code"] == "storage"
    assert str(tmp_path) in told["message"]
    assert not list(tmp_path.glob("daemon.json.*"))


@pytest.mark.skipif(sys.platform != "linux", reason="a device that is always full")
def test_the_reason_is_told_also_where_nothing_can_be_logged(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with Path("/dev/full").open("wb") as full:
        told = refusal("--palace", file, "--private", stderr=full)
    assert str(file) in told["message"]


def test_a_palace_is_served_without_a_log(palace: Path) -> None:
    (palace / "daemon.log").mkdir(parents=True)
    with bridge(palace) as client:
        client.greet()
        assert use(client, 1, "get_taxonomy")["drawers"] == 0
    assert not list((palace / "daemon.log").iterdir())
