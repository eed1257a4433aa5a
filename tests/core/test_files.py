"""Directories and files of the palace's own."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import PalaceMissing, StorageError, StorageFull, StorageReadOnly
from mempalace_mcp.core.files import create_directory, create_file, explain_os_error, is_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_are_private_all_the_way(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b" / "c"
    create_directory(directory)
    create_directory(directory)
    assert [mode(path) for path in (directory, directory.parent, directory.parent.parent)] == [0o700] * 3


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(0o755)
    (tmp_path / "shared").chmod(0o755)
    create_directory(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o755


def test_a_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    create_file(tmp_path / "file")
    assert mode(tmp_path / "file") == 0o600
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        create_directory(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="file"):
        create_file(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, PalaceMissing),
        (errno.ENOTDIR, PalaceMissing),
        (errno.EACCES, StorageReadOnly),
        (errno.EROFS, StorageReadOnly),
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, StorageError),
    ],
)
def test_errors_of_the_system_become_ours(number: int, kind: type[StorageError]) -> None:
    explained = explain_os_error(OSError(number, os.strerror(number)), Path("/palace/palace.db"))
    assert type(explained) is kind
    assert "/palace/palace.db" in explained.message
    assert explained.hint


def test_only_a_regular_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / "absent")
    assert not is_file(tmp_path / "file" / "below")


def test_what_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        is_file(tmp_path / ("long" * 75) / "palace.db")
    assert caught.value.hint
