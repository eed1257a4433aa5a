"""The command that searches, and how it shows what it has found."""

from __future__ import annotations

import json
from typing import Any

from mempalace_mcp.cli import output
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.runtime.app import open_app
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.server.tools.registry import build_tools

MODEL_SECONDS = 30.0
"""How long a search waits for the model; without it, it searches by words only."""


def search(settings: Settings, query: str, mode: str, as_json: bool, **filters: Any) -> str:
    """Search once, as the `search` tool does."""
    arguments = {"query": query, "mode": mode} | {key: value for key, value in filters.items() if value is not None}
    with open_app(settings) as app:
        app.embedder.start()
        app.embedder.wait(MODEL_SECONDS)
        result = build_tools().call(AppContext(app), "search", arguments, Deadline(COMMAND_SECONDS))
    return json.dumps(result, ensure_ascii=False) if as_json else format_search(result)


def format_search(result: dict[str, Any]) -> str:
    """The answer of a search as text."""
    if not result["results"]:
        return "Nothing found."
    parts = [_format_hit(rank, hit) for rank, hit in enumerate(result["results"], 1)]
    if result["degraded"]:
        parts.append(f"Note: {result['degraded']}.")
    if result["pending"]:
        passages = output.count(result["pending"], "passage")
        parts.append(f"Note: {passages} not embedded yet, and found by words only.")
    return "\n\n".join(parts)


def _format_hit(rank: int, hit: dict[str, Any]) -> str:
    when = (hit.get("occurred_at") or hit["created_at"])[:10]
    source = f" · {hit['source_file']}" if hit.get("source_file") else ""
    source += f" · superseded by {hit['superseded_by']}" if hit.get("superseded_by") else ""
    head = f"{rank}. {hit['wing']} / {hit['room']} · {when}{source} · score {hit['score']:.2f} · {hit['drawer_id']}"
    return f"{output.harmless(head)}\n{output.passage(hit['passage'])}"
