"""A backup takes the place of a palace: killed at every line, beside others, and where it cannot be done."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound, PalaceMissing, SchemaTooNew, StorageFull
from mempalace_mcp.storage.sqlite import restoring
from mempalace_mcp.storage.sqlite.database import Database
from tests.storage.support import add_wing, small_disk

FORMER, RESTORED = {f"former {n}" for n in range(400)}, {f"restored {n}" for n in range(30)}
CHILD_ENDED = 7

pytestmark = pytest.mark.long


def add(palace: Path, names: set[str]) -> Database:
    """Add wings of these names; the database stays open."""
    database = Database(palace)
    for name in sorted(names):
        database.write(add_wing(name), Deadline())
    return database


def in_child(run: Callable[[], Any]) -> int:
    """Run it in a process of its own, which leaves files as a crash does; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException:  # noqa: BLE001 - the test hears of it by the code
            os._exit(1)
        os._exit(CHILD_ENDED)
    return os.waitpid(child, 0)[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The palace `former`, whose log was left by a crash, and the file `backup.db`."""
    folder = tmp_path_factory.mktemp("made")
    with closing(add(folder / "other", RESTORED)) as other:
        other.backup(folder / "backup.db")
    with closing(Database(folder / "former")):
        pass
    assert os.waitstatus_to_exitcode(in_child(lambda: add(folder / "former", FORMER))) == CHILD_ENDED
    assert (folder / "former" / "palace.db-wal").stat().st_size > 100_000
    return folder


@pytest.fixture
def palace(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "former", tmp_path / "palace")


@pytest.fixture
def backup(made: Path) -> Path:
    return made / "backup.db"


def restore(palace: Path, backup: Path) -> Path | None:
    with restoring.staged(palace, backup) as copy:
        return restoring.replace_palace(palace, copy, Deadline(10))


def names(palace: Path) -> set[str]:
    """What the palace holds, once it was opened as any process opens it."""
    with closing(Database(palace)) as database:
        assert database.integrity() == []
        with database.read() as connection:
            return {name for (name,) in connection.execute("SELECT name FROM wings")}


def names_in(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {name for (name,) in connection.execute("SELECT name FROM wings")}


@contextmanager
def killed_at(line: int) -> Iterator[None]:
    """Kill this process when it comes to that line of the module, counted from the first one that runs."""
    left = line

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != restoring.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    yield
    sys.settrace(None)


def restore_killed(palace: Path, backup: Path, line: int) -> bool:
    """Was it killed before its end?"""

    def run() -> None:
        with killed_at(line):
            restore(palace, backup)

    status = in_child(run)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == CHILD_ENDED
    return os.WIFSIGNALED(status)


def test_the_former_palace_is_kept_and_can_be_restored(palace: Path, backup: Path) -> None:
    kept = restore(palace, backup)
    assert kept is not None
    assert {file.name for file in palace.iterdir()} == {"palace.db", kept.name, "write.lock", "restore.lock"}
    assert names(palace) == RESTORED
    assert names_in(kept) == FORMER
    again = restore(palace, kept)
    assert again is not None
    assert names(palace) == names_in(kept) == FORMER
    assert names_in(again) == RESTORED


def test_a_kill_at_any_line_leaves_the_former_palace_or_the_new_one(made: Path, backup: Path, tmp_path: Path) -> None:
    line, found = 0, []
    while True:
        line += 1
        palace = shutil.copytree(made / "former", tmp_path / str(line))
        if not restore_killed(palace, backup, line):
            break
        found.append(names(palace))
        restore(palace, backup)
        assert names(palace) == RESTORED
        kept = [names_in(file) for file in palace.glob("palace-before-restore-*.db")]
        assert FORMER in kept
        assert len({file.stat().st_ino for file in palace.glob("palace*.db*")}) == len(list(palace.glob("palace*.db*")))
        shutil.rmtree(palace)
    assert found.count(FORMER) > 20
    assert found.count(RESTORED) > 2
    assert all(each in (FORMER, RESTORED) for each in found)
    assert found == sorted(found, key=lambda each: each == RESTORED)  # never back again


def test_a_palace_that_sqlite_cannot_read_is_replaced_and_kept(made: Path, tmp_path: Path) -> None:
    line, garbage = 0, b"no database at all" * 1000
    killed = True
    while killed:
        line += 1
        palace = tmp_path / str(line)
        palace.mkdir()
        (palace / "palace.db").write_bytes(garbage)
        killed = restore_killed(palace, made / "backup.db", line)
        if (palace / "palace.db").read_bytes() != garbage:
            assert names(palace) == RESTORED
            [kept] = palace.glob("palace-before-restore-*.db")
            assert kept.read_bytes() == garbage
    assert line > 20
    assert names(palace) == RESTORED


def test_a_log_without_its_palace_is_not_mixed_in(palace: Path, backup: Path) -> None:
    (palace / "palace.db").unlink()
    restore(palace, backup)
    assert names(palace) == RESTORED


def test_where_there_was_no_palace(tmp_path: Path, backup: Path) -> None:
    assert restore(tmp_path / "new" / "palace", backup) is None
    assert names(tmp_path / "new" / "palace") == RESTORED


def test_a_process_that_has_the_palace_open_keeps_it(
    palace: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "ALONE_SECONDS", 0.2)
    with closing(Database(palace)) as database:
        with pytest.raises(Busy, match=r"have .*palace\.db open"):
            restore(palace, backup)
        with closing(add(palace, {"later"})):
            pass
        with database.read() as connection:
            assert connection.execute("SELECT 1 FROM wings WHERE name = 'later'").fetchone()
    assert names(palace) == FORMER | {"later"}
    assert not list(palace.glob("*restor*.db*"))


def test_what_was_opened_before_is_refused_its_writes(tmp_path: Path, backup: Path) -> None:
    """A process whose connections SQLite does not see, as on a disk that is shared."""
    palace = tmp_path / "palace"
    with closing(add(palace, {"former"})) as database:
        shutil.copy(backup, tmp_path / "copy")
        (tmp_path / "copy").replace(palace / "palace.db")
        with pytest.raises(PalaceMissing):
            database.write(lambda tx: tx.connection.execute("DELETE FROM wings") and None, Deadline())


def test_the_log_of_vectors_has_a_name_that_no_index_knows(palace: Path, backup: Path) -> None:
    logs = set()
    for _ in range(3):
        restore(palace, backup)
        with closing(sqlite3.connect(palace / "palace.db")) as connection:
            logs.add(connection.execute("SELECT palace_id, moves FROM state").fetchone())
    assert len(logs) == 3


def test_only_a_palace_is_restored(palace: Path, backup: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"

    def refused(kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            restoring.examine(wrong)

    refused(NotFound, "no file")
    wrong.write_text("Dear diary,")
    refused(InvalidArgument, "not a database")
    wrong.write_bytes(b"")
    refused(InvalidArgument, "no palace")
    with closing(sqlite3.connect(wrong)) as connection:
        connection.executescript("CREATE TABLE notes (text); PRAGMA user_version = 5;")
    refused(InvalidArgument, "no palace")
    whole = backup.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 4096, 100):
        wrong.write_bytes(whole[:size])
        refused(InvalidArgument, "cannot be restored")
    wrong.write_bytes(whole[:8192] + bytes(4096) + whole[12288:])
    refused(InvalidArgument, "cannot be restored")
    wrong.write_bytes(whole)
    with closing(sqlite3.connect(wrong)) as connection:
        connection.execute("PRAGMA user_version = 999")
    refused(SchemaTooNew, "999")
    wrong.unlink()
    os.mkfifo(wrong)
    refused(InvalidArgument, "is no file")
    wrong.unlink()
    wrong.symlink_to(palace / "palace.db")
    with pytest.raises(InvalidArgument, match="the palace itself"), restoring.staged(palace, wrong):
        pass
    assert names(palace) == FORMER


def test_a_full_disk_leaves_the_palace_as_it_was(made: Path, backup: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=8192) as disk:
        palace = shutil.copytree(made / "former", disk.path / "palace")
        refusals = 0
        for left in (0, 4, 64, backup.stat().st_size // 1024 - 8, backup.stat().st_size // 1024 + 64):
            disk.fill(leave_kilobytes=left)
            try:
                restore(palace, backup)
            except StorageFull:
                refusals += 1
            assert not (palace / "palace.db.restoring").exists()
            disk.empty()
            assert names(palace) in (FORMER, RESTORED)
        assert refusals >= 4
        restore(palace, backup)
        assert names(palace) == RESTORED
