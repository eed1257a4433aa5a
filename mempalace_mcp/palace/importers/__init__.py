"""Readers of files and conversations. They yield documents, each of which becomes a drawer; nothing is written here."""

from __future__ import annotations

from mempalace_mcp.palace.importers.conversations import LONGEST_DOCUMENT as LONGEST_EXCHANGE
from mempalace_mcp.palace.importers.conversations import render
from mempalace_mcp.palace.importers.cutting import fits
from mempalace_mcp.palace.importers.discovery import OUTSIDE, FoundFile, discover
from mempalace_mcp.palace.importers.documents import Document, Piece, Problem, Resume, SkippedFile, SkippedLines
from mempalace_mcp.palace.importers.file_state import FileState, format_place, read_place, state_of
from mempalace_mcp.palace.importers.files import is_within, real_path
from mempalace_mcp.palace.importers.note_dates import DATE_REASONS
from mempalace_mcp.palace.importers.reader import Machine, Reader
from mempalace_mcp.palace.importers.readers import histories
from mempalace_mcp.palace.importers.reading import default_wing, read, read_real, wing_of_real

__all__ = [
    "DATE_REASONS",
    "LONGEST_EXCHANGE",
    "OUTSIDE",
    "Document",
    "FileState",
    "FoundFile",
    "Machine",
    "Piece",
    "Problem",
    "Reader",
    "Resume",
    "SkippedFile",
    "SkippedLines",
    "default_wing",
    "discover",
    "fits",
    "format_place",
    "histories",
    "is_within",
    "read",
    "read_place",
    "read_real",
    "real_path",
    "render",
    "state_of",
    "wing_of_real",
]
