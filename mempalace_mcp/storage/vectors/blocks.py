"""A matrix of vectors that grows at its end, kept out of anonymous memory where possible."""

from __future__ import annotations

import mmap
import os
import tempfile
from io import FileIO
from pathlib import Path

import numpy as np

from mempalace_mcp.storage.vectors.truth import Vectors

BLOCK_ROWS = 32_768


class Blocks:
    """Rows in blocks of `BLOCK_ROWS`, written to an unlinked file and read through read-only mappings.

    Rows are written with `write`, never by storing into a mapping: on a full disk the latter is a fatal signal. Where
    the file cannot be had or cannot grow, the rows live in ordinary memory. Rows once written never change, so that
    readers need no lock; extending does.
    """

    def __init__(self, directory: Path, dimension: int) -> None:
        self.dimension = dimension
        self.rows = 0
        self._directory = directory
        self._block_bytes = BLOCK_ROWS * dimension * 4
        self._blocks: tuple[Vectors, ...] = ()
        self._file: FileIO | None = None
        self._mapped = True  # whether the file takes further rows

    @property
    def views(self) -> tuple[Vectors, ...]:
        """The blocks as they are; rows beyond `rows` hold nothing."""
        return self._blocks

    @property
    def bytes_mapped(self) -> int:
        """Bytes held by the file."""
        return self.rows * self.dimension * 4 - self.bytes_memory

    @property
    def bytes_memory(self) -> int:
        """Bytes held in anonymous memory."""
        rows = sum(
            min(BLOCK_ROWS, self.rows - number * BLOCK_ROWS)
            for number, block in enumerate(self._blocks)
            if block.flags.writeable
        )
        return rows * self.dimension * 4

    def extend(self, rows: int, vectors: Vectors) -> None:
        """Add vectors behind the first `rows` rows; what may lie there is left over from an attempt that failed."""
        self.rows = rows
        while len(vectors):
            block, offset = divmod(self.rows, BLOCK_ROWS)
            part = np.ascontiguousarray(vectors[: BLOCK_ROWS - offset], np.float32)
            self._write(block, offset, part)
            self.rows += len(part)
            vectors = vectors[len(part) :]

    def close(self) -> None:
        """Let go of the file; what it holds can be read until the last reader of each block is gone."""
        self._mapped = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, block: int, offset: int, part: Vectors) -> None:
        if self._mapped:
            try:
                if block == len(self._blocks):
                    self._blocks = (*self._blocks, self._map(block))
                self._write_file(block * self._block_bytes + offset * self.dimension * 4, part)
            except (OSError, ValueError):  # no room, no permission, or a file system that cannot map
                self._mapped = False
            else:
                return
        self._write_memory(block, offset, part)

    def _map(self, block: int) -> Vectors:
        if self._file is None:
            descriptor, name = tempfile.mkstemp(dir=self._directory)
            self._file = os.fdopen(descriptor, "w+b", buffering=0)
            Path(name).unlink()
        self._file.truncate((block + 1) * self._block_bytes)
        mapping = mmap.mmap(
            self._file.fileno(), self._block_bytes, access=mmap.ACCESS_READ, offset=block * self._block_bytes
        )
        return np.frombuffer(mapping, np.float32).reshape(BLOCK_ROWS, self.dimension)

    def _write_file(self, start: int, part: Vectors) -> None:
        assert self._file is not None
        self._file.seek(start)
        data = part.data.cast("B")
        while data:
            data = data[self._file.write(data) :]

    def _write_memory(self, block: int, offset: int, part: Vectors) -> None:
        if block < len(self._blocks) and not self._blocks[block].flags.writeable:
            copy = np.empty((BLOCK_ROWS, self.dimension), np.float32)
            copy[:offset] = self._blocks[block][:offset]
            self._blocks = (*self._blocks[:block], copy)
        elif block == len(self._blocks):
            self._blocks = (*self._blocks, np.empty((BLOCK_ROWS, self.dimension), np.float32))
        self._blocks[block][offset : offset + len(part)] = part
