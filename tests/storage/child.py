"""What other processes do to a palace in the tests: `python -m tests.storage.child <act> <directory> ...`.

They print a line when they have come somewhere, and wait for a line before they go on.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
from pathlib import Path
from typing import TypeVar

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.sqlite import DATABASE_FILE
from mempalace_mcp.storage.sqlite.database import LOCK_FILE, Database
from mempalace_mcp.storage.transactions import IdempotentWriter, Transaction, Work
from tests.storage.support import add_wing, keyed, soon, wings

T = TypeVar("T")

NOBODY = 65534


def say(line: object) -> None:
    """Print a line at once."""
    print(line, flush=True)


def wait_for_go() -> None:
    """Go on after the next line, or when the parent is gone."""
    sys.stdin.readline()


def hold_lock(directory: Path) -> None:
    """Hold the write lock until told."""
    lock = FileLock(directory / LOCK_FILE)
    with lock.hold(soon()):
        say("held")
        wait_for_go()
    lock.close()
    say("released")


def hold_snapshot(directory: Path) -> None:
    """Read, and stay in what was read, until told."""
    database = Database(directory)
    with database.read() as connection:
        connection.execute("SELECT count(*) FROM drawers").fetchone()
        say("reading")
        wait_for_go()
    database.close()
    say("done")


def hold_transaction(directory: Path) -> None:
    """Be a program that knows nothing of our lock and writes."""
    connection = sqlite3.connect(directory / DATABASE_FILE, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO wings (key, name) VALUES ('foreign', 'foreign')")
    say("held")
    wait_for_go()
    connection.execute("COMMIT")
    connection.close()
    say("released")


def write(directory: Path, name: str, count: str) -> None:
    """Write so many units once told, and print each that was acknowledged."""
    database = Database(directory)
    say("ready")
    wait_for_go()
    for number in range(int(count)):
        database.write(add_wing(f"{name}-{number}"), Deadline())
        say(f"{name}-{number}")
    database.close()


def write_step_by_step(directory: Path) -> None:
    """Write a unit each time it is told, small and large ones, until killed."""
    database = Database(directory)
    for number in itertools.count():
        wait_for_go()
        filler = "-" * (number * 7919 % 13 * 100_000)

        def work(transaction: Transaction, name: str = f"step {number}", filler: str = filler) -> None:
            add_wing(name)(transaction)
            transaction.connection.execute("UPDATE state SET palace_id = ?", (filler,))

        database.write(work, soon())
        say(number)


def stop_inside(directory: Path) -> None:
    """Wait inside a transaction, and for ever."""
    database = Database(directory)

    def work(transaction: Transaction) -> None:
        add_wing("half done")(transaction)
        say("inside")
        wait_for_go()

    database.write(work, soon())


def stop_before_receipt(directory: Path, key: str, name: str) -> None:
    """Wait with the work done and neither receipt nor commit, for ever."""

    def work(transaction: Transaction) -> int:
        seq = add_wing(name)(transaction)
        say("inside")
        wait_for_go()
        return seq

    IdempotentWriter(Database(directory)).write(work, keyed(key))


def stop_after_commit(directory: Path, key: str, name: str) -> None:
    """Wait with everything durable and nobody told, for ever."""
    IdempotentWriter(Speechless(directory)).write(add_wing(name), keyed(key))


class Speechless:
    """A writer that commits and does not tell."""

    def __init__(self, directory: Path) -> None:
        self._database = Database(directory)

    def write(self, work: Work[T], deadline: Deadline) -> T:
        result = self._database.write(work, deadline)
        say("committed")
        wait_for_go()
        return result


def open_once(directory: Path) -> None:
    """Open, write and close, all at the moment that is told."""
    say("ready")
    wait_for_go()
    database = Database(directory)
    database.write(add_wing(f"by {os.getpid()}"), Deadline())
    database.close()
    say("closed")


def become_nobody(directory: Path) -> None:
    """Go on as a user without rights."""
    Database(directory / "other").close()  # imports all it needs from places that may be closed to others
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def open_as_nobody(directory: Path) -> None:
    """Open as a user without rights."""
    become_nobody(directory)
    say(attempt(lambda: Database(directory)))


def read_as_nobody(directory: Path) -> None:
    """Read and try to write as a user without rights."""
    become_nobody(directory)
    database = Database(directory)
    say(wings(database))
    try:
        database.write(add_wing("forbidden"), soon())
    except PalaceError as error:
        say(error.code)
    database.close()


def fork(directory: Path) -> None:
    """Use a database and a lock that were opened before a fork."""
    database = Database(directory)
    lock = FileLock(directory / "other.lock")
    lock.acquire(soon())
    child = os.fork()
    if child == 0:
        say(f"lock held in child: {lock.held}")
        say(attempt(lock.acquire))
        say(attempt(lambda: database.write(add_wing("child"), soon())))
        say(attempt(lambda: wings(database)))
        database.close()
        lock.close()
        os._exit(0)
    os.waitpid(child, 0)
    say(f"lock held in parent: {lock.held and not FileLock(lock.path).try_acquire()}")
    database.write(add_wing("parent"), soon())
    say(wings(database))
    database.close()
    lock.close()


def attempt(action: object) -> str:
    """What came of it."""
    assert callable(action)
    try:
        return f"returned {action()!r}"
    except PalaceError as error:
        return f"{type(error).__name__}: {error.message}"


ACTS = {
    act.__name__: act
    for act in (
        fork,
        hold_lock,
        hold_snapshot,
        hold_transaction,
        open_as_nobody,
        open_once,
        read_as_nobody,
        stop_after_commit,
        stop_before_receipt,
        stop_inside,
        write,
        write_step_by_step,
    )
}

if __name__ == "__main__":
    ACTS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
