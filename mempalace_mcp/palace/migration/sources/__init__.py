"""The memories that can be migrated. A new kind is one module and one entry of `SOURCES`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.palace.migration.items import Options, Source
from mempalace_mcp.palace.migration.sources.claude_mem import ClaudeMem
from mempalace_mcp.palace.migration.sources.memory_service import MemoryService
from mempalace_mcp.palace.migration.sources.mempalace import MemPalace
from mempalace_mcp.palace.migration.sources.server_memory import ServerMemory
from mempalace_mcp.palace.migration.sources.vaults import BasicMemory, Obsidian

SOURCES: tuple[Source, ...] = (
    MemPalace(),
    MemoryService(),
    ClaudeMem(),
    ServerMemory(),
    BasicMemory(),
    Obsidian(),
)
"""The first that recognizes a path reads it. Folders of basic-memory are often vaults of Obsidian as well."""


@dataclass(frozen=True, slots=True)
class FoundMemory:
    """A memory of another program, and where it is."""

    source: Source
    path: Path


def recognize(path: Path) -> Source:
    """The reader of a memory.

    Raises:
        NotFound: there is nothing at the path.
        InvalidArgument: it is no memory that is known.
    """
    try:
        path.lstat()
    except OSError as error:
        raise NotFound(
            f"there is nothing at {path}",
            argument="SOURCE",
            hint="Check the path, or leave it out to see what is there.",
        ) from error
    for source in SOURCES:
        if source.recognizes(path):
            return source
    kinds = ", ".join(source.title for source in SOURCES)
    raise InvalidArgument(
        f"{path} is no memory that can be migrated",
        argument="SOURCE",
        hint=f"Known are {kinds}. Transcripts and plain notes are filed by `mempalace-mcp import`.",
    )


def find_memories(options: Options) -> Iterator[FoundMemory]:
    """The memories in the places where their programs keep them by default, each once."""
    seen: set[Path] = set()
    for source in SOURCES:
        for path in source.places(options):
            try:
                real = path.resolve()
            except (OSError, RuntimeError):
                continue
            if real not in seen and source.recognizes(path):
                seen.add(real)
                yield FoundMemory(source, path)
