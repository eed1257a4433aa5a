"""Files of a palace are closed to other users, however they came to be open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.vectors.manifest import directories
from tests.storage.drawer_support import cabinet

OTHERS = 0o077


@pytest.fixture
def no_mask() -> Iterator[None]:
    """The most careless of users."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def test_new_files_are_private(tmp_path: Path, no_mask: None) -> None:
    with closing(Database(tmp_path / "a" / "palace")) as database:
        database.write(lambda tx: tx.stamp, Deadline())
        assert {"palace.db", "palace.db-wal", "palace.db-shm", "write.lock"} <= set(modes(database.directory))
        assert [name for name, mode in modes(database.directory).items() if mode & OTHERS] == []
        for folder in (database.directory, database.directory.parent):
            assert folder.stat().st_mode & 0o777 == 0o700


def loosen(palace: Path) -> None:
    """As a careless copy leaves a palace."""
    Database(palace).close()
    for name in ("daemon.log", "daemon.log.1", "tokens.toml"):
        (palace / name).touch(0o666)
    (palace / "index" / "chroma-1").mkdir(0o777, parents=True)
    (palace / "index").chmod(0o777)
    (palace / "palace.db").chmod(0o664)
    palace.chmod(0o777)


def test_looser_ones_are_closed_and_told_of(tmp_path: Path, no_mask: None, caplog: pytest.LogCaptureFixture) -> None:
    palace = tmp_path / "palace"
    loosen(palace)
    with closing(Database(palace)):
        found = modes(palace)
        assert found.pop("tokens.toml") == 0o666, "to be looked at first"
        assert [name for name, mode in found.items() if mode & OTHERS] == []
        assert found["index"] == 0o700
    assert palace.stat().st_mode & 0o777 == 0o755, "others may still look, but put nothing there"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5
    assert any(str(palace / "palace.db") in message and "664" in message for message in told)
    caplog.clear()
    Database(palace).close()
    assert caplog.records == []


def test_a_palace_in_a_folder_that_holds_more_leaves_that_alone(
    tmp_path: Path, no_mask: None, caplog: pytest.LogCaptureFixture
) -> None:
    project = tmp_path / "project"
    loosen(project)
    others = (
        "uv.lock",
        "poetry.lock",
        "Cargo.lock",
        "yarn.lock",
        "my.lock",
        "palace.db.bak",
        "daemon.log.old",
        "notes.txt",
    )
    for name in others:
        (project / name).touch(0o666)
    (project / "elsewhere.lock").symlink_to(project / "notes.txt")
    (project / "write.lock").chmod(0o664)
    with closing(Database(project)):
        found = modes(project)
        assert {name: found[name] for name in others} == dict.fromkeys(others, 0o666)
        assert {found[name] for name in ("palace.db", "write.lock", "daemon.log")} == {0o600}
    assert project.stat().st_mode & 0o777 == 0o777
    assert any(str(project) in record.getMessage() and "777" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("inside", [(), ("main.py", "chroma-backup"), ("chromatic.json",)])
def test_a_folder_called_index_is_not_the_index(tmp_path: Path, no_mask: None, inside: tuple[str, ...]) -> None:
    index = tmp_path / "index"
    index.mkdir(0o777)
    for name in inside:
        (index / name).mkdir(0o777)
    Database(tmp_path).close()
    assert index.stat().st_mode & 0o777 == 0o777
    assert directories(index) == [], "nor is anything in it thrown away with the index"


def test_purged_text_is_gone_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "palace.db"
    with cabinet(str(path)) as palace:
        palace.connection.execute("PRAGMA journal_mode = WAL")
        palace.connection.execute("PRAGMA secure_delete = ON")
        palace.file_all([f"ordinary note number {n} about nothing in particular" for n in range(400)])
        secret = "xylophonist quibbling zephyr"
        filed = palace.file(f"{secret} {'padding ' * 2000} {secret}", size=800, source_file="kumquat.txt")
        palace.update(filed.drawer_id, content=f"second {secret} state")
        palace.file_all([f"later note number {n}" for n in range(400)])
        palace.tokenize()
        (tokens,) = palace.row(
            "SELECT tokens FROM passage_tokens t JOIN chunks c ON c.id = t.chunk JOIN drawers d ON d.id = c.drawer"
            " WHERE d.drawer_id = ?",
            filed.drawer_id,
        )
        palace.delete(filed.drawer_id)
        palace.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"xylophonist" in path.read_bytes()
        assert tokens in path.read_bytes()
        palace.purge()
        palace.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        left = path.read_bytes()
    for word in (b"xylophonist", b"ylophonist", b"quibbling", b"quibbl", b"zephyr", b"ephyr", b"kumquat", tokens):
        assert word not in left, word
