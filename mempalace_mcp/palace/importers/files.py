"""Opens files safely and decodes their text.

Paths are resolved once, when they are found. Later each name is opened in the open folder above it, from the root of
the file system on, and no symbolic link is followed. So a folder that was exchanged for a link meanwhile is an error.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mempalace_mcp.palace.importers.documents import SkippedFile, Source

_IS_CONFINED = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a FIFO would wait for its writer
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_PASSAGE = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


def open_regular_file(path: Path) -> int:
    """A descriptor to read a file by; it may be a device or a pipe, and has not been waited for.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FILE)


def open_folder(path: Path) -> int:
    """A descriptor to list a folder by.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FOLDER)


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Does this real path lie in one of the folders, or is it one of them?"""
    return any(path.is_relative_to(os.path.realpath(folder)) for folder in folders)


def _open(path: Path, flags: int) -> int:
    if not _IS_CONFINED:
        return os.open(path, flags)
    folder = os.open(path.anchor, _PASSAGE)
    try:
        *passages, name = path.parts[1:] or (".",)
        for passage in passages:
            inner = os.open(passage, _PASSAGE | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


DATABASE_MAGIC = b"SQLite format 3\0"
"""How every SQLite database begins."""

MEBIBYTE = 1024 * 1024
LARGEST_TEXT = 2 * MEBIBYTE

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file without its byte order mark, and the encoding it was in."""

    content: str
    encoding: str


def open_file(source: Source, largest: int) -> BinaryIO | SkippedFile:
    """Open a regular file of at most `largest` bytes at its real path; the caller closes it.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = open_regular_file(source.path)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= largest:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        return source.skipped(f"larger than {largest // MEBIBYTE} MiB")
    return source.skipped("not a regular file")


def read_text(source: Source) -> Text | SkippedFile:
    """The whole text of a file of at most `LARGEST_TEXT` bytes in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        OSError: it cannot be opened or read.
    """
    file = open_file(source, LARGEST_TEXT)
    if isinstance(file, SkippedFile):
        return file
    with file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        return source.skipped(f"larger than {LARGEST_TEXT // MEBIBYTE} MiB")
    return _decode(source, data)


def _decode(source: Source, data: bytes) -> Text | SkippedFile:
    encoding = "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif data.startswith(_UTF_16):
        encoding = "utf-16"
    elif b"\0" in data:
        return source.skipped("binary")
    try:
        content = data.decode(encoding)
    except UnicodeDecodeError:
        return source.skipped("not UTF-16" if encoding == "utf-16" else "not UTF-8")
    if "\0" in content:
        return source.skipped("binary")
    return Text(content, encoding) if content.strip() else source.skipped("no text")


def unstorable(text: str) -> str | None:
    """Why the palace could not keep this text byte for byte, or None if it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    return None


def real_path(path: Path) -> Path | SkippedFile:
    """The one path of a file, whatever leads to it; it must be storable, for it becomes the source of a drawer."""
    fault = unstorable(str(path)) or unstorable(os.path.realpath(path))
    return Path(os.path.realpath(path)) if fault is None else SkippedFile(printable(str(path)), f"its name {fault}")


def printable(path: str) -> str:
    """A path that can be shown and stored, whatever bytes the file system has in it."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
