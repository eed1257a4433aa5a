"""Answers that a bridge gives itself when there is no daemon.

A bridge imports this module with the first such answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from mempalace_mcp.core.errors import Busy, PalaceError
from mempalace_mcp.daemon.ipc import LOG_FILE
from mempalace_mcp.server.jsonrpc import CALL, Refusal, read_message
from mempalace_mcp.server.lines import Overlong

SERVER_ERROR = -32000


def refuse(line: bytes, error: Mapping[str, object]) -> bytes | None:
    """The answer to a client's line: an error result for a tool call, a JSON-RPC error for another request."""
    message = read_message(line)
    if isinstance(message, Refusal):
        return message.answer()
    content = message.content
    if "id" not in content or "method" not in content:
        return None
    answer: dict[str, object] = {"jsonrpc": "2.0", "id": content["id"]}
    if content["method"] == CALL:
        payload = {"error": dict(error)}
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        answer["result"] = {"content": [{"type": "text", "text": text}], "structuredContent": payload, "isError": True}
    else:
        answer["error"] = {
            "code": SERVER_ERROR,
            "message": f"{error.get('message')}. {error.get('hint') or ''}".rstrip(),
            "data": dict(error),
        }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def refuse_overlong(line: Overlong) -> bytes:
    """The answer to a line beyond the cap."""
    refusal = read_message(line)
    assert isinstance(refusal, Refusal)
    return refusal.answer()


def poison_message() -> dict[str, object]:
    """The error for a request that has killed daemon after daemon."""
    return PalaceError(
        "the server died each time it ran this request, also with no other request beside it",
        hint="Do not send it again; the log has the details. Search to find out whether it wrote anything.",
    ).as_dict()


def crash_loop(palace: str) -> dict[str, object]:
    """The error for all pending requests while daemons keep dying as soon as they start."""
    return Busy(
        "the daemon of the palace dies again and again",
        hint=f"Try again; its log is {os.path.join(palace, LOG_FILE)}.",
        retry_after=10.0,
    ).as_dict()
