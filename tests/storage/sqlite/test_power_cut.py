"""The truth after a power cut: everything acknowledged, nothing by halves, in files with nothing wrong.

Recorded writes are played up to some moment. What was synced before it is there; of what was not, any sectors may be
new, old or garbage.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from mempalace_mcp.storage.transactions import Transaction
from tests import injections
from tests.laboratory import PACKAGE, laboratory
from tests.storage import recorded, recorder
from tests.storage.power import Disk, acknowledged, torn
from tests.storage.recorder import Event, Kind
from tests.storage.support import ROOT, Child, add_wing, fresh_database, receipts, soon, wings

pytestmark = pytest.mark.long

THOROUGHNESS = int(os.environ.get("THOROUGHNESS", "1"))
CUTS = 25 * THOROUGHNESS
LOG = "palace.db-wal"

recording = pytest.mark.skipif(not recorder.is_possible(), reason="SQLite's library is hidden in the interpreter")


def record(directory: Path, package: Path = PACKAGE.parent) -> list[Event]:
    """What happens on the disk of a palace at work."""
    file = directory / "events"
    subprocess.run(
        [sys.executable, "-m", "tests.storage.recorded", str(directory / "recorded"), str(file)],
        check=True,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=50,
    )
    events: list[Event] = pickle.loads(file.read_bytes())
    return events


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Recorded once for all tests."""
    return record(tmp_path_factory.mktemp("power"))


def first_acknowledgement(events: Sequence[Event]) -> int:
    """The moment from which on there is something to lose."""
    return next(index for index, event in enumerate(events) if event.kind is Kind.ACKNOWLEDGED) + 1


def moments(events: Sequence[Event], where: str, dice: random.Random) -> list[int]:
    """Numbers of events after which the power is cut."""
    wanted: Callable[[Event], bool] = {
        "after acknowledgements": lambda event: event.kind is Kind.ACKNOWLEDGED,
        "in commits": lambda event: event.file == LOG and event.kind is Kind.WRITTEN,
        "in checkpoints": lambda event: event.file == "palace.db" and event.kind is Kind.WRITTEN,
        "around syncs, cuts and removals": lambda event: event.kind in (Kind.SYNCED, Kind.TRUNCATED, Kind.DELETED),
    }[where]
    start = first_acknowledgement(events)
    found = [index + 1 for index, event in enumerate(events) if index + 1 >= start and wanted(event)]
    return sorted(dice.sample(found, min(CUTS, len(found))))


def lost_in_cuts(events: Sequence[Event], cuts: Sequence[int], directory: Path, dice: random.Random) -> int:
    """Cut the power at the moments; how many palaces have lost something acknowledged. Each must be sound."""
    disk, lost, played = Disk(), 0, 0
    for cut in cuts:
        for event in events[played:cut]:
            disk.take(event)
        played = cut
        disk.cut(directory / "cut", dice)
        lost += not has_everything(directory / "cut", events[:cut])
        shutil.rmtree(directory / "cut")
    return lost


def has_everything(directory: Path, past: Sequence[Event]) -> bool:
    """Has the palace all that was acknowledged? Nothing is there by halves, and it can be written."""
    begun = {event.offset for event in past if event.kind is Kind.BEGUN}
    with fresh_database(directory) as database:
        assert database.integrity() == []
        with database.read() as connection:
            contents = [row[0] for row in connection.execute("SELECT content FROM drawers ORDER BY id")]
            counted = connection.execute("SELECT coalesce(sum(drawers), 0) FROM rooms").fetchone()[0]
        database.write(verify_words, soon())
        there = {number for number in begun if recorded.text(number, "left") in contents}
        assert contents == [recorded.text(number, half) for number in sorted(there) for half in recorded.HALVES]
        assert counted == len(contents)
        alone = {int(key.removesuffix("/0")) for _, key in receipts(database)}
        single = {number for number in begun if not any(number in range(g, g + 3) for g in recorded.GROUPS)}
        assert {number for number in alone if not recorded.is_refused(number)} == there & single
        told = acknowledged(past)
        return there >= {n for n in told if not recorded.is_refused(n)} and alone >= told & single


def verify_words(transaction: Transaction) -> None:
    """Does the full-text index fit the passages? It raises if not."""
    transaction.connection.execute("INSERT INTO passages (passages) VALUES ('integrity-check')")


@recording
@pytest.mark.parametrize(
    "where", ["after acknowledgements", "in commits", "in checkpoints", "around syncs, cuts and removals"]
)
def test_what_was_acknowledged_survives_a_power_cut(events: list[Event], where: str, tmp_path: Path) -> None:
    dice = random.Random(where)
    cuts = moments(events, where, dice)
    assert cuts
    assert lost_in_cuts(events, cuts, tmp_path, dice) == 0


@recording
def test_the_log_is_synced_before_each_acknowledgement(events: list[Event]) -> None:
    disk = Disk()
    for event in events:
        disk.take(event)
        if event.kind is Kind.ACKNOWLEDGED and LOG in disk.files:
            assert disk.files[LOG].is_safe


@recording
def test_a_palace_that_does_not_wait_for_the_disk_loses_writes(tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    changes = {"storage.sqlite.connection": injections.careless_commits}
    careless = record(tmp_path, laboratory(tmp_path / "package", changes))
    dice = random.Random(1)
    assert lost_in_cuts(careless, moments(careless, "after acknowledgements", dice), tmp_path, dice) > 0


def test_copies_torn_behind_the_last_acknowledgement(tmp_path: Path) -> None:
    """The same with nothing but copies, for systems where writes cannot be recorded: what was there at one
    acknowledgement is safe, and of what came until the next one any sectors are there or not."""
    dice, palace = random.Random(5), tmp_path / "palace"
    states: list[tuple[bytes, bytes]] = []
    with Child("write_step_by_step", palace) as child:
        for _ in range(CUTS):
            child.go()
            child.line()
            states.append(((palace / "palace.db").read_bytes(), (palace / LOG).read_bytes()))
        child.kill()
    assert len({database for database, _ in states}) > 2, "no checkpoint between them"
    for number, ((database, log), (later_database, later_log)) in enumerate(pairwise(states)):
        keep = len(log) if later_log[: len(log)] == log else 0
        for name, files in (
            ("commit", (database, torn(log, later_log, dice, keep))),
            ("checkpoint", (torn(database, later_database, dice), later_log)),
        ):
            directory = tmp_path / f"{name}{number}"
            directory.mkdir()
            (directory / "palace.db").write_bytes(files[0])
            (directory / LOG).write_bytes(files[1])
            with fresh_database(directory) as recovered:
                assert recovered.integrity() == []
                names = wings(recovered)
                assert names in ([f"step {n}" for n in range(number + extra)] for extra in (1, 2))
                assert name == "commit" or len(names) == number + 2
                recovered.write(add_wing("afterwards"), soon())
            shutil.rmtree(directory)
