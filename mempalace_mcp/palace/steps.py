"""What imports tell of what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mempalace_mcp.core import text
from mempalace_mcp.core.model import NewDrawer, Place, Priority
from mempalace_mcp.palace.importers import Document, Problem

COUNTS = (
    "filed",
    "updated",
    "moved",
    "restored",
    "unchanged",
    "kept",
    "folded",
    "removed",
    "missing",
    "in_trash",
    "characters",
)
"""The counts of a step, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What became of one file, or of a part of a large one: drawers by what was done, and what could not be read.

    `kept` are those that somebody has edited: the file tells something else now, and the edit stays. `folded` say what
    another one says, which an earlier version filed again; they are in the trash. `missing` are
    notes whose file is not there, although nothing tells that it was deleted. `elsewhere` counts, by wing, the drawers
    that are in another wing than the one asked for.
    """

    path: str
    filed: int = 0
    updated: int = 0
    moved: int = 0
    restored: int = 0
    unchanged: int = 0
    kept: int = 0
    folded: int = 0
    removed: int = 0
    missing: int = 0
    in_trash: int = 0
    characters: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


def new_drawer(document: Document, wing: str) -> NewDrawer:
    """A document as the drawer to be."""
    return NewDrawer(
        place=Place(text.read_name(wing, "wing"), text.read_name(document.room, "room")),
        content=document.content,
        source_file=document.source_file,
        added_by="import",
        occurred_at=document.occurred_at,
        metadata=document.metadata,
        priority=Priority.BULK,
    )
