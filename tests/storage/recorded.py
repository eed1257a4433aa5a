"""A palace at work under the recorder: `python -m tests.storage.recorded <directory> <file for the events>`.

Every unit of work has two halves, drawers in two rooms, and a receipt; each fifth one is refused after its first half.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from mempalace_mcp.core.errors import Conflict
from mempalace_mcp.core.model import NewDrawer
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.transactions import IdempotentWriter, Transaction, Unit, Work
from tests.storage.drawer_support import place, whole
from tests.storage.recorder import Kind, Recorder
from tests.storage.support import keyed, soon

UNITS = 90
GROUPS = range(30, 60, 3)
REOPENED_AT = (20, 70)
CHECKPOINT_AT = (45, 80)
HALVES = ("left", "right")


def is_refused(number: int) -> bool:
    """Does the unit of that number leave nothing but a refusal?"""
    return number % 5 == 4


def text(number: int, half: str) -> str:
    """What the halves of a unit say; of very different lengths."""
    return f"{half} {number} " + f"word{number} and more of it. " * (number * 37 % 101 * 12)


def unit(store: DrawerStore, number: int) -> Work[int]:
    """The unit of that number."""

    def work(transaction: Transaction) -> int:
        for half in HALVES:
            content = text(number, half)
            store.file(transaction, NewDrawer(place("Work", half), content), whole(content))
            if is_refused(number):
                raise Conflict("only half of it was wanted")
        return number

    return work


def work_on(directory: Path, recorder: Recorder) -> None:
    """File everything, alone and in groups, with checkpoints by hand and by itself, closing and opening in between."""
    database, store, number = Database(directory), DrawerStore(Lexicon(FullTextTable())), 0
    while number < UNITS:
        if number in REOPENED_AT:
            database.close()
            database = Database(directory)
        if number in CHECKPOINT_AT:
            database.checkpoint()
        numbers = range(number, number + 3) if number in GROUPS else range(number, number + 1)
        for each in numbers:
            recorder.note(Kind.BEGUN, each)
        if len(numbers) > 1:
            units = [Unit(unit(store, each), soon()) for each in numbers]
            database.write_group(units)
            refusals = [each.outcome.exception() is not None for each in units]
        else:
            refusals = [write_once(database, unit(store, number), number)]
        assert refusals == [is_refused(each) for each in numbers]
        for each in numbers:
            recorder.note(Kind.ACKNOWLEDGED, each)
        number = numbers[-1] + 1


def write_once(database: Database, work: Work[int], number: int) -> bool:
    """Do it with a receipt; was it refused?"""
    try:
        IdempotentWriter(database).write(work, keyed(str(number)))
    except Conflict:
        return True
    return False


if __name__ == "__main__":
    recorder = Recorder()
    work_on(Path(sys.argv[1]), recorder)
    Path(sys.argv[2]).write_bytes(pickle.dumps(recorder.events))
    os._exit(0)  # as sudden as a power cut, so that closing tidies nothing up
