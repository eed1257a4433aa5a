"""Files as bytes, and bytes as text, with a reason wherever that cannot be."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mempalace_mcp.palace.importers import opening
from mempalace_mcp.palace.importers.document import SkippedFile, Source

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
    descriptor = opening.open_file(source.path)
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
