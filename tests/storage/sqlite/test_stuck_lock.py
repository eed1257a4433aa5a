"""A palace whose write lock is held by a process that does nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import DeadlineExceeded
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.sqlite.database import LOCK_FILE, Database
from mempalace_mcp.storage.sqlite.opening import locked_to_open
from tests.storage.support import add_wing, fresh_database, soon, wings

pytestmark = pytest.mark.long


def test_a_palace_is_opened_and_read_beside_it_and_writes_say_who_is_in_the_way(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database:
        database.write(add_wing("Paris"), soon())
    other = FileLock(tmp_path / LOCK_FILE)
    with other.hold():
        database = Database(tmp_path)
        assert wings(database) == ["Paris"]
        with pytest.raises(DeadlineExceeded, match=r"write\.lock, held by process"):
            database.write(add_wing("Rome"), Deadline(0.05))
    assert database.write(add_wing("Rome"), soon()) == 2
    database.close()
    other.close()


def test_what_has_to_be_written_is_waited_for(tmp_path: Path) -> None:
    own, other = FileLock(tmp_path / LOCK_FILE), FileLock(tmp_path / LOCK_FILE)
    with other.hold(), pytest.raises(DeadlineExceeded), locked_to_open(own, Deadline(0.05), lambda: False):
        pytest.fail("nobody may open it")
    own.close()
    other.close()
