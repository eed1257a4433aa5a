"""Files of a palace that belong to another user: what may not be opened is named, with what to do, and not tried again.

Root may open everything, so it goes without that: the program is run without the capability.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mempalace_mcp.core.errors import StorageReadOnly
from mempalace_mcp.core.files import foreign_owner, permission_hint
from mempalace_mcp.storage.sqlite.database import Database
from tests.daemon.support import PROGRAM, bridge, daemon_pid, end_processes_of, made, use
from tests.laboratory import PACKAGE
from tests.server.clients import call

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
_ALMIGHTY = "-dac_override,-dac_read_search"
HUMBLE = ("setpriv", "--bounding-set", _ALMIGHTY, "--inh-caps", _ALMIGHTY) if IS_ROOT else ()
NOBODY = 65534


@pytest.fixture
def palace(tmp_path: Path) -> Iterator[Path]:
    """A palace with a drawer in it, which nobody serves."""
    directory = made(tmp_path / "palace", ["the harbour lights are green"])
    yield directory
    end_processes_of(directory)


def close_to_us(file: Path) -> None:
    """What another user may have left here: nobody else can open it."""
    file.touch()
    if IS_ROOT:
        os.chown(file, NOBODY, NOBODY)
    file.chmod(0o600 if IS_ROOT else 0)


def command(*arguments: str | Path, code: int = 0, **environment: str) -> str:
    """What a command prints; run as one user among others."""
    finished = subprocess.run(
        [*HUMBLE, *PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        env={**os.environ, **environment},
        check=False,
        timeout=60,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def refusal(answer: dict[str, Any], file: Path) -> dict[str, Any]:
    """The error in an answer, after checking that it names the file, says what to do, and does not say `try again`."""
    error: dict[str, Any] = (
        answer["error"]["data"] if "error" in answer else answer["result"]["structuredContent"]["error"]
    )
    assert error["code"] == StorageReadOnly.code, error
    assert error["retryable"] is False
    assert str(file) in error["message"]
    assert "Try again" not in error["hint"]
    assert ("It belongs to" if IS_ROOT else "writable for this user") in error["hint"]
    return error


@pytest.mark.parametrize("name", ["daemon.lock", "palace.db"])
def test_a_session_is_told_which_file_is_closed_to_it(palace: Path, name: str) -> None:
    close_to_us(palace / name)
    with bridge(palace, through=HUMBLE) as client:
        client.send(call(1, "get_taxonomy"))
        refusal(client.receive(), palace / name)


def test_where_more_than_the_lock_is_closed_the_palace_is_read(palace: Path) -> None:
    close_to_us(palace / "daemon.lock")
    (palace / "palace.db").chmod(0o400)
    with bridge(palace, through=HUMBLE) as client:
        client.greet()
        assert use(client, 1, "search", query="harbour", mode="keyword")["count"] == 1
        assert "storage_read_only" in use(client, 2, "status")["reasons"][0]
        client.send(call(3, "add_drawer", wing="w", room="r", content="new"))
        error = client.receive()["result"]["structuredContent"]["error"]
        assert error["code"] == StorageReadOnly.code
        assert str(palace / "palace.db") in error["message"]


@pytest.mark.parametrize("name", ["palace.db", "write.lock"])
def test_what_may_be_written_again_is_written_by_the_same_session(palace: Path, name: str) -> None:
    with bridge(palace) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="left in the log by a daemon that is killed")
    end_processes_of(palace)
    (palace / name).chmod(0o400)
    with bridge(palace, through=HUMBLE) as client:
        client.greet()
        for number in range(2):
            client.send(call(number, "add_drawer", wing="w", room="r", content="new"))
            error = client.receive()["result"]["structuredContent"]["error"]
            assert error["code"] == StorageReadOnly.code
            assert str(palace / name) in error["message"]
        assert "storage_read_only" in use(client, "reasons", "status")["reasons"][0]
        (palace / name).chmod(0o600)
        assert use(client, "new", "add_drawer", wing="w", room="r", content="new")["created"]
        assert use(client, "none", "status")["reasons"] == []


def test_without_the_lock_the_palace_is_read(palace: Path) -> None:
    Database(palace).close()
    assert not (palace / "palace.db-wal").exists(), "reading makes it, and that is no other palace"
    close_to_us(palace / "write.lock")
    with bridge(palace, through=HUMBLE) as client:
        client.greet()
        for number in range(2):
            assert use(client, f"search {number}", "search", query="harbour", mode="keyword")["count"] == 1
            client.send(call(number, "add_drawer", wing="w", room="r", content="new"))
            refusal(client.receive(), palace / "write.lock")


@pytest.mark.parametrize("name", ["index.lock", "embed.lock", "daemon.json", "daemon.log"])
def test_what_is_not_needed_is_done_without(palace: Path, name: str) -> None:
    close_to_us(palace / name)
    with bridge(palace, through=HUMBLE) as client:
        client.greet()
        assert use(client, 1, "add_drawer", wing="w", room="r", content="new")["created"]
        assert use(client, 2, "search", query="new", mode="keyword")["count"] == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("serve", "--port", "0"), "daemon.lock"),
        (("serve", "--port", "0"), "palace.db"),
        (("import", "README.md"), "palace.db"),
        (("search", "harbour"), "palace.db"),
        (("status",), "palace.db"),
    ],
    ids=str,
)
def test_a_command_says_so(palace: Path, arguments: tuple[str, ...], name: str) -> None:
    close_to_us(palace / name)
    told = json.loads(command(*arguments, "--json", "--palace", palace, code=1).splitlines()[-1])
    refusal({"error": {"data": told["error"]}}, palace / name)


def test_the_daemon_of_another_user_is_that(palace: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as folder, bridge(palace, environment={"XDG_RUNTIME_DIR": folder}) as client:
        runtime = {"XDG_RUNTIME_DIR": folder}
        client.greet()
        pid = daemon_pid(client)
        (private,) = Path(folder).iterdir()
        close_to_us(private)
        told = [command("daemon", what, "--palace", palace, code=1, **runtime) for what in ("status", "stop")]
        assert all(f"process {pid}, is another user's" in each for each in told)
        assert "another user's" in command("doctor", "--palace", palace, code=1, **runtime)
        assert daemon_pid(client, "again") == pid
        end_processes_of(palace)
        private.chmod(0o700)


def test_the_owner_is_named(tmp_path: Path) -> None:
    file = tmp_path / "write.lock"
    assert foreign_owner(file) is None, "it is not there"
    file.touch()
    assert foreign_owner(file) is None
    assert str(tmp_path) in permission_hint(file)
    if IS_ROOT:
        os.chown(file, NOBODY, NOBODY)
        assert "nobody" in str(foreign_owner(file))
        assert "remove it" in permission_hint(file)
        assert "remove it" not in permission_hint(file.with_suffix(".db"))
        os.chown(file, 54321, 54321)
        assert foreign_owner(file) == "user 54321"
