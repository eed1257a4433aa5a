"""`restore` as a person uses it: beside sessions, `serve` and other processes, and when it cannot be done."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.storage.vectors.manifest import load_manifest
from tests.cli.test_commands import perform, perform_json, run, run_json
from tests.daemon.support import (
    PROGRAM,
    bridge,
    daemon_pid,
    end_processes_of,
    has_ended,
    kill,
    made,
    served,
    use,
    wait_for,
)
from tests.injections import early_chroma
from tests.laboratory import laboratory
from tests.server.clients import StdioClient
from tests.storage.support import small_disk

pytestmark = pytest.mark.long

ROWS = 20


@pytest.fixture
def palace(tmp_path: Path) -> Iterator[Path]:
    directory = made(tmp_path / "palace", ["The harbour opens at six."])
    yield directory
    end_processes_of(directory)


@pytest.fixture
def backup(palace: Path, tmp_path: Path) -> Path:
    """A backup of it; the palace itself has gone on."""
    file = tmp_path / "backup.db"
    perform("backup", file, "--palace", palace)
    made(palace, ["The harbour opens at nine."], [("Ann", "lives in", "Rome")])
    return file


def texts(palace: Path) -> set[str]:
    with closing(sqlite3.connect(palace / "palace.db")) as connection:
        return {text for (text,) in connection.execute("SELECT content FROM drawers WHERE deleted_at IS NULL")}


def found(client: StdioClient, number: Any, query: str, mode: str = "semantic") -> list[str]:
    hits = use(client, number, "search", query=query, mode=mode)["results"]
    return [hit["passage"] for hit in hits]


def test_what_it_says_and_what_there_is_then(palace: Path, backup: Path) -> None:
    told = run("restore", backup, "--palace", palace, "--yes")
    assert "1 drawer and 0 facts" in told
    assert "2 drawers and 1 fact" in told
    assert texts(palace) == {"The harbour opens at six."}
    [kept] = palace.glob("palace-before-restore-*.db")
    assert str(kept) in told
    report = run_json("restore", kept, "--palace", palace, "--yes")
    assert (report["drawers"], report["facts"], report["sessions"]) == (2, 1, 0)
    assert texts(palace) == {"The harbour opens at six.", "The harbour opens at nine."}
    run("doctor", "--fix", "--palace", palace)
    assert run_json("doctor", "--palace", palace)["well"]


def test_nothing_is_done_without_a_yes(palace: Path, backup: Path) -> None:
    before = (palace / "palace.db").read_bytes()
    assert "--yes" in run("restore", backup, "--palace", palace, code=1)
    assert (palace / "palace.db").read_bytes() == before
    assert not list(palace.glob("*restor*"))


def test_sessions_go_on_with_the_restored_palace(palace: Path, backup: Path) -> None:
    with bridge(palace) as client, bridge(palace) as other:
        client.greet()
        other.greet()
        first = daemon_pid(client)
        stop, filed, failures = threading.Event(), [], []

        def file_on() -> None:
            try:
                number = 0
                while not stop.is_set():
                    number += 1
                    text = f"Crate {number} stands in the yard."
                    assert use(other, number, "add_drawer", wing="w", room="r", content=text)["created"]
                    filed.append(text)
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                failures.append(error)

        thread = threading.Thread(target=file_on)
        thread.start()
        wait_for(lambda: len(filed) > 20, "some drawers")
        report = run_json("restore", backup, "--palace", palace, "--yes")
        before = len(filed)
        wait_for(lambda: failures or len(filed) > before + 20, "more drawers")  # type: ignore[arg-type,return-value]
        stop.set()
        thread.join()
        assert not failures
        assert (report["stopped"], report["sessions"]) == (first, 2)
        assert daemon_pid(client) != first
        assert has_ended(first)
        kept = Path(report["former"])
        # every drawer is in one of the two, and none in both: it was filed before, or after
        with closing(sqlite3.connect(kept)) as connection:
            former = {text for (text,) in connection.execute("SELECT content FROM drawers")}
        assert former | texts(palace) >= set(filed)
        assert former & texts(palace) == {"The harbour opens at six."}
        assert "The harbour opens at nine." not in found(client, "f", "when does the harbour open?")


def test_chromas_files_of_the_former_palace_are_not_trusted(tmp_path: Path) -> None:
    """The restored palace gives the same numbers to other texts, before Chroma looks at it."""
    palace, backup = tmp_path / "palace", tmp_path / "backup.db"
    package = laboratory(tmp_path / "laboratory", {"storage.vectors.index": early_chroma})
    made(palace, ["Every locker is empty."])
    perform("backup", backup, "--palace", palace)

    def file(texts: list[str], **environment: str) -> None:
        with bridge(palace, package=package, environment=environment) as client:
            client.greet()
            for number, text in enumerate(texts):
                use(client, number, "add_drawer", wing="w", room="r", content=text)
            wait_for(lambda: use(client, "p", "status")["palace"]["pending"] == 0, "vectors")
            if not environment:
                wait_for(lambda: position(palace) == ROWS + 1, "Chroma")
        run("daemon", "stop", "--palace", palace)

    try:
        file([f"Ship {number} carries tea." for number in range(ROWS)])
        former = load_manifest(palace / "index")
        run("restore", backup, "--palace", palace, "--yes")
        file([f"Baker {number} sells bread." for number in range(ROWS)], PALACE_INDEX="exact")
        assert load_manifest(palace / "index") == former
        file([])
        manifest = load_manifest(palace / "index")
        assert former is not None
        assert manifest is not None
        assert manifest.directory != former.directory
        assert run_json("doctor", "--palace", palace)["well"]
    finally:
        end_processes_of(palace)


def position(palace: Path) -> int:
    """How far Chroma's files follow the log of vectors, as far as they are closed; 0 if they do not."""
    manifest = load_manifest(palace / "index")
    if manifest is None:
        return 0
    with closing(sqlite3.connect(palace / "palace.db")) as connection:
        name = connection.execute("SELECT iif(moves, palace_id || '/' || moves, palace_id) FROM state").fetchone()[0]
    return manifest.position if manifest.palace == name else 0


