"""The manifests of the packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.make_packages import ROOT

MANIFESTS = (
    "plugins/claude-code/.claude-plugin/plugin.json",
    "plugins/codex/.codex-plugin/plugin.json",
    "plugins/gemini/gemini-extension.json",
    "packaging/mcpb/manifest.json",
    "server.json",
)
ENTRIES = ("plugins/claude-code/.mcp.json", "plugins/codex/.mcp.json", "plugins/gemini/gemini-extension.json")


def read(path: str) -> dict[str, Any]:
    """An object of JSON in the repository."""
    found: dict[str, Any] = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return found


def under(folder: Path, path: str) -> Path:
    """A path below a folder, whose own folders are made."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
