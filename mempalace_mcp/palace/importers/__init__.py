"""Readers of files and transcripts: what lies in folders becomes documents, each a drawer to be. Nothing is written."""

from __future__ import annotations

from mempalace_mcp.palace.importers.discovery import FoundFile, discover
from mempalace_mcp.palace.importers.document import Document, Problem, SkippedFile, SkippedLines
from mempalace_mcp.palace.importers.reading import default_wing, read

__all__ = [
    "Document",
    "FoundFile",
    "Problem",
    "SkippedFile",
    "SkippedLines",
    "default_wing",
    "discover",
    "read",
]
