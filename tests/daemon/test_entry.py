"""A daemon that begins: its lock, its socket and its log; and how it says why it cannot."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon.entry import (
    KEPT,
    LONGEST_SOCKET_PATH,
    MAX_BYTES,
    Log,
    listening,
    new_name,
    runtime_folder,
    sweep,
)
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


def test_there_is_one_daemon_lock_and_a_child_can_inherit_it(tmp_path: Path) -> None:
    file = str(tmp_path / "daemon.lock")
    lock = FileLock.take(file)
    assert lock is not None
    assert FileLock.take(file) is None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.share()])
    lock.close()
    assert FileLock.take(file) is None
    child.kill()
    child.communicate()
    again = FileLock.take(file)
    assert again is not None
    assert again.is_current()
    Path(file).unlink()
    assert not again.is_current()
    other = FileLock.take(file)
    assert other is not None
    other.close()
    again.close()


@pytest.mark.parametrize("loopback", [False, True])
def test_whoever_has_the_address_can_connect(loopback: bool) -> None:
    with listening("/nowhere", loopback=loopback) as (listener, address):
        assert (address.path is None) is loopback
        assert bool(address.token) is loopback
        with address.connect() as connection:
            accepted, _ = listener.accept()
            with accepted:
                connection.sendall(b"x")
                assert accepted.recv(1) == b"x"
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the kind of socket
        address.connect()


def test_sockets_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.sock" for name in ("dead", "newborn", "living")]
    sockets = [socket.socket(socket.AF_UNIX) for _ in paths]
    for each, path in zip(sockets, paths, strict=True):
        each.bind(str(path))
    sockets[2].listen()
    sockets[0].close()
    for path in (paths[0], paths[2]):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [path.exists() for path in paths] == [False, True, True]
    for each in sockets:
        each.close()


def test_the_folder_for_sockets_is_closed_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:  # paths of sockets must be short, and tmp_path may not be
        given = Path(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        folder = Path(runtime_folder("/nowhere"))
        assert folder.parent == given
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o755)
        assert Path(runtime_folder("/nowhere")).parent != given
        folder.rmdir()
        folder.symlink_to(given)
        assert Path(runtime_folder("/nowhere")).parent != given


def test_paths_of_sockets_are_short_whatever_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert len(os.fsencode(new_name("/nowhere", ".sock"))) <= LONGEST_SOCKET_PATH
    assert len({new_name("/nowhere", ".sock") for _ in range(10)}) == 10


def test_the_log_is_bounded(tmp_path: Path) -> None:
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom mempalace_mcp.daemon.entry import Log\n"
        "log = Log(Path(sys.argv[1]))\nlog.take_output()\n"
        "for number in range(60):\n    os.write(1 + number % 2, b'%d' % number * 50_000)\n    log.rotate()\n"
    )
    file = tmp_path / "daemon.log"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    files = Log(file).files()
    assert [each.name for each in files] == ["daemon.log.2", "daemon.log.1", "daemon.log"]
    assert len(files) == KEPT + 1
    assert all(each.stat().st_size <= MAX_BYTES + 100_000 for each in files)
    assert b"59" in files[-1].read_bytes() + files[-2].read_bytes()


def test_what_is_no_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").mkdir()
    (tmp_path / "daemon.log.1").touch()
    assert Log(tmp_path / "daemon.log").files() == [tmp_path / "daemon.log.1"]
