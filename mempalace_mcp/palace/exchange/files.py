"""The files of exports: plain, or compressed as their names say. Read, they are known by how they begin."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

from mempalace_mcp.core.errors import Conflict, InvalidArgument, StorageError
from mempalace_mcp.core.files import PRIVATE_FILE, create_directory, explain_os_error, sync_directory
from mempalace_mcp.palace.exchange.lines import LONGEST_LINE, read_head
from mempalace_mcp.palace.importers.zstandard_files import MAGIC, NEEDED, DamagedArchive, decompressor

NAME = "palace.jsonl"
"""Of the file in a directory."""

ENDINGS = ("", ".gz", ".zst")
_GZIP = b"\x1f\x8b"
_UNFINISHED = ".unfinished"
_COMPRESSED_WRONG = (EOFError, zlib.error, gzip.BadGzipFile, DamagedArchive)


class Damaged(Exception):
    """Raised with the reason why a file cannot be read any further."""


def target_of(given: Path) -> Path:
    """The file to write: the one named, or `palace.jsonl` in a directory.

    Raises:
        Conflict: something else is there.
    """
    path = given / NAME if _is_directory(given) or not given.suffix else given
    if os.path.lexists(path) and not is_export(path):
        raise Conflict(
            f"{path} is there already, and is no export of a palace",
            argument="DESTINATION",
            hint="Name another file or directory. An earlier export would be replaced.",
        )
    return path


def exports_in(path: Path) -> list[Path]:
    """The export that a path is, or that a directory holds."""
    candidates = [path / f"{NAME}{ending}" for ending in ENDINGS] if _is_directory(path) else [path]
    return [each for each in candidates if is_export(each)]


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # out of reach or too long: what uses it says so
        return False


def is_export(path: Path) -> bool:
    """Does the file begin as an export does?"""
    try:
        if not path.is_file():
            return False
        with opened(path) as lines:
            line = lines.readline(LONGEST_LINE)
    except (OSError, Damaged):
        return False
    except InvalidArgument:  # compressed, and nothing here can read it: by its name it is one
        return path.name == f"{NAME}.zst"
    try:
        return read_head(line) is not None
    except InvalidArgument:
        return True


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """What a file holds, decompressed.

    Raises:
        InvalidArgument: what reads it is not installed.
        Damaged: it is, or is cut off.
        OSError: it cannot be read.
    """
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        beginning = file.read(len(MAGIC))
        file.seek(0)
        if beginning[:2] == _GZIP:
            file = stack.enter_context(cast(BinaryIO, gzip.GzipFile(fileobj=file)))
        elif beginning == MAGIC:
            open_compressed = decompressor()
            if open_compressed is None:
                raise InvalidArgument(f"{path} is {NEEDED}", argument="PATHS", hint="Or decompress it first.")
            file = stack.enter_context(open_compressed(file))
        try:
            yield file
        except _COMPRESSED_WRONG as error:
            raise _damaged() from error


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file that is in its place, durable, once the block has ended; until then what was there stays.

    Raises:
        InvalidArgument: what compresses it is not installed.
        StorageError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    create_directory(path.parent)
    try:
        with ExitStack() as stack:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
            with _compressed(file, path) as content:
                yield content
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        _remove(unfinished)
        raise explain_os_error(error, path) from error
    except BaseException:  # what is unfinished is of no use
        _remove(unfinished)
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


@contextmanager
def _compressed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """The file itself, or what compresses into it. Neither name nor time is in it: equal contents are equal files."""
    if path.suffix == ".gz":
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield cast(BinaryIO, packed)
    elif path.suffix == ".zst":
        with _zstandard(file) as packed:
            yield packed
    else:
        yield file


def _zstandard(file: BinaryIO) -> Any:
    try:
        module: Any = import_module("compression.zstd")
        return module.ZstdFile(file, "w")
    except ImportError:
        pass
    try:
        module = import_module("zstandard")
    except ImportError:
        raise InvalidArgument(
            "a file that ends in .zst is compressed with Zstandard, which is not installed",
            argument="DESTINATION",
            hint="Install mempalace-mcp[zstd], or let the name end in .gz.",
        ) from None
    return module.ZstdCompressor().stream_writer(file, closefd=False)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of an export.

    Raises:
        Damaged: a line is too long, or the last one is cut off.
        StorageError: it cannot be read.
    """
    try:
        while line := file.readline(LONGEST_LINE):
            if line[-1:] != b"\n":
                raise Damaged("the line is cut off" if len(line) < LONGEST_LINE else "the line is too long")
            yield line
    except _COMPRESSED_WRONG as error:
        raise _damaged() from error
    except OSError as error:
        raise StorageError(f"the export cannot be read any further: {error}", hint="Run the command again.") from error


def _damaged() -> Damaged:
    return Damaged("the compressed file is damaged or cut off here")
