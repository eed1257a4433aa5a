"""Which Chroma directories are trusted: those whose manifest is whole and agrees with the palace and the files."""

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
    load_manifest,
    reason_to_rebuild,
    remove_manifest,
    stamp_files,
    store_manifest,
)

SNAPSHOT = Snapshot("palace", 5, 100, 16)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The stored manifest of a directory with two files."""
    path = begin_directory(tmp_path)
    (path / DATABASE).write_bytes(b"database")
    (path / "vectors").mkdir()
    (path / "vectors" / "data.bin").write_bytes(b"vectors")
    manifest = Manifest(path.name, "palace", 100, 0, FileStamps(stamp_files(path), 7))
    store_manifest(tmp_path, manifest)
    return manifest


def test_a_manifest_is_loaded_as_it_was_stored(tmp_path: Path, manifest: Manifest) -> None:
    assert load_manifest(tmp_path) == manifest
    assert reason_to_rebuild(tmp_path, manifest, SNAPSHOT) is None
    remove_manifest(tmp_path)
    assert load_manifest(tmp_path) is None
    assert reason_to_rebuild(tmp_path, None, SNAPSHOT) == "not closed cleanly"


def test_without_directories_they_are_begun(tmp_path: Path) -> None:
    assert reason_to_rebuild(tmp_path, load_manifest(tmp_path), SNAPSHOT) == "begun"


def test_files_of_another_palace_or_state_are_not_trusted(tmp_path: Path, manifest: Manifest) -> None:
    assert reason_to_rebuild(tmp_path, replace(manifest, palace="another"), SNAPSHOT) == "differs from SQLite"
    assert reason_to_rebuild(tmp_path, replace(manifest, position=101), SNAPSHOT) == "differs from SQLite"
    assert reason_to_rebuild(tmp_path, replace(manifest, directory="chroma-7"), SNAPSHOT) == "files changed"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / DATABASE).write_bytes(b"DATABASE"),
        lambda path: (path / "vectors" / "data.bin").write_bytes(b"vec"),
        lambda path: (path / "vectors" / "data.bin").unlink(),
        lambda path: (path / "vectors" / "more.bin").touch(),
        lambda path: (path / DATABASE).unlink(),
    ],
    ids=["overwritten", "truncated", "deleted", "added", "without database"],
)
def test_changed_files_are_not_trusted(tmp_path: Path, manifest: Manifest, change: Callable[[Path], object]) -> None:
    change(tmp_path / manifest.directory)
    assert reason_to_rebuild(tmp_path, manifest, SNAPSHOT) == "files changed"


@pytest.mark.parametrize(
    "values", [{"stamp": "nonsense"}, {"stamp": {"files": {}}}, {"surprise": 1}], ids=["no stamp", "half", "unknown"]
)
def test_a_malformed_manifest_is_none(tmp_path: Path, manifest: Manifest, values: dict[str, object]) -> None:
    path = tmp_path / "chroma.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    assert load_manifest(tmp_path) is None
    path.write_bytes(b"\xff{")
    assert load_manifest(tmp_path) is None
    assert manifest.directory == "chroma-1"
