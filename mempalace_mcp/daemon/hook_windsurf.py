"""Windsurf keeps its conversations encrypted, and tells its hooks what was said. They are written down here.

Each conversation is a file of JSON Lines in the palace's folder `hooks/windsurf`, which `palace/importers/windsurf.py`
reads. The hook imports this module, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from mempalace_mcp.daemon.hook_spool import FOLDER

CLIENT = "windsurf"
_TEXTS = ("user_prompt", "response")
_PRIVATE = 0o700
_MOST_LETTERS = 100


def write_down(palace: str, payload: Mapping[str, object]) -> str | None:
    """Add what was said to the file of its conversation, and return its path; None if nothing was said.

    Raises:
        OSError: it cannot be written.
    """
    said = payload.get("tool_info")
    conversation = payload.get("trajectory_id")
    if not isinstance(said, Mapping) or not isinstance(conversation, str):
        return None
    texts = {name: said[name] for name in _TEXTS if isinstance(said.get(name), str) and said[name]}
    letters = "".join(each for each in conversation if each.isascii() and (each.isalnum() or each in "-_"))
    if not texts or not letters:
        return None
    record = {
        "trajectory_id": conversation,
        "execution_id": payload.get("execution_id"),
        "timestamp": payload.get("timestamp"),
        "cwd": os.getcwd(),  # Windsurf runs its hooks in the folder of the workspace
        **texts,
    }
    folder = os.path.join(palace, FOLDER, CLIENT)
    os.makedirs(folder, _PRIVATE, exist_ok=True)
    file = os.path.join(folder, f"{letters[:_MOST_LETTERS]}.jsonl")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(record).encode("ascii") + b"\n")
    finally:
        os.close(descriptor)
    return file
