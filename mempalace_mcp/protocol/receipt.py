"""By which key a call is known when it is repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.receipt import IDEMPOTENCY_KEY, ReceiptKey
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.revisions import CLIENT_INFO

MAX_KEY_CHARACTERS = 128
CLIENT_SCOPE = "client"
"""Of the keys that clients choose: those of a token's bearers are apart from all others, and so are, without a token,
those of each client that can be told from others."""

_META_KEY = IDEMPOTENCY_KEY.removeprefix("_meta.")
_DIGEST_BYTES = 16


def receipt_key(
    origin: Origin, tool: str, arguments: Mapping[str, Any], meta: Mapping[str, object]
) -> ReceiptKey | None:
    """The key that the client gave with the call, else the one its door gave, else None.

    Raises:
        InvalidArgument: the client's key is not a text of 1 to 128 characters.
    """
    if _META_KEY in meta:
        return ReceiptKey(_scope(origin, meta), _verified(meta[_META_KEY]), _digest(tool, arguments))
    if origin.receipt_scope is not None and origin.sequence is not None:
        return ReceiptKey(origin.receipt_scope, str(origin.sequence), _digest(tool, arguments))
    return None


def _scope(origin: Origin, meta: Mapping[str, object]) -> str:
    """Whose key it is. A client is known by its token, else by the session that it names, else by its own name."""
    if origin.access.name:
        return f"{CLIENT_SCOPE} {origin.access.name}"
    if origin.session_id is not None:
        return f"{CLIENT_SCOPE} session {origin.session_id}"
    client = meta.get(CLIENT_INFO)
    name = client.get("name") if isinstance(client, dict) else None
    return CLIENT_SCOPE if not isinstance(name, str) else f"{CLIENT_SCOPE} name {_fingerprint(name)}"


def _verified(key: object) -> str:
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise InvalidArgument(
        f"{IDEMPOTENCY_KEY} must be a text of 1 to {MAX_KEY_CHARACTERS} characters",
        argument=IDEMPOTENCY_KEY,
        hint="Use a UUID for each call, the same one when the call is repeated, or leave it out. Nothing was done.",
    )


def _digest(tool: str, arguments: Mapping[str, Any]) -> bytes:
    """Equal for the same request, in whatever order its arguments come."""
    request = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"))
    return blake2b(request.encode("ascii"), digest_size=_DIGEST_BYTES).digest()


def _fingerprint(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
