from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.cli.session import Options, is_ordinary
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon.bridge import Client, ClientGone
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
from mempalace_mcp.daemon.ipc import ClientHello, DaemonAddress, Frame, identity_of, is_newer, settings_of
from mempalace_mcp.daemon.refusals import crash_loop, refuse
from mempalace_mcp.server.tools.registry import Profile, verify_prefix


@given(st.integers(0, 2**63), st.sampled_from(["", "?", "!"]), st.binary(max_size=40).filter(lambda b: b"\n" not in b))
def test_frames_come_out_as_they_went_in(sequence: int, mark: str, line: bytes) -> None:
    encoded = Frame(sequence, line, mark).encode()
    assert encoded.endswith(b"\n")
    decoded = Frame.decode(encoded[:-1])
    assert (decoded.sequence, decoded.mark, decoded.line) == (sequence, mark, line)


@pytest.mark.parametrize("data", [b"", b"7", b"x {}", b" {}", b"-1 {}", b"{} {}", b"?! {}"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no frame"):
        Frame.decode(data)


def hello(**changes: object) -> ClientHello:
    fields = {"version": "1.0", "palace": (1, 2), "bridge": "ab", "pid": 3, **changes}
    return ClientHello(**fields)  # type: ignore[arg-type]


def test_a_hello_comes_out_as_it_went_in() -> None:
    said = hello(prefix="palace_", read_only=True, settings={"PALACE_INDEX": "exact"}, profile="full", token="t")
    heard = ClientHello.decode(said.encode())
    assert all(getattr(heard, name) == getattr(said, name) for name in ClientHello.__slots__)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"protocol": 2}', b'{"protocol": 1, "palace": [1, 2]}', b'{"protocol": 1, "palace": 7}'],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        ClientHello.decode(data)


@pytest.mark.parametrize(
    ("version", "other", "expected"),
    [
        ("0.2.0", "0.1.9", True),
        ("0.10", "0.9", True),
        ("1.0", "1.0", False),
        ("1.0rc1", "1.0", False),
        ("x", "0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, other: str, expected: bool) -> None:
    assert is_newer(version, other) is expected


def test_only_settings_of_palaces_are_said() -> None:
    secrets = {"PALACE_TOKEN": "x", "AGENT_KEY": "x", "SECRET": "x"}
    environment = {"PALACE_PATH": "/p", "PALACE_INDEX": "exact", "AGENT_HISTORY_LIMIT": "9" * 9999, **secrets}
    assert settings_of(environment) == {"PALACE_INDEX": "exact", "AGENT_HISTORY_LIMIT": "9" * 4096}


def test_an_address_is_read_as_written_and_removed_by_its_owner_alone(tmp_path: Path) -> None:
    file = str(tmp_path / "daemon.json")
    assert DaemonAddress.read(file) is None
    DaemonAddress(pid=1, version="1", started=2.5, port=80, token="t").write(file)
    found = DaemonAddress.read(file)
    assert found is not None
    assert (found.pid, found.port, found.path, found.token) == (1, 80, None, "t")
    DaemonAddress(pid=2, version="1", started=0).remove(file)
    assert Path(file).exists()
    found.remove(file)
    found.remove(file)
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert DaemonAddress.read(str(other)) is None


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


def test_the_client_is_written_whole_lines_even_where_writing_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client = Client(ours.fileno(), ours.fileno())
        lines = [b"%d" % number * 200_000 for number in range(4)]
        threads = [threading.Thread(target=client.write, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        received = b""
        while received.count(b"\n") < len(lines):
            received += theirs.recv(1 << 20)
        for thread in threads:
            thread.join(10)
        assert sorted(received.splitlines()) == sorted(lines)
        theirs.sendall(b"one\ntwo")
        theirs.shutdown(socket.SHUT_WR)
        assert list(client.lines()) == [b"one", b"two"]
        theirs.close()
        with pytest.raises(ClientGone):
            client.write(b"x")


def test_refusals_have_the_shape_of_the_server() -> None:
    error = crash_loop("/palace")
    called = json.loads(refuse(b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"x"}}', error) or b"")
    assert called["id"] == "7"
    assert called["result"]["isError"] is True
    assert called["result"]["structuredContent"] == json.loads(called["result"]["content"][0]["text"])
    assert set(called["result"]["structuredContent"]["error"]) >= {"code", "message", "argument", "hint", "retryable"}
    pinged = json.loads(refuse(b'{"jsonrpc":"2.0","id":7,"method":"ping"}', error) or b"")
    assert (pinged["id"], pinged["error"]["data"]["code"]) == (7, "busy")
    assert json.loads(refuse(b"garbage", error) or b"")["error"]["code"] == -32700
    assert refuse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', error) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, False, "core", False, "")),
        (["--palace", "p", "--tools=full"], ("p", False, "full", False, "")),
        (["--read-only", "--solo", "--tool-prefix", "x_"], (None, True, "core", True, "x_")),
        (["--palace="], ("", False, "core", False, "")),
    ],
)
def test_usual_options_are_read_quickly(arguments: list[str], expected: tuple[object, ...]) -> None:
    options = Options.read(arguments)
    assert options is not None
    assert (options.palace, options.solo, options.profile, options.read_only, options.prefix) == expected


@pytest.mark.parametrize("prefix", ["", "_", "mempalace_", "my-palace_2-", "x" * 32])
def test_an_ordinary_prefix_is_one_that_tools_can_have(prefix: str) -> None:
    assert is_ordinary(prefix)
    for profile in get_args(Profile):
        verify_prefix(prefix, profile)


@pytest.mark.parametrize("prefix", ["my palace.", "x" * 33, "é_", "a/b", "palace\n", "２_"])
def test_another_prefix_is_looked_at(prefix: str) -> None:
    assert not is_ordinary(prefix)


@pytest.mark.parametrize(
    "arguments", [["--tools", "all"], ["--palace"], ["--solo=1"], ["-x"], ["--palace", "--solo"], ["x"]]
)
def test_unusual_options_are_left_to_be_read_carefully(arguments: list[str]) -> None:
    assert Options.read(arguments) is None


def test_a_directory_is_known_by_more_than_its_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert identity_of(str(tmp_path / "link")) == identity_of(str(tmp_path))
