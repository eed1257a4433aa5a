"""Readers of files and transcripts. They yield documents, each of which becomes a drawer; nothing is written here."""

from __future__ import annotations

from mempalace_mcp.palace.importers.dates import DATE_REASONS
from mempalace_mcp.palace.importers.discovery import OUTSIDE, FoundFile, discover
from mempalace_mcp.palace.importers.files import (
    Document,
    Problem,
    Said,
    SkippedFile,
    SkippedLines,
    fits,
    is_within,
    real_path,
)
from mempalace_mcp.palace.importers.reading import default_wing, read, read_real, wing_of_real
from mempalace_mcp.palace.importers.transcript import LONGEST_DOCUMENT as LONGEST_EXCHANGE
from mempalace_mcp.palace.importers.transcript import rendered, state_of

__all__ = [
    "DATE_REASONS",
    "LONGEST_EXCHANGE",
    "OUTSIDE",
    "Document",
    "FoundFile",
    "Problem",
    "Said",
    "SkippedFile",
    "SkippedLines",
    "default_wing",
    "discover",
    "fits",
    "is_within",
    "read",
    "read_real",
    "real_path",
    "rendered",
    "state_of",
    "wing_of_real",
]
