"""Exports of web chats: JSON files, or a zip that holds them. One element of an array is in memory at a time."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from mempalace_mcp.palace.importers.documents import SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file, open_regular_file
from mempalace_mcp.palace.importers.json_stream import read_elements
from mempalace_mcp.palace.importers.reader import HEAD_BYTES, Candidate

ZIP = ".zip"
SUFFIXES = frozenset({".json", ZIP})
LARGEST = 16 * 1024 * MEBIBYTE
DAMAGED = "an archive that is damaged, encrypted or of an unknown kind"

_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def beginnings(candidate: Candidate, names: re.Pattern[str]) -> Iterator[str]:
    """How a file begins, or those members of an archive whose names match."""
    if candidate.path.suffix.lower() != ZIP:
        yield candidate.text
        return
    wanted = _matching(candidate.members, names)
    if not wanted:
        return
    try:
        with os.fdopen(open_regular_file(candidate.path), "rb") as file, zipfile.ZipFile(file) as archive:
            for name in wanted:
                with suppress(*_ERRORS), archive.open(name) as member:
                    yield member.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except (OSError, *_ERRORS):
        return


def read_export(source: Source, names: re.Pattern[str]) -> Iterator[tuple[str, Any] | SkippedFile]:
    """The elements of a file, or of those members of an archive whose names match, each with the name of the file that
    holds it; and what is wrong. Members that are damaged do not keep others from being read.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    with file:
        if source.path.suffix.lower() != ZIP:
            yield from _elements(source, source.path.name, file)
            return
        try:
            with zipfile.ZipFile(file) as archive:
                for name in _matching(archive.namelist(), names):
                    yield from _member(source, archive, name)
        except _ERRORS:
            yield source.skipped(DAMAGED)


def _matching(members: Iterable[str], names: re.Pattern[str]) -> list[str]:
    return sorted(name for name in members if names.search(name))


def _member(source: Source, archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, Any] | SkippedFile]:
    try:
        with archive.open(name) as member:
            yield from _elements(source, name, member)
    except _ERRORS:
        yield source.skipped(DAMAGED)


def _elements(source: Source, name: str, file: Any) -> Iterator[tuple[str, Any] | SkippedFile]:
    try:
        for element in read_elements(file):
            yield name, element
    except ValueError as error:
        yield source.skipped(str(error))
