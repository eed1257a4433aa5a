"""Files compressed with Zstandard. Python 3.14 reads them itself; before, the extra `zstd` brings what is needed."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO

MAGIC = b"\x28\xb5\x2f\xfd"
NEEDED = "compressed, and needs zstandard: install mempalace-mcp[zstd]"
DAMAGED = "compressed, and damaged or cut off"

Decompress = Callable[[BinaryIO], BinaryIO]

_CHUNK = 1_024  # a byte may stand for thousands


class DamagedArchive(Exception):
    """The compressed file is damaged or cut off from here on."""


def decompressor() -> Decompress | None:
    """Opens what a compressed file holds; None if nothing here can. Reading may raise DamagedArchive."""
    kind = _in_python() or _in_package()
    return None if kind is None else lambda file: io.BufferedReader(_Content(file, *kind))


class _Content(io.RawIOBase):
    """What the frames of a compressed file hold, one after the other."""

    def __init__(self, file: BinaryIO, new: Callable[[], Any], error: type[Exception]) -> None:
        self._file = file
        self._new = new
        self._error = error
        self._frame: Any = None
        self._data = self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data and self._read_on():
            pass
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _read_on(self) -> bool:
        compressed = self._waiting or self._file.read(_CHUNK)
        if not compressed:
            if self._frame is not None:
                raise DamagedArchive
            return False
        self._frame = self._frame or self._new()
        try:
            self._data = self._frame.decompress(compressed)
        except self._error as error:
            raise DamagedArchive from error
        self._waiting = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return True


_Found = tuple[Callable[[], Any], type[Exception]]


def _in_python() -> _Found | None:
    try:
        module: Any = import_module("compression.zstd")
    except ImportError:
        return None
    return module.ZstdDecompressor, module.ZstdError


def _in_package() -> _Found | None:
    try:
        module: Any = import_module("zstandard")
    except ImportError:
        return None
    return lambda: module.ZstdDecompressor().decompressobj(), module.ZstdError
