"""The readers of conversations: a new format is a module and a line here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp.palace.importers.aider import AIDER
from mempalace_mcp.palace.importers.chatgpt import CHATGPT
from mempalace_mcp.palace.importers.claude_ai import CLAUDE_AI
from mempalace_mcp.palace.importers.claude_code import CLAUDE_CODE
from mempalace_mcp.palace.importers.cline import CLINE, KILO_CODE, ROO_CODE
from mempalace_mcp.palace.importers.codex import CODEX
from mempalace_mcp.palace.importers.continue_dev import CONTINUE
from mempalace_mcp.palace.importers.copilot_cli import COPILOT_CLI
from mempalace_mcp.palace.importers.cursor import CURSOR
from mempalace_mcp.palace.importers.gemini_cli import GEMINI_CLI
from mempalace_mcp.palace.importers.goose import GOOSE
from mempalace_mcp.palace.importers.opencode import OPENCODE
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.vscode_chat import VSCODE_CHAT
from mempalace_mcp.palace.importers.windsurf import WINDSURF
from mempalace_mcp.palace.importers.zed import ZED

READERS: tuple[Reader, ...] = (
    CLAUDE_AI,
    CHATGPT,
    CODEX,
    GEMINI_CLI,
    OPENCODE,
    CURSOR,
    VSCODE_CHAT,
    COPILOT_CLI,
    ROO_CODE,
    KILO_CODE,
    CLINE,
    AIDER,
    ZED,
    GOOSE,
    CONTINUE,
    WINDSURF,
    CLAUDE_CODE,  # the last one: its records are known by the least
)
HIDDEN_NAMES = frozenset(name for reader in READERS for name in reader.hidden_names)


def reader_of(candidate: Candidate) -> Reader | None:
    """The reader of a file, None if it holds no conversations that are known."""
    name, suffix = candidate.path.name, candidate.path.suffix.lower()
    return next(
        (
            reader
            for reader in READERS
            if (suffix in reader.suffixes or name in reader.hidden_names) and reader.recognizes(candidate)
        ),
        None,
    )


def histories(machine: Machine) -> Iterator[tuple[Reader, Path]]:
    """Where the histories of agents lie on a machine, as far as there are any."""
    seen: set[Path] = set()
    for reader in READERS:
        for place in reader.places(machine):
            if place not in seen and place.exists():
                seen.add(place)
                yield reader, place
