"""Which Chroma directories are trusted: those whose record is whole and agrees with the palace and the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mempalace_mcp.storage.vectors.log import Snapshot
from mempalace_mcp.storage.vectors.manifest import (
    DATABASE,
    FileStamps,
    Manifest,
    begin_directory,
    boot_identity,
    doubt,
    load_record,
    remove_record,
    stamp_files,
    store_record,
)

MOMENT = Snapshot("palace", 5, 100, 16)


@pytest.fixture
def record(tmp_path: Path) -> Manifest:
    """The stored record of a directory with two files."""
    path = begin_directory(tmp_path)
    (path / DATABASE).write_bytes(b"database")
    (path / "vectors").mkdir()
    (path / "vectors" / "data.bin").write_bytes(b"vectors")
    record = Manifest(path.name, "palace", 100, 0, FileStamps(stamp_files(path), 7), boot_identity(), False)
    store_record(tmp_path, record)
    return record


def test_a_record_is_loaded_as_it_was_stored(tmp_path: Path, record: Manifest) -> None:
    assert load_record(tmp_path) == record
    assert doubt(tmp_path, record, MOMENT) is None
    remove_record(tmp_path)
    assert load_record(tmp_path) is None
    assert doubt(tmp_path, None, MOMENT) == "not closed cleanly"


def test_without_directories_nothing_is_to_be_doubted(tmp_path: Path) -> None:
    assert doubt(tmp_path, load_record(tmp_path), MOMENT) == "begun"


def test_what_does_not_fit_the_palace_or_the_machine_is_doubted(tmp_path: Path, record: Manifest) -> None:
    assert doubt(tmp_path, replace(record, palace="another"), MOMENT) == "of another palace"
    assert doubt(tmp_path, replace(record, position=101), MOMENT) == "ahead of the palace"
    assert doubt(tmp_path, replace(record, boot="another", closed=True), MOMENT) is None
    restarted = replace(record, boot="another")
    assert doubt(tmp_path, restarted, MOMENT) == "not closed before a restart of the machine"
    assert doubt(tmp_path, replace(record, directory="chroma-7"), MOMENT) == "files missing"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: (path / DATABASE).write_bytes(b"DATABASE"), "files changed"),
        (lambda path: (path / "vectors" / "data.bin").write_bytes(b"vec"), "files changed"),
        (lambda path: (path / "vectors" / "data.bin").unlink(), "files changed"),
        (lambda path: (path / "vectors" / "more.bin").touch(), "files changed"),
        (lambda path: (path / DATABASE).unlink(), "files missing"),
    ],
    ids=["overwritten", "truncated", "deleted", "added", "without database"],
)
def test_changed_files_are_doubted(
    tmp_path: Path, record: Manifest, change: Callable[[Path], object], reason: str
) -> None:
    change(tmp_path / record.directory)
    assert doubt(tmp_path, record, MOMENT) == reason


@pytest.mark.parametrize(
    "values", [{"stamp": "nonsense"}, {"stamp": {"files": {}}}, {"surprise": 1}], ids=["no stamp", "half", "unknown"]
)
def test_a_record_that_makes_no_sense_is_none(tmp_path: Path, record: Manifest, values: dict[str, object]) -> None:
    path = tmp_path / "chroma.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    assert load_record(tmp_path) is None
    path.write_bytes(b"\xff{")
    assert load_record(tmp_path) is None
    assert record.directory == "chroma-1"
