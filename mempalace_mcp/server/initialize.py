"""The handshake without the SDK, and the words of MCP that are needed where the SDK is not loaded.

Only a request that the SDK would surely accept is answered here; all others are left to the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mempalace_mcp import __version__

HANDSHAKE_REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""The revisions that begin with `initialize`, the oldest first."""

PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
"""The key in `_meta` that all requests of later revisions have."""

CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
"""The key in `_meta` under which clients of later revisions give their name."""

PROGRESS_TOKEN = "progressToken"
"""The key in `_meta` by which a client asks for reports of progress."""

CONNECTION_CLOSED = -32000
"""The code of the error that answers a request whose session has ended."""

RequestId = str | int

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"

ASSUMED_REVISION = "2025-06-18"
"""Of a client that goes on without a handshake: the oldest revision with structured content. Clients of later revisions
need that, and clients of earlier ones ignore it."""

_NEED_NO_HANDSHAKE = (INITIALIZE, "ping", "server/discover")

SERVER_NAME = "mempalace-mcp"
SERVER_TITLE = "MemPalace"

_FREE_CAPABILITIES = ("experimental", "extensions")
"""Objects of objects with any content."""

_SHAPED_CAPABILITIES = ("elicitation", "roots", "sampling", "tasks")
"""Objects of objects that hold nothing but flags named `listChanged`."""

_CLIENT_TEXTS = ("name", "version", "title", "description", "websiteUrl")


def revision_for(params: Mapping[str, Any] | None) -> str | None:
    """The revision to answer `initialize` with: the client's if it is known, else the latest. None if the SDK must
    verify the parameters."""
    params = params or {}
    requested = params.get("protocolVersion")
    if not isinstance(requested, str) or "_meta" in params:
        return None
    if not _is_valid_client(params.get("clientInfo")) or not _are_valid_capabilities(params.get("capabilities")):
        return None
    return requested if requested in HANDSHAKE_REVISIONS else HANDSHAKE_REVISIONS[-1]


def needs_handshake(content: Mapping[str, Any]) -> bool:
    """True if the request needs a handshake before it."""
    return content["method"] not in _NEED_NO_HANDSHAKE and not is_modern(content)


def is_modern(content: Mapping[str, Any]) -> bool:
    """True if the request is of a revision without a handshake: its `_meta` says what a handshake would."""
    meta = (content.get("params") or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION in meta


def assumed_handshake() -> dict[str, Mapping[str, Any]]:
    """The messages of a handshake with a client without capabilities, by their methods.

    Clients whose event stream was cut go on without another handshake, even if the server is a new process.
    """
    client = {"name": "unknown", "version": "unknown"}
    params = {"protocolVersion": ASSUMED_REVISION, "capabilities": {}, "clientInfo": client}
    return {
        INITIALIZE: {"jsonrpc": "2.0", "id": 0, "method": INITIALIZE, "params": params},
        INITIALIZED: {"jsonrpc": "2.0", "method": INITIALIZED},
    }


def initialize_result(revision: str, instructions: str, *, tools_change: bool) -> dict[str, Any]:
    """The result of `initialize`. With `tools_change` the client may be notified that the list of tools changed."""
    return {
        "protocolVersion": revision,
        "capabilities": {
            "completions": {},
            "prompts": {"listChanged": False},
            "resources": {"listChanged": True, "subscribe": True},
            "tools": {"listChanged": tools_change},
        },
        "serverInfo": {"name": SERVER_NAME, "title": SERVER_TITLE, "version": __version__},
        "instructions": instructions,
    }


def _is_valid_client(client: object) -> bool:
    if not isinstance(client, dict) or not {"name", "version"} <= client.keys() or "icons" in client:
        return False
    return all(isinstance(client[key], str) for key in _CLIENT_TEXTS if key in client)


def _are_valid_capabilities(capabilities: object) -> bool:
    if not isinstance(capabilities, dict):
        return False
    free = [capabilities[name] for name in _FREE_CAPABILITIES if name in capabilities]
    shaped = [capabilities[name] for name in _SHAPED_CAPABILITIES if name in capabilities]
    return all(map(_is_of_objects, free)) and all(map(_holds_only_flags, shaped))


def _is_of_objects(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _holds_only_flags(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, bool) if name == "listChanged" else _holds_only_flags(each) for name, each in value.items()
    )
