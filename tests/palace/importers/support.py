"""Transcript lines, and readers that sort what they get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mempalace_mcp.palace.importers import Document, FoundFile, Problem, SkippedFile, discover, read

NOON = "2026-05-17T12:00:00.000Z"


def record(kind: str, content: Any, **fields: Any) -> dict[str, Any]:
    """A record of the given type with the fields that every record of a session has."""
    return {
        "parentUuid": None,
        "isSidechain": False,
        "type": kind,
        "message": {"role": kind, "content": content},
        "sessionId": "s-1",
        "cwd": "/home/mira/code/harbour",
        "gitBranch": "main",
        "timestamp": NOON,
        **fields,
    }


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return record("user", content, **fields)


def assistant(content: Any, **fields: Any) -> dict[str, Any]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return record("assistant", blocks, **fields)


def write_transcript(path: Path, *records: Any) -> Path:
    """Each record on a line of its own; bytes and texts as they are."""
    lines = [
        line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else json.dumps(line).encode()
        for line in records
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def documents(path: Path, root: Path | None = None) -> list[Document]:
    return [entry for entry in read(path, root) if isinstance(entry, Document)]


def problems(path: Path) -> list[Problem]:
    return [entry for entry in read(path) if not isinstance(entry, Document)]


def reasons(path: Path) -> list[str]:
    return [problem.reason for problem in problems(path)]


def found(*paths: Path) -> list[str]:
    return [entry.path.name for entry in discover(paths) if isinstance(entry, FoundFile)]


def skipped(*paths: Path) -> dict[str, str]:
    return {Path(entry.path).name: entry.reason for entry in discover(paths) if isinstance(entry, SkippedFile)}
