"""A palace broken in one way after the other, and what the doctor finds and mends."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.cli import doctor as doctor_module
from mempalace_mcp.cli.doctor import doctor
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.daemon.entry import runtime_folder
from mempalace_mcp.daemon.ipc import DaemonAddress
from mempalace_mcp.runtime.issues import IssueKind
from mempalace_mcp.storage.sqlite.connection import WAL_BYTES_KEPT
from tests.palace.support import opened
from tests.storage.support import Child, connected

ROOT = Path(__file__).parents[2]


pytestmark = [pytest.mark.long, pytest.mark.usefixtures("private_runtime")]


@pytest.fixture
def palace(tmp_path: Path) -> Path:
    """A palace with facts, which need no vectors."""
    with opened(tmp_path / "palace", started=False) as app:
        app.palace.kg_add("heron", "lives at", "the lake")
    return tmp_path / "palace"


def examine(palace: Path, *, fix: bool = False) -> dict[str, Any]:
    """What the doctor tells, by code."""
    told, well = doctor(load_settings({}, str(palace)), fix, as_json=True)
    document = json.loads(told)
    assert document["well"] is well
    assert all(finding["message"] and finding["remedy"] for finding in document["findings"])
    return {finding["code"]: finding for finding in document["findings"]}


def damage(palace: Path) -> None:
    with (palace / "palace.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(100_000))


def damage_a_table_that_is_not_looked_into(palace: Path) -> None:
    connection = sqlite3.connect(palace / "palace.db")
    ((page, size),) = connection.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'facts'"
    ).fetchall()
    connection.close()
    with (palace / "palace.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))


def change(sql: str) -> Callable[[Path], None]:
    def run(palace: Path) -> None:
        connection = sqlite3.connect(palace / "palace.db", isolation_level=None)
        connection.execute(sql)
        connection.close()

    return run


def forget_address(palace: Path) -> None:
    DaemonAddress(pid=1, version="0", started=0.0, path="/nowhere").write(str(palace / "daemon.json"))


def leave_socket(palace: Path) -> None:
    path = Path(runtime_folder("/nowhere")) / "old.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    os.utime(path, (0, 0))


def leave_index(palace: Path) -> None:
    (palace / "index").mkdir(0o700)
    (palace / "index" / "chroma-1").mkdir()


def expose(palace: Path) -> None:
    palace.chmod(0o775)
    (palace / "palace.db").chmod(0o644)
    (palace / "tokens.toml").touch(0o644)
    (palace / "notes.txt").touch(0o644)


def test_a_palace_that_is_well(palace: Path) -> None:
    before = sorted((file.name, file.stat().st_mtime_ns) for file in palace.glob("palace.db*"))
    assert examine(palace) == {}
    assert sorted((file.name, file.stat().st_mtime_ns) for file in palace.glob("palace.db*")) == before


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda palace: (palace / "palace.db").unlink(), "palace_absent"),
        (lambda palace: palace.rename(palace.parent / "elsewhere"), "palace_absent"),
        (damage, "palace_corrupt"),
        (damage_a_table_that_is_not_looked_into, "palace_corrupt"),
        (lambda palace: (palace / "palace.db").write_bytes(b"not a database " * 500), "palace_corrupt"),
        (change("PRAGMA user_version = 99"), "schema_too_new"),
        (change("PRAGMA user_version = 0"), "palace_corrupt"),
        (change("INSERT INTO model VALUES (1, 'another', 'fp32', 384)"), "model_mismatch"),
    ],
)
def test_what_a_person_must_mend(palace: Path, break_it: Callable[[Path], None], code: str) -> None:
    break_it(palace)
    assert list(examine(palace)) == [code]
    assert examine(palace, fix=True)[code]["mended"] is None


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (expose, "permissions"),
        (forget_address, "stale_address"),
        (leave_socket, "stale_sockets"),
        (leave_index, "index_doubtful"),
    ],
)
def test_what_mends_itself_without_danger(palace: Path, break_it: Callable[[Path], None], code: str) -> None:
    break_it(palace)
    assert list(examine(palace)) == [code]
    assert list(examine(palace)) == [code], "looking alone changes nothing"
    assert examine(palace, fix=True)[code]["mended"]
    assert examine(palace) == {}
    with opened(palace, started=False) as app:
        assert app.palace.kg_query("heron").total == 1


def test_passages_that_nobody_embeds(palace: Path) -> None:
    with opened(palace, started=False) as app:
        app.palace.add_drawer("w", "r", "filed while nobody embedded")
    assert "1 passage" in examine(palace)["embeddings_pending"]["message"]
    assert examine(palace, fix=True)["embeddings_pending"]["mended"]
    assert examine(palace) == {}


def test_token_vectors_of_a_wrong_size(palace: Path) -> None:
    with opened(palace) as app:
        app.palace.add_drawer("w", "r", "a note about herons")
        assert app.indexer.wait_until_idle(30)
    with connected(palace / "palace.db") as connection:
        connection.execute("UPDATE token_vectors SET packed = x'00'")
    assert "1 passage" in examine(palace)["token_vectors_faulty"]["message"]
    assert examine(palace, fix=True)["token_vectors_faulty"]["mended"]
    assert examine(palace) == {}


def test_a_log_that_does_not_shrink(palace: Path) -> None:
    with opened(palace, started=False) as app, Child("hold_snapshot", palace) as child:
        assert child.line() == "reading"
        app.palace.kg_add("heron", "eats", "fish")
        os.truncate(palace / "palace.db-wal", WAL_BYTES_KEPT + 1)
        failed = examine(palace, fix=True)["log_large"]
        assert (failed["mended"], "reader" in failed["failed"]) == (None, True)
        child.kill()
        assert examine(palace, fix=True)["log_large"]["mended"]
        assert examine(palace) == {}
        assert app.palace.kg_query("heron").total == 2


def test_a_lock_that_is_not_given_back(palace: Path) -> None:
    with Child("hold_lock", palace) as child:
        assert child.line() == "held"
        assert str(child.pid) in examine(palace)["lock_held"]["message"]


def test_a_daemon_that_does_not_answer(palace: Path) -> None:
    forget_address(palace)
    lock = FileLock.take(str(palace / "daemon.lock"))
    assert lock is not None
    found = examine(palace, fix=True)
    lock.close()
    assert list(found) == ["daemon_silent"]
    assert (palace / "daemon.json").exists(), "it may belong to the process that has the daemon lock"


def test_the_exit_code_tells(palace: Path) -> None:
    expose(palace)

    def run(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "mempalace_mcp", "doctor", "--palace", str(palace), *options]
        finished = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
        assert finished.stderr == ""
        return finished.returncode, finished.stdout

    found = "permissions: other users have access to palace, palace.db, tokens.toml"
    assert run() == (1, f"{found}\n   Run `chmod go-rwx` on {palace} and these files.\n\n{palace} needs attention.\n")
    code, told = run("--fix")
    assert (code, "fixed: closed palace, palace.db, tokens.toml to other users" in told) == (0, True)
    assert (palace / "notes.txt").stat().st_mode & 0o777 == 0o644, "not the palace's"
    assert run() == (0, f"{palace} is healthy.\n")


def test_every_code_is_in_the_documents() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    codes = {kind.code for kind in vars(doctor_module).values() if isinstance(kind, IssueKind)}
    assert {"palace_absent", "stale_sockets", "daemon_silent"} <= codes
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