def test_a_serve_is_named_and_stays(palace: Path, backup: Path) -> None:
    with served(palace) as (process, announced):
        error = run_json("restore", backup, "--palace", palace, "--yes", code=1)["error"]
        assert str(process.pid) in error["message"]
        assert announced["address"] in error["message"]
        assert process.poll() is None
    assert len(texts(palace)) == 2


def test_a_session_alone_keeps_the_palace(palace: Path, backup: Path) -> None:
    with bridge(palace, "--solo") as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="Third.")
        error = run_json("restore", backup, "--palace", palace, "--yes", code=1)["error"]
        assert error["code"] == "busy"
        assert "--solo" in error["hint"]
        assert use(client, 2, "status")["palace"]["drawers"] == 3
    run("restore", backup, "--palace", palace, "--yes")
    assert len(texts(palace)) == 1


def test_a_daemon_that_was_killed_leaves_no_session_behind(palace: Path, backup: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        kill(daemon_pid(client))
        run("restore", backup, "--palace", palace, "--yes")
        assert use(client, 1, "status")["palace"]["drawers"] == 1


def test_wrong_files_are_refused_by_name(palace: Path, backup: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"
    for content in (b"", b"hello", backup.read_bytes()[:50_000]):
        wrong.write_bytes(content)
        error = perform_json("restore", wrong, "--palace", palace, "--yes", code=1)["error"]
        assert error["argument"] == "FILE"
        assert str(wrong) in error["message"]
        assert error["hint"]
    for file in (tmp_path / "nothing.db", tmp_path, palace / "palace.db"):
        assert perform_json("restore", file, "--palace", palace, "--yes", code=1)["error"]["argument"] == "FILE"
    assert len(texts(palace)) == 2


def test_a_palace_in_postgresql_is_left_to_its_own_program(tmp_path: Path) -> None:
    url = "postgresql://ann:secret@127.0.0.1:1/d?schema=mine"
    told = subprocess.run(
        [*PROGRAM, "restore", str(tmp_path / "x.dump"), "--yes", "--json"],
        env={**os.environ, "PALACE_URL": url, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=False,
    )
    hint = json.loads(told.stdout)["error"]["hint"]
    assert "pg_restore" in hint
    assert str(tmp_path / "x.dump") in hint
    assert "secret" not in hint


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_folder_that_cannot_be_written_is_left_as_it_is(backup: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=16_000) as disk:
        directory = made(disk.path / "palace", ["Here."])
        disk.forbid_writing()
        error = run_json("restore", backup, "--palace", directory, "--yes", code=1)["error"]
        assert error["code"] == "storage_read_only"
        disk.allow_writing()
        disk.fill(leave_kilobytes=100)
        error = run_json("restore", backup, "--palace", directory, "--yes", code=1)["error"]
        assert error["code"] == "storage_full"
        disk.empty()
        assert texts(directory) == {"Here."}
        run("restore", backup, "--palace", directory, "--yes")
        assert texts(directory) == {"The harbour opens at six."}


def test_only_the_latest_backups_are_kept_in_a_folder(palace: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    first = run_json("backup", "--keep", "1", safe, "--palace", palace)
    wait_for(lambda: time.strftime("%H%M%S", time.gmtime()) not in first["path"], "the next second")
    told = run("backup", "--keep", "1", safe, "--palace", palace)
    assert f"Removed {first['path']}." in told
    [left] = safe.iterdir()
    assert run_json("restore", left, "--palace", palace, "--yes")["drawers"] == 1
    assert run_json("backup", "--keep", "2", tmp_path / "none", "--palace", palace, code=1)["error"]["argument"]
