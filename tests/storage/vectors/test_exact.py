"""The matrix in a file: right at every size, outside anonymous memory, and on a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mempalace_mcp.storage.vectors.exact import BLOCK_ROWS, MappedMatrix
from mempalace_mcp.storage.vectors.log import Vectors
from tests.storage.vectors.support import unit_vectors

DIMENSION = 8


def content(blocks: MappedMatrix) -> Vectors:
    return np.asarray(np.concatenate(blocks.views)[: blocks.rows])


@pytest.mark.parametrize("step", [1, 7, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_rows_are_read_as_they_were_written(tmp_path: Path, step: int) -> None:
    vectors = unit_vectors(min(100 * step, 2 * BLOCK_ROWS + 5), 1, DIMENSION)
    blocks = MappedMatrix(tmp_path, DIMENSION)
    for start in range(0, len(vectors), step):
        blocks.extend(start, vectors[start : start + step])
    assert blocks.rows == len(vectors)
    assert np.array_equal(content(blocks), vectors)
    assert (blocks.bytes_mapped, blocks.bytes_memory) == (vectors.nbytes, 0)
    blocks.close()


def test_the_file_has_no_name_and_cannot_be_written_through_the_views(tmp_path: Path) -> None:
    blocks = MappedMatrix(tmp_path, DIMENSION)
    blocks.extend(0, unit_vectors(10, 1, DIMENSION))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="read-only"):
        blocks.views[0][0, 0] = 1
    blocks.close()


def test_views_outlive_the_closing_and_further_rows_go_to_memory(tmp_path: Path) -> None:
    vectors = unit_vectors(30, 1, DIMENSION)
    blocks = MappedMatrix(tmp_path, DIMENSION)
    blocks.extend(0, vectors[:10])
    (view,) = blocks.views
    blocks.close()
    blocks.extend(10, vectors[10:])
    assert np.array_equal(view[:10], vectors[:10])
    assert np.array_equal(content(blocks), vectors)
    assert (blocks.bytes_mapped, blocks.bytes_memory) == (0, vectors.nbytes)


def test_what_a_failed_attempt_left_is_overwritten(tmp_path: Path) -> None:
    vectors = unit_vectors(30, 1, DIMENSION)
    blocks = MappedMatrix(tmp_path, DIMENSION)
    blocks.extend(0, vectors[::-1])
    blocks.extend(10, vectors[10:20])
    assert blocks.rows == 20
    assert np.array_equal(content(blocks)[10:], vectors[10:20])
    blocks.close()


def test_without_a_directory_rows_live_in_memory(tmp_path: Path) -> None:
    vectors = unit_vectors(30, 1, DIMENSION)
    blocks = MappedMatrix(tmp_path / "missing", DIMENSION)
    blocks.extend(0, vectors)
    assert np.array_equal(content(blocks), vectors)
    assert (blocks.bytes_mapped, blocks.bytes_memory) == (0, vectors.nbytes)


def test_where_the_file_cannot_grow_rows_live_in_memory(tmp_path: Path) -> None:
    block, rest = BLOCK_ROWS * DIMENSION * 4, 100 * DIMENSION * 4
    lines = subprocess.run(
        [sys.executable, "-m", "tests.storage.vectors.children", "fill_blocks", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout.splitlines()
    assert lines == [
        f"True 0 {2 * block + rest}",
        f"True 0 {2 * block + rest}",
        f"True {block} {block + rest}",
        f"True {2 * block} {rest}",
    ]


def test_where_the_disk_is_full_in_the_middle_of_a_block_nothing_is_lost(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only a privileged user can mount a small disk")
    try:
        vectors = unit_vectors(5000, 1, DIMENSION)
        blocks = MappedMatrix(mount, DIMENSION)
        for start in range(0, len(vectors), 100):
            blocks.extend(start, vectors[start : start + 100])
        assert np.array_equal(content(blocks), vectors)
        assert (blocks.bytes_mapped, blocks.bytes_memory) == (0, vectors.nbytes)
        blocks.close()
        del blocks
    finally:
        subprocess.run(["umount", str(mount)], check=True)
