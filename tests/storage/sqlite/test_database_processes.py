"""The database used by several processes at once, some of which are killed or do not know our lock."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import DeadlineExceeded
from tests.storage.support import Child, add_wing, fresh_database, soon, wings

pytestmark = pytest.mark.long


def test_none_of_many_processes_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child("write", tmp_path, name, 50)) for name in "abcdefgh"]
        assert [child.line() for child in children] == ["ready"] * 8
        for child in children:
            child.go()
        acknowledged = [line for child in children for line in child.rest()]
    assert len(acknowledged) == 400
    with fresh_database(tmp_path) as database:
        assert sorted(wings(database)) == sorted(acknowledged)
        with database.read() as connection:
            assert connection.execute("SELECT seq FROM state").fetchone() == (400,)
        assert database.integrity() == []


def test_many_processes_may_open_a_new_palace_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child("open_once", tmp_path / "palace")) for _ in range(24)]
        assert {child.line() for child in children} == {"ready"}
        for child in children:
            child.go()
        assert {line for child in children for line in child.rest()} == {"closed"}
    with fresh_database(tmp_path / "palace") as database:
        assert len(wings(database)) == 24
        with database.read() as connection:
            assert connection.execute("SELECT count(*) FROM state").fetchone() == (1,)


def test_a_write_of_another_process_is_seen_by_the_next_read(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("write", tmp_path, "theirs", 3) as child:
        assert child.line() == "ready"
        child.go()
        for number in range(3):
            assert child.line() == f"theirs-{number}"
            assert f"theirs-{number}" in wings(database)
        child.rest()
        assert wings(database) == ["theirs-0", "theirs-1", "theirs-2"]


def test_a_process_killed_inside_its_transaction(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("stop_inside", tmp_path) as child:
        assert child.line() == "inside"
        assert wings(database) == []
        child.kill()
        database.write(add_wing("alive"), soon())
        assert wings(database) == ["alive"]
        assert database.integrity() == []


def test_what_was_acknowledged_survives_kills(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for round_number in range(6):
        with Child("write", tmp_path, f"r{round_number}", 100_000) as child:
            assert child.line() == "ready"
            child.go()
            acknowledged += [child.line() for _ in range(20)]
            acknowledged += child.kill()
    with fresh_database(tmp_path) as database:
        stored = set(wings(database))
        assert len(acknowledged) >= 120
        assert set(acknowledged) <= stored
        assert len(stored) - len(acknowledged) <= 6
        assert database.integrity() == []


def test_the_lock_is_held_past_the_deadline(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        with pytest.raises(DeadlineExceeded, match=f"process {holder.pid}") as caught:
            database.write(add_wing("too late"), Deadline(0.1))
        assert caught.value.retryable
        assert caught.value.hint
        assert wings(database) == []
        assert database.statistics().last_error == "deadline_exceeded"
        holder.go()
        holder.rest()
        database.write(add_wing("in time"), soon())
        assert wings(database) == ["in time"]
        assert database.statistics().last_error is None


def test_the_lock_is_held_for_a_while(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("hold_lock", tmp_path) as holder:
        assert holder.line() == "held"
        writing = threading.Thread(target=lambda: database.write(add_wing("patient"), soon()))
        writing.start()
        assert wings(database) == []
        holder.go()
        writing.join()
        assert wings(database) == ["patient"]
        holder.rest()


def test_a_foreign_transaction_is_waited_for(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("hold_transaction", tmp_path) as foreign:
        assert foreign.line() == "held"
        writing = threading.Thread(target=lambda: database.write(add_wing("patient"), soon()))
        writing.start()
        while not database.statistics().retries:
            assert writing.is_alive()
        foreign.go()
        writing.join()
        foreign.rest()
        assert wings(database) == ["foreign", "patient"]


def test_a_foreign_transaction_that_does_not_end(tmp_path: Path) -> None:
    with fresh_database(tmp_path) as database, Child("hold_transaction", tmp_path) as foreign:
        assert foreign.line() == "held"
        with pytest.raises(DeadlineExceeded, match="another program"):
            database.write(add_wing("too late"), Deadline(0.2))
        assert database.statistics().retries > 0
        foreign.go()
        foreign.rest()
        database.write(add_wing("in time"), soon())
        assert wings(database) == ["foreign", "in time"]
