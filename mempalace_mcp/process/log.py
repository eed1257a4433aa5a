"""The daemon's log: whatever reaches stderr, in a file of bounded size with two before it."""

from __future__ import annotations

import os
from pathlib import Path

from mempalace_mcp.core.files import is_file

MAX_BYTES = 1024 * 1024
KEPT = 2
_STDOUT, _STDERR = 1, 2


class Log:
    """Points the process's stdout and stderr to the file, native code's included, and begins a new one in time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def files(self) -> list[Path]:
        """All that there are, oldest first.

        Raises:
            StorageError: their directory cannot be reached.
        """
        return [file for file in (*(self._numbered(n) for n in range(KEPT, 0, -1)), self._file) if is_file(file)]

    def take_output(self) -> None:
        """From here on everything goes there, or nowhere if there can be no such file."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            descriptor = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(descriptor, _STDOUT)
            os.dup2(descriptor, _STDERR)
        finally:
            os.close(descriptor)

    def rotate(self) -> None:
        """Begin a new file if this one is full. What cannot be renamed goes on growing."""
        try:
            if self._file.stat().st_size <= MAX_BYTES:
                return
            for number in range(KEPT, 0, -1):
                earlier = self._file if number == 1 else self._numbered(number - 1)
                if earlier.exists():
                    earlier.replace(self._numbered(number))
            self.take_output()
        except OSError:
            return

    def _numbered(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.name}.{number}")
